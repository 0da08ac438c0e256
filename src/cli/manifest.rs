//! `coracle manifest`: lists of images for several platforms.
//!
//! A list is an index in the store, with a name as an image has one. Each change makes a new one and moves the name.

use std::process::ExitCode;

use oci_spec::image::Descriptor;
use serde_json::Value;

use super::args::Named;
use super::classify::{FileLost, ImageProblem, NoImage};
use super::named::{Opened, check_whole};
use super::progress::{Mode, Progress};
use super::registry::{Joined, LazyClient, push_content};
use super::report::{ExitStatus, Failure, Style};
use super::request::{ManifestAct, ManifestRequest, member_platform};
use super::{names, print};
use crate::net::Cancel;
use crate::oci::{MAX_DOCUMENT, digest_of, media_type};
use crate::output::Location;
use crate::output::content::{Content, Destination, Form, InStore, Origin, Selection, convert, read_document, write};
use crate::output::index::{Details, List};
use crate::progress::Sink;
use crate::store::Store;

/// Does what is asked for with a list.
pub(super) fn manifest(request: &ManifestRequest, mode: Mode, style: Style) -> Result<ExitCode, Failure> {
    let progress = Progress::new(mode, style);
    let result = act(request, &progress);
    progress.finish();
    match result? {
        Said::Text(text) => print(&text).map(|()| ExitCode::SUCCESS),
        Said::Nothing(status) => Ok(status.into()),
    }
}

/// What a verb ends with.
pub(super) enum Said {
    Text(String),
    Nothing(ExitStatus),
}

fn act(request: &ManifestRequest, sink: &dyn Sink) -> Result<Said, Failure> {
    match &request.act {
        ManifestAct::Inspect { list } => inspect(request, list),
        ManifestAct::Exists { list } => {
            let store = Store::open_read(&request.root)?;
            let is_there = find(&store, list).is_ok();
            Ok(Said::Nothing(if is_there { ExitStatus::Done } else { ExitStatus::Failed }))
        }
        ManifestAct::Push { list, destination, remove, form, digestfile } => {
            let store = Store::open(&request.root)?;
            let digest = push(request, &store, (list, destination.as_ref(), *form), sink)?;
            if let Some(file) = digestfile {
                let lost = |source| FileLost { call: "write", path: file.display().to_string(), source };
                std::fs::write(file, &digest).map_err(lost)?;
            }
            if *remove {
                store.untag(&names::normalise(list)?)?;
            }
            Ok(Said::Text(format!("{digest}\n")))
        }
        ManifestAct::Rm { lists } => {
            let store = Store::open(&request.root)?;
            let found: Vec<String> =
                lists.iter().map(|list| Ok(find(&store, list)?.0)).collect::<Result<_, Failure>>()?;
            for name in &found {
                store.untag(name)?;
            }
            Ok(Said::Text(found.iter().map(|name| format!("{name}\n")).collect()))
        }
        ManifestAct::Create { list, images, amend, all, annotations } => {
            let store = Store::open(&request.root)?;
            let name = names::normalise(list)?;
            let before = || match (store.find(&name)?, amend) {
                (None, _) => Ok(List::new()),
                (Some(_), true) => Ok(find(&store, list)?.1),
                (Some(_), false) => Err(Failure::from(ImageProblem::ListExists { name: name.clone() })),
            };
            before()?;
            let details = Details::default();
            let members = members(request, &store, images, (*all, &details), sink)?;
            let _turn = store.turn_at_lists()?;
            let mut made = before()?;
            members.iter().try_for_each(|member| made.add(member, &details))?;
            made.annotate_index(annotations);
            save(&store, &name, &made)
        }
        ManifestAct::Add { list, images, all, details } => {
            let store = Store::open(&request.root)?;
            find(&store, list)?;
            let members = members(request, &store, images, (*all, details), sink)?;
            change(request, list, &mut |_, made| Ok(members.iter().try_for_each(|member| made.add(member, details))?))
        }
        ManifestAct::Annotate { list, image: None, details } => change(request, list, &mut |_, made| {
            made.annotate_index(&details.annotations);
            Ok(())
        }),
        ManifestAct::Annotate { list, image: Some(image), details } => change(request, list, &mut |store, made| {
            // A name of the store means the digest that it leads to.
            let digest = match names::descriptor(store, image) {
                Ok(descriptor) => descriptor.digest().to_string(),
                Err(_) => image.clone(),
            };
            Ok(made.annotate(&digest, details)?)
        }),
        ManifestAct::Remove { list, digests } => {
            change(request, list, &mut |_, made| digests.iter().try_for_each(|digest| Ok(made.remove(digest)?)))
        }
    }
}

