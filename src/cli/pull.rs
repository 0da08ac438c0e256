//! `coracle pull`: an image comes into the store.

use std::process::ExitCode;
use std::sync::Arc;

use coracle_runtime::container::Control;
use coracle_runtime::probe::Wanted;

use super::arriving::Arriving;
use super::classify::{BuildProblem, NoImage};
use super::progress::{Mode, Progress};
use super::registry::{LazyClient, Puller, Wants};
use super::report::{Failure, Style, chain};
use super::request::PullRequest;
use super::{names, print, work};
use crate::build::{BuildError, Builder, Isolation, OnFailure};
use crate::net::Cancel;
use crate::output::content::Selection;
use crate::output::{self, Location};
use crate::progress::{Event, Sink};
use crate::store::{Image, Store};

/// Copies the image into the store, names it, and unpacks its layers where that is possible.
pub(super) fn pull(request: &PullRequest, mode: Mode, style: Style) -> Result<ExitCode, Failure> {
    let progress = Arc::new(Progress::new(if request.quiet { Mode::Quiet } else { mode }, style));
    let result = run(request, &progress);
    progress.finish();
    result.and_then(|digest| print(&format!("{digest}\n"))).map(|()| ExitCode::SUCCESS)
}

fn run(request: &PullRequest, progress: &Arc<Progress>) -> Result<String, Failure> {
    let given = request.name.as_deref().map(names::normalise).transpose()?;
    let store = Store::open(&request.root)?;
    let sink = progress.as_ref();
    let control = Arc::new(Control::new());
    let cancel = Cancel::new({
        let control = Arc::clone(&control);
        move || control.cancelled()
    });
    let client = LazyClient::new(&request.registry, cancel);
    let arriving = Arriving::default();
    let (descriptor, name) = match &request.source {
        Location::Registry(_) => {
            let wants = match &request.selection {
                Selection::Platform(platform) => Wants::These(std::slice::from_ref(platform)),
                Selection::All => Wants::All,
            };
            let puller = Puller { arriving: &arriving, client: &client, store: &store, wants, sink };
            let found = puller.find(&request.written, request.policy)?;
            let found = found.ok_or_else(|| NoImage { name: request.written.clone() })?;
            (found.descriptor, Some(found.name.to_string()))
        }
        location => {
            let imported = output::import_for(location, &request.selection, &store, sink)?;
            (imported.descriptor, imported.name)
        }
    };
    let Some(name) = given.or(name) else {
        return Err(BuildProblem::NoName { place: request.source.to_string() }.into());
    };
    let (image, digest) = match &request.selection {
        Selection::Platform(platform) => {
            let image = store.image_for(&descriptor, platform)?;
            let digest = image.digest.to_string();
            (Some(image), digest)
        }
        // There may be none for this machine.
        Selection::All => (store.image(&descriptor).ok(), descriptor.digest().to_string()),
    };
    let on_enter = work::on_enter(&control, progress);
    let mut builder = Builder {
        store: &store,
        sink,
        control: &control,
        isolation: Isolation::Undecided(Wanted::Any),
        on_enter: &on_enter,
        remote: None,
        journal: Arc::default(),
        on_failure: OnFailure::Nothing,
        ship: None,
    };
    let arrived = arriving.bring(&mut builder, &client).map_err(|error| error.failure)?;
    if let Some(image) = &image {
        unpack(&mut builder, image)?;
    }
    arrived.name(&store)?;
    store.tag(std::slice::from_ref(&name), &descriptor)?;
    sink.emit(Event::Exported { what: name, digest: Some(digest.clone()) });
    Ok(digest)
}

/// Unpacked now, the first build need not; but a machine that cannot do it can still keep the image.
fn unpack(builder: &mut Builder<'_>, image: &Image) -> Result<(), Failure> {
    match builder.unpack(image) {
        Err(BuildError::Runtime(error)) => {
            let message = format!("the layers are not unpacked yet, the first build has to do it: {}", chain(&error));
            builder.sink.emit(Event::Warning { message, line: None });
        }
        other => other?,
    }
    Ok(())
}
