//! `coracle build --check` and `--call`: what is asked of a Dockerfile without building it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::PrintForm;
use super::findings::{self, Around, Checked};
use super::platforms::Graphs;
use super::report::{ExitStatus, Failure, Style};
use super::request::{BuildRequest, DockerfileFrom, Task};
use super::sources::{self, Sources};
use super::table::Table;
use super::text::visible;
use super::{build, names, plan, print};
use crate::build::Given;
use crate::context::Context;
use crate::dockerfile::{self, Dockerfile};
use crate::input::ContextLocation;
use crate::net::Cancel;
use crate::plan::check::{self, Outline, Stages, Target};
use crate::plan::{BaseImage, ImageUse};
use crate::progress::Silent;
use crate::source::{Diagnostic, Severity, Source, Span};
use crate::store::{Image, Store};

/// Does what is asked.
pub(super) fn call(request: &BuildRequest) -> Result<ExitCode, Failure> {
    let store = open_store(request)?;
    let fetcher = sources::fetcher(&request.sources, &store, &Given::default(), Cancel::default());
    let git_dir = build::keeps_git_dir(request);
    let opener = Sources { request: &request.sources, store: &store, fetcher: &fetcher, git_dir, sink: &Silent };
    let (main, source) = opener.main()?;
    let parsed = dockerfile::parse(&source);
    let file = match (&request.task, parsed) {
        (Task::Check(form), Err(errors)) => return Err(bad_file(&source, &errors, *form, request.style)?),
        (_, parsed) => parsed.map_err(|errors| build::rendered(&errors, &source, request.style))?,
    };
    match request.task {
        Task::Check(form) => {
            let (context, _keeper) = main.with_rules(&store, request.sources.ignore_file.clone())?;
            check(request, &store, (&source, &file), &context, form)
        }
        Task::Targets(form) => print_targets(&source, &file, form),
        Task::Outline(form) => {
            let failed = |errors: Vec<Diagnostic>| build::rendered(&errors, &source, request.style);
            let mut graphs = Graphs::new(&file, request).map_err(failed)?;
            let bases = known_bases(&mut graphs, &store).map_err(failed)?;
            let config = |name: &str| bases.get(name).map(|base| base.config.clone());
            print_outline(&source, &check::outline(&source, graphs.first(), &config), form)
        }
        Task::Build | Task::Plan { .. } => plan::plan(request, &opener, main, (&source, &file)),
    }
}

/// Returns the base images that the store has, and takes in their triggers.
///
/// # Errors
/// A trigger makes no sense.
fn known_bases(graphs: &mut Graphs<'_>, store: &Store) -> Result<BTreeMap<String, BaseImage>, Vec<Diagnostic>> {
    let mut bases = BTreeMap::new();
    let mut missing = BTreeSet::new();
    loop {
        let more = graphs.take_triggers(&bases)?;
        let before = bases.len() + missing.len();
        for used in more {
            match image(&used, store) {
                Some(image) => drop(bases.insert(used.key, BaseImage { config: image.config.clone() })),
                None => drop(missing.insert(used.key)),
            }
        }
        if bases.len() + missing.len() == before {
            return Ok(bases);
        }
    }
}

/// Returns an image that the store has. One that cannot be read is for the build to complain about.
pub(super) fn image(used: &ImageUse, store: &Store) -> Option<Image> {
    let name = names::normalise(&used.name).ok()?;
    let descriptor = store.find(&name).ok().flatten()?;
    store.image_for(&descriptor, &used.platform).ok()
}

/// Opens the store. For a context that is a folder it need not be there, and is not made.
fn open_store(request: &BuildRequest) -> Result<Store, Failure> {
    let sources = &request.sources;
    let is_here = matches!(&sources.context, ContextLocation::Path(path) if !path.is_file())
        && !matches!(sources.dockerfile, DockerfileFrom::Url(_));
    Ok(if is_here { Store::open_read(&request.root)? } else { Store::open(&request.root)? })
}

fn check(
    request: &BuildRequest,
    store: &Store,
    (source, file): (&Source, &Dockerfile),
    context: &Context,
    form: PrintForm,
) -> Result<ExitCode, Failure> {
    let looked = || -> Result<Checked, Vec<Diagnostic>> {
        let mut graphs = Graphs::new(file, request)?;
        let bases = known_bases(&mut graphs, store)?;
        let mut images = graphs.each().iter().flat_map(|graph| graph.images());
        let lowered = if images.all(|used| bases.contains_key(&used.key)) {
            graphs.lower(&bases)?.1
        } else {
            // Without the images nobody knows what a variable of theirs becomes.
            vec![Vec::new(); graphs.each().len()]
        };
        let stages = if request.target.is_none() { Stages::All } else { Stages::Needed };
        let around = Around { bases: &bases, context: Some(context), build_args: &request.build_args };
        findings::look_at_each(source, file, &graphs, stages, &around, lowered).map_err(|error| vec![error])
    };
    let checked = match looked() {
        Ok(checked) => checked,
        Err(errors) => return Err(bad_file(source, &errors, form, request.style)?),
    };
    let found = checked.kept.iter().filter(|one| one.rule.is_some()).count();
    let text = match form {
        PrintForm::Json => document(&check_json(source, &checked.kept, &checked.unseen, None)),
        PrintForm::Text => {
            let style = request.output_style == Style::Colour;
            let shown = checked.kept.iter().map(|one| one.render(source, style) + "\n\n");
            let mut text: String = shown.collect();
            for name in &checked.unseen {
                text += &format!("note: {} is not in the store, so variables on it are not checked\n", visible(name));
            }
            text + &match found {
                0 => "no check found anything\n".to_owned(),
                1 => "1 finding\n".to_owned(),
                more => format!("{more} findings\n"),
            }
        }
    };
    print(&text)?;
    // As docker buildx: whoever asks for the checks alone wants to know.
    let status = if found > 0 { ExitStatus::Failed } else { ExitStatus::Done };
    Ok(status.into())
}

