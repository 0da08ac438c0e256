//! Uploads to the addresses that the service gives: blobs of Azure's storage.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Actions;
use crate::net::{Body, Method, Request, Url};
use crate::output::cache::depot::{Depot, DepotError, PART, Piece};
use crate::output::content::each_of;

/// The most blocks that a blob may have.
const MOST_BLOCKS: u64 = 50_000;

impl Actions {
    fn put_blob<'a>(&self, url: Url) -> Request<'a> {
        Request::new(Method::PUT, url).security(Arc::clone(&self.security)).without_redirects()
    }

    /// Sends bytes as a whole blob.
    pub(super) fn upload_bytes(&self, url: Url, bytes: &[u8]) -> Result<(), DepotError> {
        let request = self.put_blob(url).header("x-ms-blob-type", "BlockBlob").body(Body::Bytes(bytes));
        self.success(self.agent.send(request)?).map(drop)
    }

    /// Sends a blob: at once, or in blocks.
    pub(super) fn upload(&self, url: Url, piece: &Piece<'_>) -> Result<(), DepotError> {
        if piece.size <= PART {
            let open = || piece.part(0, piece.size);
            let body = Body::Stream { length: piece.size, open: &open };
            let request = self.put_blob(url).header("x-ms-blob-type", "BlockBlob").body(body);
            return self.success(self.agent.send(request)?).map(drop);
        }
        // The ids of the blocks of one blob are of one length.
        let id = |number: usize| STANDARD.encode(format!("{number:08}"));
        let blocks: Vec<(usize, (u64, u64))> = piece.parts(MOST_BLOCKS).into_iter().enumerate().collect();
        each_of(&blocks, self.width(), &|(number, (offset, length)): &(usize, (u64, u64))| {
            let open = || piece.part(*offset, *length);
            let url = with(&url, &[("comp", "block"), ("blockid", &id(*number))]);
            let request = self.put_blob(url).body(Body::Stream { length: *length, open: &open });
            self.success(self.agent.send(request)?).map(drop)
        })?;
        let list: String = blocks.iter().map(|(number, _)| format!("<Latest>{}</Latest>", id(*number))).collect();
        let list = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{list}</BlockList>");
        let request = self.put_blob(with(&url, &[("comp", "blocklist")])).body(Body::Bytes(list.as_bytes()));
        self.success(self.agent.send(request)?).map(drop)
    }
}

/// Returns a URL with more in its query. What is there is signed, and stays as it is written.
fn with(url: &Url, more: &[(&str, &str)]) -> Url {
    let mut query = url.query().unwrap_or_default().to_owned();
    for (name, value) in more {
        let value: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let join = if query.is_empty() { "" } else { "&" };
        query.push_str(&format!("{join}{name}={value}"));
    }
    let mut url = url.clone();
    url.set_query(Some(&query));
    url
}
