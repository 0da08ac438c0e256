//! `coracle diff`: in what two images differ.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use super::args::Named;
use super::named::Opened;
use super::registry::LazyClient;
use super::report::Failure;
use super::request::DiffRequest;
use super::{print, text};
use crate::net::Cancel;
use crate::oci::{Platform, select};
use crate::output::OutputError;
use crate::output::content::{Origin, read_document};
use crate::output::difference::{Changed, Difference, difference};
use crate::store::{Image, Store};

/// Characters of a value that are shown.
const SHORT: usize = 200;

/// Says in what two images differ.
pub(super) fn diff(request: &DiffRequest) -> Result<ExitCode, Failure> {
    let store = Store::open_read(&request.root)?;
    let client = LazyClient::new(&request.registry, Cancel::default());
    let open = |named: &Named| Opened::new(named, &store, Path::new(&request.temp), &client);
    let (first, second) = (open(&request.first)?, open(&request.second)?);
    let (first, second) = (first.origin()?, second.origin()?);
    let one = image(first.as_ref(), &request.platform)?;
    let two = image(second.as_ref(), &request.platform)?;
    let found = difference((&one, first.as_ref()), (&two, second.as_ref()))?;
    let text = if request.json {
        serde_json::to_string_pretty(&found).expect("texts and numbers always serialise") + "\n"
    } else {
        words(&found)
    };
    print(&text).map(|()| ExitCode::SUCCESS)
}

fn image(origin: &dyn Origin, platform: &Platform) -> Result<Image, OutputError> {
    let mut fetch = |descriptor: &_, what: &str| read_document(origin, descriptor, what);
    Ok(select(&origin.top()?.starts, platform, &origin.place(), &mut fetch)?.into())
}

fn words(found: &Difference) -> String {
    let mut text = String::new();
    for field in &found.config {
        let value = |value: &Value| match value {
            Value::Null => "-".to_owned(),
            value => text::cut(&text::visible(&value.to_string()), SHORT),
        };
        let _ = writeln!(text, "config {}: {} → {}", text::visible(&field.field), value(&field.from), value(&field.to));
    }
    let line = |text: &mut String, sign: char, file: &Changed| {
        let size = match (file.from_size, file.to_size) {
            (Some(from), Some(to)) if from != to => format!("{} → {}", text::size(from), text::size(to)),
            (_, Some(size)) | (Some(size), None) => text::size(size),
            (None, None) => file.kind.to_owned(),
        };
        let what = if file.what.is_empty() { String::new() } else { format!(": {}", file.what.join(", ")) };
        let _ = writeln!(text, "{sign} {} ({size}){what}", text::visible(&file.path));
    };
    found.added.iter().for_each(|file| line(&mut text, '+', file));
    found.removed.iter().for_each(|file| line(&mut text, '-', file));
    found.changed.iter().for_each(|file| line(&mut text, '~', file));
    text
}
