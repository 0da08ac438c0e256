//! `coracle pull`: an image comes into the store.

use std::process::ExitCode;
use std::sync::Arc;

use coracle_runtime::container::Control;
use coracle_runtime::probe::Wanted;
use oci_spec::image::Descriptor;

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
    let mut wanted: Vec<(Descriptor, String)> = match &request.source {
        Location::Registry(_) => {
            let wants = match &request.selection {
                Selection::Platform(platform) => Wants::These(std::slice::from_ref(platform)),
                Selection::All => Wants::All,
            };
            let puller = Puller { arriving: &arriving, client: &client, store: &store, wants, sink };
            let found = match request.all_tags {
                true => puller.find_tags(&request.written, request.policy)?,
                false => puller.find(&request.written, request.policy)?.into_iter().collect(),
            };
            found.into_iter().map(|found| (found.descriptor, found.name.to_string())).collect()
        }
        location => {
            let imported = output::import_for(location, &request.selection, &store, sink)?;
            let name = given.clone().or(imported.name);
            let no_name = || BuildProblem::NoName { place: request.source.to_string() };
            vec![(imported.descriptor, name.ok_or_else(no_name)?)]
        }
    };
    if wanted.is_empty() {
        return Err(NoImage { name: request.written.clone() }.into());
    }
    if let (Some(given), [(_, name)]) = (given, &mut wanted[..]) {
        *name = given;
    }
    let mut images = Vec::new();
    for (descriptor, name) in wanted {
        let (image, digest) = match &request.selection {
            Selection::Platform(platform) => {
                let image = store.image_for(&descriptor, platform)?;
                let digest = image.digest.to_string();
                (Some(image), digest)
            }
            // There may be none for this machine.
            Selection::All => (store.image(&descriptor).ok(), descriptor.digest().to_string()),
        };
        images.push(Pulled { name, descriptor, image, digest });
    }
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
    for image in images.iter().filter_map(|pulled| pulled.image.as_ref()) {
        unpack(&mut builder, image)?;
    }
    arrived.name(&store)?;
    let mut digests = Vec::new();
    for Pulled { name, descriptor, digest, .. } in images {
        store.tag(std::slice::from_ref(&name), &descriptor)?;
        sink.emit(Event::Exported { what: name, digest: Some(digest.clone()) });
        digests.push(digest);
    }
    Ok(digests.join("\n"))
}

/// An image that is named when it is there.
struct Pulled {
    name: String,
    descriptor: Descriptor,
    image: Option<Image>,
    digest: String,
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
