//! `coracle push`: an image goes out of the store.

use std::process::ExitCode;

use super::progress::{Mode, Progress};
use super::report::{Failure, Style};
use super::request::PushRequest;
use super::{names, print};
use crate::output;
use crate::store::Store;

/// Writes the image to its destination.
pub(super) fn push(request: &PushRequest, mode: Mode, style: Style) -> Result<ExitCode, Failure> {
    let store = Store::open_read(&request.root)?;
    let image = names::find(&store, &request.name)?;
    // An image that was found by its digest has no name to go by.
    let name: Vec<String> = match names::normalise(&request.name) {
        Ok(full) if store.find(&full)?.is_some() => vec![full],
        _ => Vec::new(),
    };
    let progress = Progress::new(mode, style);
    let result = output::export(&image, &store, &request.destination, &name, &progress);
    progress.finish();
    result?;
    print(&format!("{}\n", image.digest)).map(|()| ExitCode::SUCCESS)
}
