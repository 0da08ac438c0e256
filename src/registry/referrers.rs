use std::collections::HashMap;
use std::time::Duration;

use oci_spec::image::{Descriptor, DescriptorBuilder, MediaType, Sha256Digest};
use serde::Deserialize;

use super::RegistryError;
use super::repository::Repository;
use super::session::Access;
use crate::net::{Method, Url};
use crate::oci::{Digest, MAX_DOCUMENT, digest_of, media_type};

/// The most pages of a list that are read.
const MAX_PAGES: usize = 100;
/// The most that may refer to one image.
const MAX_REFERRERS: usize = 10_000;
/// The most bytes of a list, all pages together.
const MAX_BYTES: u64 = 32 << 20;
/// How often a list is written that others write too.
const MAX_TURNS: u32 = 8;
/// The longest pause before the second time; before each more, so much longer.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

impl Repository {
    /// Returns what in the repository refers to the manifest `subject`: signatures, lists of contents and the like; of one type
    /// only, if that is given. A registry that does not know the question is asked for the tag under which clients keep a list.
    ///
    /// # Errors
    /// [`RegistryError`]; that there is nothing is none. [`RegistryError::Protocol`] for a list without an end.
    pub fn referrers(&self, subject: &Digest, kind: Option<&str>) -> Result<Vec<Descriptor>, RegistryError> {
        let mut url = self.session.url(&format!("referrers/{subject}"));
        if let Some(kind) = kind {
            url.query_pairs_mut().append_pair("artifactType", kind);
        }
        let mut found = Vec::new();
        let mut next = Some(url);
        let (mut pages, mut bytes) = (0, 0);
        while let Some(url) = next.take() {
            let request = self.session.request(Method::GET, url).header("Accept", media_type::INDEX);
            let response = self.session.send(&request, &Access::Pull)?;
            // Some know nothing of it, and say so in one of these ways.
            if pages == 0 && matches!(response.status(), 400 | 404 | 405) {
                found = self.kept_by_tag(subject)?;
                break;
            }
            let response = self.checked(response, &format!("the list of what refers to {subject}"))?;
            pages += 1;
            let link = response.header("link").and_then(|link| next_page(link, response.url()));
            next = link.filter(|url| url.origin() == self.session.base.origin());
            let page = response.bytes(MAX_DOCUMENT)?;
            bytes += page.len() as u64;
            if bytes > MAX_BYTES || (next.is_some() && pages >= MAX_PAGES) {
                return Err(self.odd(&format!("its list of what refers to {subject} has no end")));
            }
            found.extend(self.list(&page)?);
            if found.len() > MAX_REFERRERS {
                return Err(self.odd(&format!("it has too much that refers to {subject} to take it all")));
            }
        }
        if let Some(kind) = kind {
            found.retain(|descriptor| descriptor.artifact_type().as_ref().is_some_and(|own| own.as_ref() == kind));
        }
        Ok(found)
    }

    /// Notes that the manifest `descriptor` refers to `subject`, in the list that clients keep where the registry keeps none.
    ///
    /// A tag has no lock: of two who write at the same time one may replace what the other wrote. So the list is read once more, until
    /// ours is in it. Who writes between that and the end of the other's writing can still be lost; nothing that a registry offers
    /// prevents it.
    pub(super) fn note_by_tag(&self, subject: &Digest, descriptor: Descriptor) -> Result<(), RegistryError> {
        for turn in 0..MAX_TURNS {
            let mut list = self.kept_by_tag(subject)?;
            if list.iter().any(|known| known.digest() == descriptor.digest()) {
                return Ok(());
            }
            if turn > 0 {
                // The other one, which read what we wrote in vain, comes now; not both at the same moment again.
                self.session.agent.wait(PAUSE.mul_f64(f64::from(turn) * fastrand::f64()))?;
                list = self.kept_by_tag(subject)?;
            }
            list.push(descriptor.clone());
            let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": list});
            let bytes = serde_json::to_vec(&index).expect("descriptors always serialise");
            self.put_manifest(&tag_of(subject), media_type::INDEX, &bytes)?;
        }
        let list = self.kept_by_tag(subject)?;
        match list.iter().any(|known| known.digest() == descriptor.digest()) {
            true => Ok(()),
            false => Err(self.odd(&format!("others always replace the list of what refers to {subject}"))),
        }
    }

    /// The list that clients keep where the registry keeps none (distribution-spec, "Referrers Tag Schema").
    fn kept_by_tag(&self, subject: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        match self.manifest(&tag_of(subject)) {
            Ok(fetched) => self.list(&fetched.bytes),
            Err(RegistryError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn list(&self, bytes: &[u8]) -> Result<Vec<Descriptor>, RegistryError> {
        let list: Result<List, _> = serde_json::from_slice(bytes);
        Ok(list.map_err(|_| self.odd("its list of what refers to an image is no index"))?.manifests)
    }
}

/// The tag of that list.
fn tag_of(subject: &Digest) -> String {
    subject.to_string().replace(':', "-")
}

/// What a manifest says about what it refers to.
#[derive(Deserialize)]
struct Referring {
    subject: Option<Descriptor>,
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    annotations: Option<HashMap<String, String>>,
}

/// Returns what the manifest `bytes` refers to, and how it appears in a list of what does so; `None` where it refers to nothing.
pub(super) fn referring(kind: &str, bytes: &[u8]) -> Option<(Digest, Descriptor)> {
    let manifest: Referring = serde_json::from_slice(bytes).ok()?;
    let subject = digest_of(manifest.subject.as_ref()?).ok()?;
    // An image says by its configuration what it is.
    let own = manifest.artifact_type.or_else(|| Some(manifest.config?.media_type().to_string()));
    let digest: Sha256Digest = Digest::of(bytes).hex().parse().expect("64 hexadecimal digits");
    let descriptor = DescriptorBuilder::default().media_type(MediaType::from(kind)).digest(digest);
    let mut descriptor = descriptor.size(bytes.len() as u64).build().expect("all that a descriptor needs");
    descriptor.set_artifact_type(own.map(|own| MediaType::from(own.as_str())));
    descriptor.set_annotations(manifest.annotations);
    Some((subject, descriptor))
}

/// Returns the URL of the next page: `<URL>; rel="next"`.
pub(super) fn next_page(link: &str, from: &Url) -> Option<Url> {
    let (url, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next = rest.split(';').any(|part| part.trim().replace('"', "") == "rel=next");
    if next { from.join(url).ok() } else { None }
}
