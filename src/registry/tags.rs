use serde::Deserialize;

use super::referrers::next_page;
use super::repository::Repository;
use super::{Client, RegistryError};
use crate::net::Method;
use crate::oci::Reference;

/// The most pages of the list that are read.
const MAX_PAGES: usize = 100;
/// Tags that are asked for at once: the registry may give fewer.
const PAGE: &str = "1000";
/// The most tags.
const MAX_TAGS: usize = 50_000;

#[derive(Deserialize)]
struct List {
    // Some say that there are none by saying nothing.
    tags: Option<Vec<String>>,
}

impl Client {
    /// Returns the name of each tag in the repository of `reference`, at the first of its places that has it.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub fn tags(&self, reference: &Reference) -> Result<Vec<Reference>, RegistryError> {
        let tags = self.each_place(reference, None, &|_, repository, _| repository.tags())?;
        let named = |tag: String| Reference::parse(&format!("{}:{tag}", reference.name())).ok();
        Ok(tags.into_iter().filter_map(named).collect())
    }
}

impl Repository {
    /// Returns all tags of the repository, each once, in the order of the registry.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] where there is no such repository; [`RegistryError::Protocol`] for a list without an end, or of what
    /// are no tags.
    pub fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let mut url = self.session.url("tags/list");
        url.query_pairs_mut().append_pair("n", PAGE);
        let (mut found, mut seen) = (Vec::new(), std::collections::HashSet::new());
        for _ in 0..MAX_PAGES {
            let request = self.session.request(Method::GET, url);
            let (headers, bytes) = self.read(&request, "the list of tags")?;
            let link = headers.get("link").and_then(|value| value.to_str().ok());
            let next = link.and_then(|link| next_page(link, request.url()));
            let list: Result<List, _> = serde_json::from_slice(&bytes);
            for tag in list.map_err(|_| self.odd("its list of tags is none"))?.tags.into_iter().flatten() {
                if Reference::parse(&format!("localhost/x:{tag}")).is_err() || tag.contains('@') {
                    return Err(self.odd("there is something else than a tag in its list of tags"));
                }
                if seen.insert(tag.clone()) {
                    found.push(tag);
                }
            }
            if found.len() > MAX_TAGS {
                return Err(self.odd("it has too many tags to take them all"));
            }
            match next {
                // What another host would list is not in this repository.
                Some(next) if next.origin() == self.session.base.origin() => url = next,
                _ => return Ok(found),
            }
        }
        Err(self.odd("its list of tags has no end"))
    }
}
