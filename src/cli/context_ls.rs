//! `coracle context ls`: what a build can see of its context, and what the ignore file leaves out.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::report::Failure;
use super::request::{ContextLsRequest, DockerfileFrom, Listing, SourcesRequest};
use super::sources::{self, Sources};
use super::table::Table;
use super::{print, text};
use crate::build::Given;
use crate::context::{Context, ContextOptions, LeftOut, Survey, Surveyed};
use crate::fetch::GitDir;
use crate::input::ContextLocation;
use crate::net::Cancel;
use crate::progress::Silent;
use crate::store::Store;
use crate::tree::TreePath;

/// Folders in the table at the most: the largest ones.
const ROWS: usize = 30;

/// Lists the context.
pub(super) fn context_ls(request: &ContextLsRequest) -> Result<ExitCode, Failure> {
    with_context(request, &|context| {
        let survey = context.survey()?;
        let text = match request.listing {
            Listing::Json => {
                serde_json::to_string_pretty(&document(&request.sources, context, &survey)).expect("it serialises")
                    + "\n"
            }
            Listing::Folders => folders(context, &survey),
            Listing::Files => files(&survey.sent),
            Listing::Ignored => ignored(context, &survey.left_out),
        };
        print(&text)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the context as a build would, for `then`.
fn with_context(request: &ContextLsRequest, then: &dyn Fn(&Context) -> Result<(), Failure>) -> Result<(), Failure> {
    let sources = &request.sources;
    if let ContextLocation::Path(path) = &sources.context
        && !path.is_file()
    {
        // No store is needed for that.
        let folder = match sources.below.is_root() {
            true => path.clone(),
            false => path.join(sources.below.as_os_path()),
        };
        let context = Context::of_folder(&folder)?;
        return then(&ruled(context, sources)?);
    }
    let store = Store::open(request.root.as_ref().map_err(Clone::clone)?)?;
    let fetcher = sources::fetcher(sources, &store, &Given::default(), Cancel::default());
    let opener =
        Sources { request: sources, store: &store, fetcher: &fetcher, git_dir: GitDir::Dropped, sink: &Silent };
    let (context, _keeper) = opener.open()?.into_parts();
    then(&ruled(context, sources)?)
}

fn ruled(context: Context, sources: &SourcesRequest) -> Result<Context, Failure> {
    let file = match &sources.dockerfile {
        DockerfileFrom::File { path, written } => {
            Some(if context.is_folder() { path.as_path() } else { written.as_path() })
        }
        _ => None,
    };
    // A context can be looked at before there is a Dockerfile.
    let found = context.dockerfile(file).ok().map(|(path, _)| path);
    let options = ContextOptions { cache_dir: None, ignore_file: sources.ignore_file.clone() };
    Ok(context.with_rules(found.as_deref(), &options)?)
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    files: u64,
    bytes: u64,
}

/// Returns what is in each folder and below it.
fn sums(sent: &[Surveyed]) -> BTreeMap<TreePath, Sum> {
    let mut sums: BTreeMap<TreePath, Sum> = BTreeMap::new();
    sums.entry(TreePath::root()).or_default();
    for file in sent {
        if file.kind == "directory" {
            sums.entry(file.path.clone()).or_default();
            continue;
        }
        for folder in file.path.ancestors().chain([TreePath::root()]) {
            let sum = sums.entry(folder).or_default();
            sum.files += 1;
            sum.bytes += file.size;
        }
    }
    sums
}

fn total_left_out(left_out: &[LeftOut]) -> Sum {
    left_out
        .iter()
        .fold(Sum::default(), |sum, path| Sum { files: sum.files + path.files, bytes: sum.bytes + path.size })
}

fn folders(context: &Context, survey: &Survey) -> String {
    let sums = sums(&survey.sent);
    let mut rows: Vec<(&TreePath, &Sum)> = sums.iter().collect();
    rows.sort_by(|(a, first), (b, second)| second.bytes.cmp(&first.bytes).then(a.cmp(b)));
    let mut table = Table::new(["SIZE", "FILES", "FOLDER"]);
    for (path, sum) in rows.iter().take(ROWS) {
        table.row([text::size(sum.bytes), sum.files.to_string(), path.to_string()]);
    }
    let mut said = table.render();
    if rows.len() > ROWS {
        said.push_str(&format!("and {} smaller folders\n", rows.len() - ROWS));
    }
    let out = total_left_out(&survey.left_out);
    if let Some(file) = context.ignore_file() {
        said.push_str(&format!(
            "{} leaves out {} {}, {}: see --ignored\n",
            text::visible(&file.display().to_string()),
            out.files,
            if out.files == 1 { "file" } else { "files" },
            text::size(out.bytes)
        ));
    }
    said
}

fn files(sent: &[Surveyed]) -> String {
    let mut table = Table::new(["SIZE", "MODE", "PATH"]);
    for file in sent {
        let slash = if file.kind == "directory" { "/" } else { "" };
        let size = if file.kind == "file" { text::size(file.size) } else { file.kind.to_owned() };
        table.row([size, format!("{:04o}", file.mode), format!("{}{slash}", file.path)]);
    }
    table.render()
}

fn ignored(context: &Context, left_out: &[LeftOut]) -> String {
    let mut table = Table::new(["SIZE", "PATH", "BECAUSE OF", "RULE"]);
    let file = context.ignore_file().map(name_of).unwrap_or_default();
    for path in left_out {
        let slash = if path.is_dir { "/" } else { "" };
        let because = format!("{file}:{}", path.line);
        table.row([text::size(path.size), format!("{}{slash}", path.path), because, path.rule.clone()]);
    }
    table.render()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn document(request: &SourcesRequest, context: &Context, survey: &Survey) -> Value {
    let folders: Vec<Value> = sums(&survey.sent)
        .iter()
        .map(|(path, sum)| json!({"path": path.to_string(), "files": sum.files, "bytes": sum.bytes}))
        .collect();
    let sent: Vec<Value> = survey
        .sent
        .iter()
        .map(|file| {
            json!({
                "path": file.path.to_string(),
                "type": file.kind,
                "bytes": file.size,
                "mode": format!("{:04o}", file.mode),
            })
        })
        .collect();
    let file = context.ignore_file().map(|file| file.display().to_string());
    let ignored: Vec<Value> = survey
        .left_out
        .iter()
        .map(|path| {
            json!({
                "path": path.path.to_string(),
                "type": if path.is_dir { "directory" } else { "file" },
                "files": path.files,
                "bytes": path.size,
                "file": file,
                "line": path.line,
                "rule": path.rule,
            })
        })
        .collect();
    let (all, out) = (sums(&survey.sent)[&TreePath::root()], total_left_out(&survey.left_out));
    json!({
        "context": request.context.to_string(),
        "ignore_file": file,
        "sent": {"files": all.files, "bytes": all.bytes},
        "left_out": {"files": out.files, "bytes": out.bytes},
        "folders": folders,
        "files": sent,
        "ignored": ignored,
    })
}
