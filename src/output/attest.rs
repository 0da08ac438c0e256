//! Attestations: what is said about an image, stored beside it in an index as BuildKit does.

use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use super::OutputError;
use super::content::Content;
use crate::oci::{Digest, media_type};
use crate::store::{Image, Store, describe};

/// Something that is said about an image: the predicate of an in-toto statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Which version of statements it stands in.
    pub statement: &'static str,
    /// What the predicate is.
    pub kind: String,
    /// What is said.
    pub predicate: Value,
    /// The name of the file with it among the files of the image; `None` where it is not to be there.
    pub file: Option<String>,
}

/// The statements of in-toto, version 0.1.
pub const STATEMENT_V01: &str = "https://in-toto.io/Statement/v0.1";
/// The statements of in-toto, version 1.
pub const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";

/// All that is said about an image, as a manifest of its own. It is in the store.
#[derive(Debug, Clone)]
pub struct Attestation {
    /// Leads to the manifest, with the annotations that say what it is about.
    pub entry: Descriptor,
    manifest: Vec<u8>,
    config: Vec<u8>,
    blobs: Vec<(Digest, Descriptor)>,
}

impl Claim {
    /// Returns the statement: `names` are those of the image with the manifest `digest`.
    pub fn statement(&self, names: &[String], digest: &Digest) -> Vec<u8> {
        let subject = |name: &str| json!({"name": name, "digest": {"sha256": digest.hex()}});
        let mut subjects: Vec<Value> = names.iter().map(|name| subject(name)).collect();
        if subjects.is_empty() {
            subjects.push(subject("_"));
        }
        let statement = json!({
            "_type": self.statement,
            "predicateType": self.kind,
            "subject": subjects,
            "predicate": self.predicate,
        });
        serde_json::to_vec(&statement).expect("JSON values always serialise")
    }
}

/// Returns what `claims` say about `image`, which has these names. The same claims give the same bytes.
///
/// # Errors
/// [`OutputError`] where the store cannot be written.
pub fn attest(image: &Image, claims: &[Claim], names: &[String], store: &Store) -> Result<Attestation, OutputError> {
    let (mut layers, mut blobs) = (Vec::new(), Vec::new());
    for claim in claims {
        let bytes = claim.statement(names, &image.digest);
        let digest = store.put_blob(&bytes)?;
        let mut layer = describe(media_type::IN_TOTO, &digest, bytes.len() as u64);
        let annotations = [("in-toto.io/predicate-type".to_owned(), claim.kind.clone())];
        layer.set_annotations(Some(annotations.into()));
        layers.push(layer.clone());
        blobs.push((digest, layer));
    }
    let diff_ids: Vec<String> = blobs.iter().map(|(digest, _)| digest.to_string()).collect();
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = serde_json::to_vec(&config).expect("JSON values always serialise");
    let config_digest = store.put_blob(&config)?;
    let of_config = describe(media_type::CONFIG, &config_digest, config.len() as u64);
    blobs.push((config_digest, of_config.clone()));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": of_config,
        "layers": layers,
    });
    let manifest = serde_json::to_vec(&manifest).expect("JSON values always serialise");
    let digest = store.put_blob(&manifest)?;
    let mut entry = serde_json::to_value(describe(media_type::MANIFEST, &digest, manifest.len() as u64))
        .expect("descriptors always serialise");
    entry["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    entry["annotations"] = json!({
        "vnd.docker.reference.digest": image.digest.to_string(),
        "vnd.docker.reference.type": "attestation-manifest",
    });
    let entry = serde_json::from_value(entry).expect("a descriptor with more members");
    Ok(Attestation { entry, manifest, config, blobs })
}

impl Attestation {
    /// Adds all of it to the content of an index that names it.
    pub fn add_to(self, content: &mut Content) {
        // The last is the index.
        let last = content.documents.len().saturating_sub(1);
        content.documents.insert(last, (self.entry, self.manifest));
        content.configs.insert(Digest::of(&self.config), self.config);
        content.blobs.extend(self.blobs);
    }
}
