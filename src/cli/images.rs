//! `coracle images`, `tag` and `rmi`: names in the store.

use std::process::ExitCode;

use serde_json::json;

use super::report::Failure;
use super::request::{Form, ImagesRequest, RmiRequest, TagRequest};
use super::table::Table;
use super::{names, print, text};
use crate::oci::Reference;
use crate::store::Store;

/// Lists the images that have a name.
pub(super) fn images(request: &ImagesRequest) -> Result<ExitCode, Failure> {
    let store = Store::open(&request.root)?;
    let mut table = Table::new(["NAME", "DIGEST", "CREATED", "SIZE"]);
    let (mut list, mut ids) = (Vec::new(), Vec::new());
    for tagged in store.images()? {
        let image = store.image(&tagged.descriptor)?;
        let size: u64 = image.layers().iter().map(|layer| layer.size).sum();
        let familiar = Reference::parse(&tagged.name).map_or_else(|_| tagged.name.clone(), |name| name.familiar());
        let created = image.config.created.clone().unwrap_or_default();
        let short: String = image.digest.hex().chars().take(12).collect();
        let age = text::ago(&created, jiff::Timestamp::now());
        table.row([familiar, short, age, text::size(size)]);
        ids.push(image.digest.to_string());
        list.push(json!({
            "name": tagged.name,
            "digest": image.digest,
            "config": image.config_digest(),
            "platform": image.config.platform.to_string(),
            "created": image.config.created,
            "size": size,
        }));
    }
    ids.dedup();
    let text = match request.form {
        Form::Table => table.render(),
        Form::Ids => ids.iter().map(|id| format!("{id}\n")).collect(),
        Form::Json => serde_json::to_string_pretty(&list).expect("strings and numbers always serialise") + "\n",
    };
    print(&text).map(|()| ExitCode::SUCCESS)
}

/// Gives an image one more name.
pub(super) fn tag(request: &TagRequest) -> Result<ExitCode, Failure> {
    let new = names::normalised(std::slice::from_ref(&request.new))?;
    let store = Store::open(&request.root)?;
    let image = names::find(&store, &request.name)?;
    store.tag(&new, &image.descriptor())?;
    Ok(ExitCode::SUCCESS)
}

/// Removes names: all of them, or none.
pub(super) fn rmi(request: &RmiRequest) -> Result<ExitCode, Failure> {
    let store = Store::open(&request.root)?;
    let mut full = Vec::new();
    for name in &request.names {
        let image = names::find(&store, name)?;
        match names::normalise(name) {
            Ok(name) if store.find(&name)?.is_some() => full.push(name),
            // By digest: every name that it has.
            _ => full.extend(
                store
                    .images()?
                    .into_iter()
                    .filter(|tagged| {
                        crate::oci::digest_of(&tagged.descriptor).is_ok_and(|digest| digest == image.digest)
                    })
                    .map(|tagged| tagged.name),
            ),
        }
    }
    for name in &full {
        store.untag(name)?;
        print(&format!("{name}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
