//! What attestations say about an image, read where the image is.

use std::io::Read;

use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use crate::oci::{Digest, Parts, digest_of, media_type};
use crate::output::OutputError;
use crate::output::content::{Origin, read_document};

/// Bytes of one statement at the most.
const LARGEST: u64 = 64 << 20;

/// Returns the statements in the attestations that these entries of an index lead to. Those that are not here are left out: of an index
/// perhaps only the image for one platform was pulled.
pub(super) fn statements(origin: &dyn Origin, entries: &[Value]) -> Result<Vec<Value>, OutputError> {
    let mut statements = Vec::new();
    for entry in entries {
        let Ok(descriptor) = serde_json::from_value::<Descriptor>(entry.clone()) else { continue };
        let what = format!("attestation {}", descriptor.digest());
        let Ok(bytes) = read_document(origin, &descriptor, &what) else { continue };
        let parts = Parts::parse(&bytes, Some(descriptor.media_type().as_ref()), &what)?;
        for layer in parts.layers.iter().filter(|layer| layer.media_type().as_ref() == media_type::IN_TOTO) {
            statements.extend(statement(origin, layer)?);
        }
    }
    Ok(statements)
}

/// Reads a statement, verified; `None` where it is no JSON.
fn statement(origin: &dyn Origin, layer: &Descriptor) -> Result<Option<Value>, OutputError> {
    let digest = digest_of(layer)?;
    let (reader, length) = origin.blob(layer)?;
    let mut bytes = Vec::new();
    let lost = |source| OutputError::Read { what: origin.blob_name(&digest), source };
    reader.take(LARGEST).read_to_end(&mut bytes).map_err(lost)?;
    let found = Digest::of(&bytes);
    if (found, length) != (digest, layer.size()) {
        return Err(origin.wrong((digest, layer.size()), (found, length)));
    }
    Ok(serde_json::from_slice(&bytes).ok())
}

/// Returns the predicates of this kind: one of them as the member `name` of an object, several in a list there; null where there is none.
pub(super) fn member(statements: &[Value], kind: &str, name: &str) -> Value {
    let is_one = |statement: &&Value| statement["predicateType"].as_str().is_some_and(|found| found.starts_with(kind));
    let mut found: Vec<Value> = statements.iter().filter(is_one).map(|one| one["predicate"].clone()).collect();
    match found.len() {
        0 => Value::Null,
        1 => json!({name: found.remove(0)}),
        _ => json!({name: found}),
    }
}
