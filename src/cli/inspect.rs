//! `coracle inspect` and `history`: what an image says about itself.

use std::process::ExitCode;

use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use super::args::{Document, Named};
use super::attested;
use super::classify::ImageProblem;
use super::named::Opened;
use super::registry::LazyClient;
use super::report::Failure;
use super::request::{Form, HistoryRequest, InspectRequest};
use super::table::Table;
use super::{names, print, text};
use crate::net::Cancel;
use crate::oci::{Reference, digest_of, media_type, select};
use crate::output::OutputError;
use crate::output::content::{Origin, Top, read_document};
use crate::store::{Image, Store};

/// Characters of a command in the table.
const SHORT: usize = 60;

/// Prints a document of the image.
pub(super) fn inspect(request: &InspectRequest) -> Result<ExitCode, Failure> {
    let store = Store::open_read(&request.root)?;
    let client = LazyClient::new(&request.registry, Cancel::default());
    let opened = Opened::new(&request.name, &store, &request.temp, &client)?;
    let origin = opened.origin()?;
    let top = origin.top()?;
    let names = match &request.name {
        Named::Store(_) => all_names(&store, &top)?,
        Named::Place(_) => top.names.clone(),
    };
    let document = match (request.document, request.raw, &request.template) {
        (Some(document), ..) => document,
        (None, true, _) if top.starts.iter().any(|start| media_type::is_index(start.media_type().as_ref())) => {
            Document::Index
        }
        (None, true, _) => Document::Manifest,
        (None, false, Some(_)) => Document::Image,
        (None, false, None) => Document::Config,
    };
    let origin = origin.as_ref();
    let bytes = match document {
        Document::Index => match top.starts.iter().find(|start| media_type::is_index(start.media_type().as_ref())) {
            Some(index) => read_document(origin, index, &format!("index {}", index.digest()))?,
            None => return Err(ImageProblem::NoIndex { image: origin.place() }.into()),
        },
        Document::Config => image(request, origin, &top)?.config_bytes,
        Document::Manifest => image(request, origin, &top)?.manifest_bytes,
        Document::Referrers => referrers(&opened)?,
        Document::Image => {
            let image = image(request, origin, &top)?;
            serde_json::to_vec(&summary(&image, origin, &top, &names)?).expect("JSON always serialises")
        }
    };
    if request.raw {
        return print_bytes(&bytes);
    }
    let value: Value = serde_json::from_slice(&bytes).expect("checked when the image was read");
    let text = match &request.template {
        Some(template) => template.render(&value)?,
        None => serde_json::to_string_pretty(&value).expect("JSON always serialises"),
    };
    print(&(text + "\n")).map(|()| ExitCode::SUCCESS)
}

/// Returns an index of what refers to the image or index in its registry.
fn referrers(opened: &Opened<'_>) -> Result<Vec<u8>, Failure> {
    let Opened::Remote(remote, _) = opened else {
        return Err(ImageProblem::NoReferrers.into());
    };
    let list = remote.repository.referrers(&remote.root.digest, None).map_err(OutputError::from)?;
    let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": list});
    Ok(serde_json::to_vec(&index).expect("descriptors always serialise"))
}

/// What is raw has no line feed behind it: its digest is that of the image.
fn print_bytes(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let text = String::from_utf8_lossy(bytes);
    print(&text).map(|()| ExitCode::SUCCESS)
}

fn image(request: &InspectRequest, origin: &dyn Origin, top: &Top) -> Result<Image, OutputError> {
    let mut fetch = |descriptor: &Descriptor, what: &str| read_document(origin, descriptor, what);
    Ok(select(&top.starts, &request.platform, &origin.place(), &mut fetch)?.into())
}

/// Returns the names that lead to the same image or index.
fn all_names(store: &Store, top: &Top) -> Result<Vec<String>, Failure> {
    let same = |digest: &Descriptor| top.starts.iter().any(|start| start.digest() == digest.digest());
    Ok(store.images()?.into_iter().filter(|tagged| same(&tagged.descriptor)).map(|tagged| tagged.name).collect())
}

