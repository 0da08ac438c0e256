use std::collections::HashMap;

use oci_spec::image::Descriptor;
use serde_json::Value;

use super::Content;
use crate::oci::{Digest, Parts, digest_of, media_type};
use crate::output::OutputError;

/// The form of manifests and indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// That of OCI.
    Oci,
    /// Docker's, schema 2.
    Docker,
}

/// Media types that mean the same: of OCI, and of docker.
const PAIRS: [(&str, &str); 6] = [
    (media_type::MANIFEST, media_type::DOCKER_MANIFEST),
    (media_type::INDEX, media_type::DOCKER_INDEX),
    (media_type::CONFIG, media_type::DOCKER_CONFIG),
    (media_type::LAYER_GZIP, media_type::DOCKER_LAYER_GZIP),
    (media_type::LAYER, media_type::DOCKER_LAYER),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", media_type::DOCKER_LAYER_FOREIGN),
];

const FOREIGN_ZSTD: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";

impl Form {
    /// Returns the media type that says in this form what `kind` says; `None` where it has no such thing.
    fn of(self, kind: &str) -> Option<&str> {
        let pair = PAIRS.iter().find(|(oci, docker)| *oci == kind || *docker == kind);
        match (self, pair) {
            (Form::Oci, Some((oci, _))) => Some(oci),
            (Form::Docker, Some((_, docker))) => Some(docker),
            // An attestation looks as an image does, and its layers are statements.
            (Form::Oci, None) if kind == media_type::IN_TOTO => Some(media_type::IN_TOTO),
            (Form::Oci, None) if kind == media_type::DOCKER_LAYER_ZSTD => Some(media_type::LAYER_ZSTD),
            // What docker has no word for stays what it is in OCI.
            (Form::Oci, None) if kind == media_type::LAYER_ZSTD || kind.starts_with(media_type::LAYER_FOREIGN) => {
                [media_type::LAYER_ZSTD, media_type::LAYER_FOREIGN, FOREIGN_ZSTD]
                    .into_iter()
                    .find(|known| *known == kind)
            }
            _ => None,
        }
    }
}

/// Returns `content` with its manifests and indexes in `form`. Blobs stay as they are. What is in that form already is not
/// touched, so that its digest stays.
///
/// # Errors
/// [`OutputError::NoForm`] for what the form does not have: zstd layers and artifacts in docker's.
pub fn convert(content: Content, form: Form) -> Result<Content, OutputError> {
    let mut renamed: HashMap<Digest, (Digest, u64, String)> = HashMap::new();
    let Content { top: old_top, documents, configs, blobs } = content;
    let mut converted = Content { top: old_top.clone(), documents: Vec::new(), configs, blobs };
    for (descriptor, bytes) in documents {
        let digest = digest_of(&descriptor)?;
        let what = format!("manifest {digest}");
        let parts = Parts::parse(&bytes, Some(descriptor.media_type().as_ref()), &what)?;
        let of = |kind: &str| form.of(kind).map(str::to_owned).ok_or_else(|| no_form(&what, kind));
        // An artifact has no other form: in OCI it stays what it is.
        let is_artifact = parts.children.is_none() && !parts.is_image();
        if is_artifact && form == Form::Oci {
            converted.documents.push((descriptor, bytes));
            continue;
        }
        let mut document: Value = serde_json::from_slice(&bytes).expect("parsed just now");
        let kind = of(&parts.media_type)?;
        let mut changed = kind != parts.media_type;
        if changed || document.get("mediaType").is_none() && form == Form::Docker {
            document["mediaType"] = kind.clone().into();
            changed = true;
        }
        if let Some(config) = document.get_mut("config") {
            changed |= retype(config, &of)?;
        }
        for layer in document.get_mut("layers").and_then(Value::as_array_mut).into_iter().flatten() {
            changed |= retype(layer, &of)?;
        }
        for entry in document.get_mut("manifests").and_then(Value::as_array_mut).into_iter().flatten() {
            let old: Option<Digest> = entry.get("digest").and_then(Value::as_str).and_then(|text| text.parse().ok());
            if let Some((new, size, kind)) = old.and_then(|old| renamed.get(&old)) {
                entry["digest"] = new.to_string().into();
                entry["size"] = (*size).into();
                entry["mediaType"] = kind.clone().into();
                changed = true;
            }
        }
        if !changed {
            converted.documents.push((descriptor, bytes));
            continue;
        }
        let bytes = serde_json::to_vec(&document).expect("JSON values always serialise");
        let (new, size) = (Digest::of(&bytes), bytes.len() as u64);
        let mut entry = serde_json::to_value(&descriptor).expect("descriptors always serialise");
        entry["digest"] = new.to_string().into();
        entry["size"] = size.into();
        entry["mediaType"] = kind.clone().into();
        let entry: Descriptor = serde_json::from_value(entry).expect("a descriptor as before");
        renamed.insert(digest, (new, size, kind));
        converted.documents.push((entry, bytes));
    }
    let (top, _) = converted.documents.last().expect("there is always one");
    let platform = old_top.platform().clone();
    converted.top = top.clone();
    converted.top.set_platform(platform);
    for blob in converted.blobs.values_mut() {
        let kind = form.of(blob.media_type().as_ref()).map(str::to_owned);
        if let Some(kind) = kind {
            blob.set_media_type(kind.as_str().into());
        }
    }
    Ok(converted)
}

/// Changes the media type of a descriptor, and returns whether it was another.
fn retype(descriptor: &mut Value, of: &dyn Fn(&str) -> Result<String, OutputError>) -> Result<bool, OutputError> {
    let old = descriptor.get("mediaType").and_then(Value::as_str).unwrap_or_default().to_owned();
    let new = of(&old)?;
    let changed = new != old;
    descriptor["mediaType"] = new.into();
    Ok(changed)
}

fn no_form(what: &str, kind: &str) -> OutputError {
    OutputError::NoForm { what: what.into(), kind: kind.chars().take(100).collect() }
}