/// Returns how it ends where the file cannot be read. In JSON that is part of the document.
fn bad_file(source: &Source, errors: &[Diagnostic], form: PrintForm, style: Style) -> Result<Failure, Failure> {
    if form == PrintForm::Text {
        return Ok(build::rendered(errors, source, style));
    }
    print(&document(&check_json(source, &[], &[], errors.first())))?;
    Ok(Failure::silent(ExitStatus::Input))
}

fn document(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("values always serialise") + "\n"
}

/// The shape is that of docker buildx, as far as it goes.
fn check_json(source: &Source, kept: &[Diagnostic], unseen: &[String], error: Option<&Diagnostic>) -> Value {
    let about = |rule: Option<&str>| rule.and_then(check::rule).map(|rule| rule.about);
    let warnings: Vec<Value> = kept
        .iter()
        .map(|one| {
            json!({
                "ruleName": one.rule,
                "description": about(one.rule),
                "detail": one.message,
                "hint": one.hint,
                "location": one.span.map(|span| location(source, span)),
            })
        })
        .collect();
    let mut value = json!({
        "warnings": warnings,
        "sources": [{ "filename": source.name(), "language": "Dockerfile" }],
        "unseenImages": unseen,
    });
    if let Some(error) = error.filter(|error| error.severity == Severity::Error) {
        let place = error.span.map(|span| location(source, span));
        value["buildError"] = json!({ "message": error.message, "location": place });
    }
    value
}

/// Lines count from 1, characters (bytes) from 0.
fn location(source: &Source, span: Span) -> Value {
    let position = |at: usize| {
        let line = source.line_of(at);
        let start = source.text()[..at.min(source.text().len())].rfind('\n').map_or(0, |end| end + 1);
        json!({ "line": line, "character": at.saturating_sub(start) })
    };
    json!({ "ranges": [{ "start": position(span.start), "end": position(span.end) }] })
}

fn print_targets(source: &Source, file: &Dockerfile, form: PrintForm) -> Result<ExitCode, Failure> {
    let targets = check::targets(source, file);
    let text = match form {
        PrintForm::Json => {
            let target = |target: &Target| {
                json!({
                    "name": target.name,
                    "default": target.is_default,
                    "description": target.description,
                    "base": target.base,
                    "platform": target.platform,
                    "location": location(source, target.span),
                })
            };
            document(&json!({ "targets": targets.iter().map(target).collect::<Vec<_>>() }))
        }
        PrintForm::Text => {
            let mut table = Table::new(["TARGET", "BASE", "DESCRIPTION"]);
            for target in &targets {
                // Only a stage that has a name can be asked for; the default is built without asking.
                let name = match (&target.name, target.is_default) {
                    (Some(name), false) => name.clone(),
                    (Some(name), true) => format!("{name} (default)"),
                    (None, true) => "(default)".into(),
                    (None, false) => continue,
                };
                table.row([name.as_str(), &target.base, target.description.as_deref().unwrap_or_default()]);
            }
            table.render()
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn print_outline(source: &Source, outline: &Outline, form: PrintForm) -> Result<ExitCode, Failure> {
    let text = match form {
        PrintForm::Json => {
            let secrets = |list: &[check::SecretOutline]| -> Vec<Value> {
                let one = |one: &check::SecretOutline| json!({ "name": one.id, "required": one.required, "location": location(source, one.span) });
                list.iter().map(one).collect()
            };
            let arg = |arg: &check::ArgOutline| {
                json!({
                    "name": arg.name,
                    "description": arg.description,
                    "value": arg.value,
                    "location": location(source, arg.span),
                })
            };
            let cache =
                |cache: &check::CacheOutline| json!({ "ID": cache.id, "location": location(source, cache.span) });
            document(&json!({
                "name": outline.name,
                "description": outline.description,
                "args": outline.args.iter().map(arg).collect::<Vec<_>>(),
                "secrets": secrets(&outline.secrets),
                "ssh": secrets(&outline.ssh),
                "cache": outline.caches.iter().map(cache).collect::<Vec<_>>(),
            }))
        }
        PrintForm::Text => outline_text(outline),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn outline_text(outline: &Outline) -> String {
    let mut parts = vec![format!("TARGET:      {}\n", visible(outline.name.as_deref().unwrap_or("(default)")))];
    if let Some(description) = &outline.description {
        parts[0] += &format!("DESCRIPTION: {}\n", visible(description));
    }
    if !outline.args.is_empty() {
        let mut table = Table::new(["BUILD ARG", "VALUE", "DESCRIPTION"]);
        for arg in &outline.args {
            let (value, description) = (arg.value.as_deref(), arg.description.as_deref());
            table.row([arg.name.as_str(), value.unwrap_or_default(), description.unwrap_or_default()]);
        }
        parts.push(table.render());
    }
    for (head, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !list.is_empty() {
            let mut table = Table::new([head, "REQUIRED"]);
            list.iter().for_each(|one| table.row([one.id.as_str(), if one.required { "true" } else { "" }]));
            parts.push(table.render());
        }
    }
    if !outline.caches.is_empty() {
        let mut table = Table::new(["CACHE"]);
        outline.caches.iter().for_each(|cache| table.row([cache.id.as_str()]));
        parts.push(table.render());
    }
    parts.join("\n")
}