/// What is known about an image in one document, with docker's words.
fn summary(image: &Image, origin: &dyn Origin, top: &Top, names: &[String]) -> Result<Value, Failure> {
    let config: Value = serde_json::from_slice(&image.config_bytes).expect("checked when the image was read");
    let manifest: Value = serde_json::from_slice(&image.manifest_bytes).expect("checked when the image was read");
    let mut platforms = Vec::new();
    let (mut index_digest, mut attestations) = (None, Vec::new());
    for start in top.starts.iter().filter(|start| media_type::is_index(start.media_type().as_ref())) {
        let bytes = read_document(origin, start, &format!("index {}", start.digest()))?;
        let index: Value = serde_json::from_slice(&bytes).expect("checked when the image was read");
        for entry in index["manifests"].as_array().into_iter().flatten() {
            let about = &entry["annotations"]["vnd.docker.reference.digest"];
            let shown =
                json!({"Digest": entry["digest"], "Platform": entry["platform"], "Annotations": entry["annotations"]});
            match entry["annotations"]["vnd.docker.reference.type"] == "attestation-manifest" {
                true if *about == json!(image.digest) => attestations.push(entry.clone()),
                true => {}
                false => platforms.push(shown),
            }
        }
        index_digest = Some(digest_of(start).map_err(OutputError::from)?);
    }
    let shown = index_digest.unwrap_or(image.digest);
    let statements = attested::statements(origin, &attestations)?;
    let references: Vec<Reference> = names.iter().filter_map(|name| Reference::parse(name).ok()).collect();
    let mut digests: Vec<String> = references.iter().map(|name| format!("{}@{shown}", name.name())).collect();
    digests.dedup();
    let layers = image.layers();
    let layers = layers.iter().map(|layer| {
        json!({"Digest": layer.digest, "DiffId": layer.diff_id, "Size": layer.size,
               "MediaType": layer.descriptor.media_type().to_string()})
    });
    Ok(json!({
        "Id": image.config_digest(),
        "Digest": shown,
        "ManifestDigest": image.digest,
        "MediaType": image.media_type,
        "RepoTags": references.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Created": config["created"],
        "Author": config["author"],
        "Architecture": config["architecture"],
        "Os": config["os"],
        "Variant": config["variant"],
        "OsVersion": config["os.version"],
        "Size": image.layers().iter().map(|layer| layer.size).sum::<u64>(),
        "Config": config["config"],
        "RootFS": {"Type": config["rootfs"]["type"], "Layers": config["rootfs"]["diff_ids"]},
        "Layers": layers.collect::<Vec<_>>(),
        "History": config["history"],
        "Annotations": manifest["annotations"],
        "Platforms": platforms,
        "Attestations": attestations.iter().map(|entry| entry["digest"].clone()).collect::<Vec<_>>(),
        // With the members that docker's `imagetools inspect` has.
        "Provenance": attested::member(&statements, "https://slsa.dev/provenance/", "SLSA"),
        "SBOM": attested::member(&statements, "https://spdx.dev/Document", "SPDX"),
    }))
}

/// Lists the steps that made the image, the newest first.
pub(super) fn history(request: &HistoryRequest) -> Result<ExitCode, Failure> {
    let store = Store::open_read(&request.root)?;
    let image = store.image_for(&names::descriptor(&store, &request.name)?, &request.platform)?;
    let layers = image.layers();
    let mut layer = layers.iter();
    let (mut rows, mut list, mut fields) = (Vec::new(), Vec::new(), Vec::new());
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
        let comment = step.comment.clone().unwrap_or_default();
        fields.push(json!({
            "ID": own.map(|layer| layer.digest.to_string()), "Created": created, "CreatedAt": created,
            "CreatedSince": age, "CreatedBy": by, "Size": size, "Comment": comment,
        }));
        rows.push([age, shown, size, digest, comment]);
        list.push(json!({
            "created": step.created,
            "created_by": step.created_by,
            "comment": step.comment,
            "empty_layer": step.empty_layer,
            "size": own.map(|layer| layer.size),
            "digest": own.map(|layer| layer.digest),
        }));
    }
    let text = match &request.form {
        Form::Json => {
            list.reverse();
            serde_json::to_string_pretty(&list).expect("strings and numbers always serialise") + "\n"
        }
        Form::Ids => layers.iter().rev().map(|layer| format!("{}\n", layer.digest)).collect(),
        Form::Template(template) => {
            let mut text = String::new();
            for step in fields.iter().rev() {
                text += &template.render(step)?;
                text.push('\n');
            }
            text
        }
        Form::TemplateTable(template) => {
            let lines = fields.iter().rev().map(|step| template.render(step)).collect::<Result<Vec<_>, _>>()?;
            super::table::Table::of_lines(std::iter::once(template.head()).chain(lines)).render()
        }
        Form::Table => {
            let mut table = Table::new(["CREATED", "CREATED BY", "SIZE", "LAYER", "COMMENT"]);
            rows.into_iter().rev().for_each(|row| table.row(row));
            table.render()
        }
    };
    print(&text).map(|()| ExitCode::SUCCESS)
}
