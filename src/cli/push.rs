//! `coracle push`: an image goes out of the store.

use std::path::Path;
use std::process::ExitCode;

use super::args::{Look, is_stdout};
use super::classify::NoImage;
use super::named::{check_whole, in_store};
use super::progress::{Mode, Progress};
use super::registry::{Joined, LazyClient, WithCaches, push, push_content};
use super::report::{Failure, Style};
use super::request::PushRequest;
use super::result::write_file;
use super::{dress, platforms, print};
use crate::net::Cancel;
use crate::oci::{Platform, Reference, media_type};
use crate::output::Location;
use crate::output::content::{Content, Destination, InStore, Origin, Selection, write};
use crate::progress::{Event, Sink};
use crate::store::{ImageLayer, Store};

/// Writes the image to its destination.
pub(super) fn run(request: &PushRequest, mode: Mode, style: Style) -> Result<ExitCode, Failure> {
    // What is made anew on the way is kept: the next push has it at once.
    let changes = request.look != Look::default();
    let store = if changes { Store::open(&request.root)? } else { Store::open_read(&request.root)? };
    let names = match request.all_tags {
        true => tags(&store, &request.name)?,
        false => vec![request.name.clone()],
    };
    let progress = Progress::new(if request.quiet { Mode::Quiet } else { mode }, style);
    let client = LazyClient::new(&request.registry, Cancel::default());
    let push = |name: &String| push_one(request, name, &store, &client, &progress);
    let result: Result<Vec<String>, Failure> = names.iter().map(push).collect();
    progress.finish();
    let digests = result?.join("\n");
    if let Some(file) = &request.digest_file {
        write_file(file, digests.as_bytes())?;
    }
    let is_taken = request.destination.as_ref().and_then(Location::path).is_some_and(is_stdout);
    if is_taken { Ok(()) } else { print(&format!("{digests}\n")) }.map(|()| ExitCode::SUCCESS)
}

/// Returns the names that the store has in the repository `name`.
fn tags(store: &Store, name: &str) -> Result<Vec<String>, Failure> {
    let repository = Reference::parse(name)?.name();
    let of_it = |name: &String| {
        Reference::parse(name)
            .is_ok_and(|own| own.name() == repository && own.tag().is_some() && own.digest().is_none())
    };
    let names: Vec<String> = store.images()?.into_iter().map(|image| image.name).filter(of_it).collect();
    if names.is_empty() { Err(NoImage { name: name.into() }.into()) } else { Ok(names) }
}

fn push_one(
    request: &PushRequest,
    name: &str,
    store: &Store,
    client: &LazyClient<'_>,
    sink: &dyn Sink,
) -> Result<String, Failure> {
    let image = in_store(store, name)?;
    let destination = match &request.destination {
        Some(destination) => destination.clone(),
        None => Location::Registry(Reference::parse(name)?),
    };
    match request.selection {
        Some(Selection::All) => all(request, image, client, &destination, sink),
        None if is_one_with_more(request, &image, &destination)? => all(request, image, client, &destination, sink),
        _ => one(request, &image, client, &destination, sink),
    }
}

/// Returns whether this is an index of one image and what is said about it, all of it here and to go out as it is: nobody would miss
/// a word of it before it is gone.
fn is_one_with_more(request: &PushRequest, image: &InStore<'_>, to: &Location) -> Result<bool, Failure> {
    let is_index = media_type::is_index(image.top.media_type().as_ref());
    if !is_index || request.look != Look::default() || matches!(to, Location::DockerArchive { .. }) {
        return Ok(false);
    }
    Ok(platforms::of_origin(image)?.len() == 1 && check_whole(image).is_ok())
}

/// Writes the image for one platform.
fn one(
    request: &PushRequest,
    image: &InStore<'_>,
    client: &LazyClient<'_>,
    destination: &Location,
    sink: &dyn Sink,
) -> Result<String, Failure> {
    let platform = match &request.selection {
        Some(Selection::Platform(platform)) => platform.clone(),
        _ => Platform::host(),
    };
    let chosen = image.store.image_for(&image.top, &platform)?;
    let content = match request.look == Look::default() {
        true => Content::of_image(&chosen),
        false => Content::of_image(&dress::as_pushed(&chosen, &request.look, image.store)?),
    };
    if request.selection.is_none() && chosen.digest.to_string() != image.top.digest().to_string() {
        let known = platforms::of_origin(image)?;
        if known.len() > 1 {
            let own = &chosen.config.platform;
            let known = platforms::listed(&known);
            let message = format!("only the image for {own} goes out; --all takes all of them: {known}");
            sink.emit(Event::Warning { message, line: None });
        }
    }
    match destination {
        Location::Registry(name) => {
            let missing = |layer: &ImageLayer<'_>| !image.store.has_blob(&layer.digest);
            if request.look == Look::default() && chosen.layers().iter().any(missing) {
                // They stayed in a registry.
                let stored = InStore { top: chosen.descriptor(), ..image.clone() };
                push_content(&content, &Joined::new(stored, client)?, image.store, client.get()?, name, sink)?;
            } else {
                let from = WithCaches { store: image.store, caches: None };
                push(&content, &from, client.get()?, std::slice::from_ref(name), sink)?;
            }
        }
        location => place(&content, image, (location, &image.store.tmp()), image.name.as_ref(), sink)?,
    }
    Ok(content.digest().to_string())
}

/// Writes the index and all its images.
fn all(
    request: &PushRequest,
    image: InStore<'_>,
    client: &LazyClient<'_>,
    destination: &Location,
    sink: &dyn Sink,
) -> Result<String, Failure> {
    check_whole(&image)?;
    let (store, name) = (image.store, image.name.clone());
    let origin = Joined::new(image, client)?;
    let content = Content::gather(&origin, &origin.top()?, &Selection::All)?;
    if request.look.compression.is_some() {
        // Layers that are to be compressed anew must be here, also those that a list left in registries.
        write(&content, &origin, Destination::Store(store), &[], sink)?;
    }
    let content = dress::all_as_pushed(content, &request.look, store)?;
    match destination {
        Location::Registry(name) => push_content(&content, &origin, store, client.get()?, name, sink)?,
        location => place(&content, &origin, (location, &store.tmp()), name.as_ref(), sink)?,
    }
    Ok(content.digest().to_string())
}

fn place(
    content: &Content,
    from: &dyn Origin,
    (location, scratch): (&Location, &Path),
    name: Option<&String>,
    sink: &dyn Sink,
) -> Result<(), Failure> {
    let to = Destination::Place { location, scratch };
    // An image that was found by its digest has no name to go by.
    let names: Vec<String> = name.into_iter().cloned().collect();
    Ok(write(content, from, to, &names, sink)?)
}