/// Changes a list while nobody else does.
fn change(
    request: &ManifestRequest,
    list: &str,
    change: &mut dyn FnMut(&Store, &mut List) -> Result<(), Failure>,
) -> Result<Said, Failure> {
    let store = Store::open(&request.root)?;
    let _turn = store.turn_at_lists()?;
    let (name, mut made) = find(&store, list)?;
    change(&store, &mut made)?;
    save(&store, &name, &made)
}

/// Gives the list its name, in place of what that was before.
pub(super) fn save(store: &Store, name: &str, list: &List) -> Result<Said, Failure> {
    let (top, bytes) = list.finish();
    store.put_blob(&bytes)?;
    store.tag(&[name.to_owned()], &top)?;
    Ok(Said::Text(format!("{}\n", top.digest())))
}

/// Returns the name in full and the list that it leads to.
pub(super) fn find(store: &Store, list: &str) -> Result<(String, List), Failure> {
    let name = names::normalise(list)?;
    let Some(descriptor) = store.find(&name)? else { return Err(NoImage { name: list.into() }.into()) };
    if !media_type::is_index(descriptor.media_type().as_ref()) {
        return Err(ImageProblem::NoIndex { image: name }.into());
    }
    let bytes = store.read_blob(&digest_of(&descriptor).map_err(crate::output::OutputError::from)?, MAX_DOCUMENT)?;
    Ok((name, List::parse(&bytes)?))
}

/// Brings images into the store, where they are not there yet, and returns what is to be added: of an index, the image for the
/// platform that the details say, or all. That may take its time, so nobody need wait for it to change a list.
fn members(
    request: &ManifestRequest,
    store: &Store,
    images: &[Named],
    (all, details): (bool, &Details),
    sink: &dyn Sink,
) -> Result<Vec<Descriptor>, Failure> {
    let client = LazyClient::new(&request.registry, Cancel::default());
    let mut members = Vec::new();
    for image in images {
        let opened = Opened::new(image, store, &store.tmp(), &client)?;
        let origin = opened.origin()?;
        let selection = if all { Selection::All } else { Selection::Platform(member_platform(details)) };
        let top = origin.top()?;
        let content = Content::gather(origin.as_ref(), &top, &selection)?;
        opened.keep(&content, origin.as_ref(), store, sink)?;
        if !content.is_index() {
            members.push(content.top);
            continue;
        }
        let (_, bytes) = content.documents.last().expect("there is always one");
        let entries = List::parse(bytes)?;
        let entries = entries.entries().iter().cloned();
        members.extend(entries.map(|entry| serde_json::from_value(entry).expect("checked when it was read")));
    }
    Ok(members)
}

fn inspect(request: &ManifestRequest, list: &Named) -> Result<Said, Failure> {
    let store = Store::open_read(&request.root)?;
    let client = LazyClient::new(&request.registry, Cancel::default());
    let opened = Opened::new(list, &store, &request.temp, &client)?;
    let origin = opened.origin()?;
    let top = origin.top()?;
    let Some(index) = top.starts.iter().find(|start| media_type::is_index(start.media_type().as_ref())) else {
        return Err(ImageProblem::NoIndex { image: origin.place() }.into());
    };
    let bytes = read_document(origin.as_ref(), index, &format!("index {}", index.digest()))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| ImageProblem::NoIndex { image: origin.place() })?;
    Ok(Said::Text(serde_json::to_string_pretty(&value).expect("JSON always serialises") + "\n"))
}

/// Writes the list with all its images to its destination, and returns the digest that it has there.
fn push(
    request: &ManifestRequest,
    store: &Store,
    (list, destination, form): (&str, Option<&Location>, Option<Form>),
    sink: &dyn Sink,
) -> Result<String, Failure> {
    let (name, made) = find(store, list)?;
    made.check()?;
    let top = store.find(&name)?.ok_or_else(|| NoImage { name: list.into() })?;
    let client = LazyClient::new(&request.registry, Cancel::default());
    let stored = InStore { store, top, name: Some(name.clone()) };
    check_whole(&stored)?;
    let origin = Joined::new(stored, &client)?;
    let mut content = Content::gather(&origin, &origin.top()?, &Selection::All)?;
    if let Some(form) = form {
        content = convert(content, form)?;
    }
    let location = match destination {
        Some(location) => location.clone(),
        None => Location::Registry(name.parse()?),
    };
    if let Location::Registry(target) = &location {
        push_content(&content, &origin, store, client.get()?, target, sink)?;
        return Ok(content.digest().to_string());
    }
    let to = Destination::Place { location: &location, scratch: &request.temp };
    write(&content, &origin, to, &[name], sink)?;
    Ok(content.digest().to_string())
}
