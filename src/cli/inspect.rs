//! `coracle inspect` and `history`: what an image says about itself.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::Document;
use super::report::Failure;
use super::request::{Form, HistoryRequest, InspectRequest};
use super::table::Table;
use super::{names, print, text};
use crate::store::Store;

/// Characters of a command in the table.
const SHORT: usize = 60;

/// Prints a document of the image as it is stored.
pub(super) fn inspect(request: &InspectRequest) -> Result<ExitCode, Failure> {
    let store = Store::open_read(&request.root)?;
    let image = names::find(&store, &request.name)?;
    let bytes = match request.document {
        Document::Config => &image.config_bytes,
        Document::Manifest => &image.manifest_bytes,
    };
    let value: Value = serde_json::from_slice(bytes).expect("checked when the image was read");
    let text = serde_json::to_string_pretty(&value).expect("JSON always serialises") + "\n";
    print(&text).map(|()| ExitCode::SUCCESS)
}

/// Lists the steps that made the image, the newest first.
pub(super) fn history(request: &HistoryRequest) -> Result<ExitCode, Failure> {
    let store = Store::open_read(&request.root)?;
    let image = names::find(&store, &request.name)?;
    let layers = image.layers();
    let mut layer = layers.iter();
    let (mut rows, mut list) = (Vec::new(), Vec::new());
    for step in &image.config.history {
        let own = if step.empty_layer { None } else { layer.next() };
        let created = step.created.clone().unwrap_or_default();
        let age = text::ago(&created, jiff::Timestamp::now());
        let by = step.created_by.clone().unwrap_or_default();
        let shown = if request.full || by.chars().count() <= SHORT {
            by.clone()
        } else {
            by.chars().take(SHORT - 1).chain(['…']).collect()
        };
        let digest = own.map_or_else(String::new, |layer| {
            let hex = layer.digest.hex();
            if request.full { hex } else { hex.chars().take(12).collect() }
        });
        let size = own.map_or_else(|| "0 B".into(), |layer| text::size(layer.size));
        rows.push([age, shown, size, digest, step.comment.clone().unwrap_or_default()]);
        list.push(json!({
            "created": step.created,
            "created_by": step.created_by,
            "comment": step.comment,
            "empty_layer": step.empty_layer,
            "size": own.map(|layer| layer.size),
            "digest": own.map(|layer| layer.digest),
        }));
    }
    let text = match request.form {
        Form::Json => {
            list.reverse();
            serde_json::to_string_pretty(&list).expect("strings and numbers always serialise") + "\n"
        }
        _ => {
            let mut table = Table::new(["CREATED", "CREATED BY", "SIZE", "LAYER", "COMMENT"]);
            rows.into_iter().rev().for_each(|row| table.row(row));
            table.render()
        }
    };
    print(&text).map(|()| ExitCode::SUCCESS)
}
