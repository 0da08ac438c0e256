//! `coracle push`: an image goes out of the store.

use std::process::ExitCode;

use super::progress::{Mode, Progress};
use super::registry::{LazyClient, push as push_to};
use super::report::{Failure, Style};
use super::request::PushRequest;
use super::result::write_file;
use super::{names, print};
use crate::net::Cancel;
use crate::oci::Reference;
use crate::output::content::Content;
use crate::output::{self, Location};
use crate::store::Store;

/// Writes the image to its destination.
pub(super) fn push(request: &PushRequest, mode: Mode, style: Style) -> Result<ExitCode, Failure> {
    let store = Store::open_read(&request.root)?;
    let image = names::find(&store, &request.name)?;
    let destination = match &request.destination {
        Some(destination) => destination.clone(),
        None => Location::Registry(Reference::parse(&request.name)?),
    };
    let progress = Progress::new(if request.quiet { Mode::Quiet } else { mode }, style);
    let result = match &destination {
        Location::Registry(name) => {
            let client = LazyClient::new(&request.registry, Cancel::default());
            client.get().and_then(|client| {
                push_to(&Content::of_image(&image), &store, client, std::slice::from_ref(name), &progress)
            })
        }
        location => {
            // An image that was found by its digest has no name to go by.
            let name: Vec<String> = match names::normalise(&request.name) {
                Ok(full) if store.find(&full)?.is_some() => vec![full],
                _ => Vec::new(),
            };
            output::export(&image, &store, location, &name, &progress).map(drop).map_err(Failure::from)
        }
    };
    progress.finish();
    result?;
    let digest = image.digest.to_string();
    if let Some(file) = &request.digest_file {
        write_file(file, digest.as_bytes())?;
    }
    print(&format!("{digest}\n")).map(|()| ExitCode::SUCCESS)
}
