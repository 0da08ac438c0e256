//! `coracle build --manifest`: what was built, in a list of the store.

use oci_spec::image::Descriptor;

use super::classify::ImageProblem;
use super::manifest::{find, save};
use super::names;
use super::report::Failure;
use crate::output::content::Content;
use crate::output::index::List;
use crate::store::Store;

/// Checks, before anything is done, that an image can be added to the list `name`: it is one, or there is nothing of this name.
pub(super) fn check(store: &Store, name: &str, tags: &[String]) -> Result<(), Failure> {
    let full = names::normalise(name)?;
    if tags.contains(&full) {
        return Err(ImageProblem::ListIsTag { name: full }.into());
    }
    match store.find(&full)? {
        Some(_) => find(store, name).map(drop),
        None => Ok(()),
    }
}

/// Adds the image, or each of several, to the list `name`, which is made where there is none: each takes the place of one for its
/// platform.
pub(super) fn add(store: &Store, name: &str, content: &Content) -> Result<(), Failure> {
    let _turn = store.turn_at_lists()?;
    let full = names::normalise(name)?;
    let mut list = match store.find(&full)? {
        Some(_) => find(store, name)?.1,
        None => List::new(),
    };
    let members: Vec<Descriptor> = match content.is_index() {
        false => vec![content.top.clone()],
        true => {
            let (_, bytes) = content.documents.last().expect("that of the index");
            let entries = List::parse(bytes)?;
            let read = |entry| serde_json::from_value(entry).expect("made just now");
            entries.entries().iter().cloned().map(read).collect()
        }
    };
    for member in &members {
        list.put(member)?;
    }
    save(store, &full, &list).map(drop)
}
