use std::sync::Mutex;

use super::S3;
use crate::net::{Body, Method, NetError, Response};
use crate::output::cache::depot::{Depot, DepotError, PART, Piece, Said, element};
use crate::output::content::each_of;

/// The most parts that an object may be sent in.
const MOST_PARTS: u64 = 10_000;
/// Bytes of an answer that are read: it names the upload.
const ANSWER: u64 = 1 << 20;

impl S3 {
    /// Sends a blob: at once, or in parts.
    pub(super) fn upload(&self, piece: &Piece<'_>) -> Result<(), DepotError> {
        let key = self.blob_key(&piece.digest);
        if piece.size <= PART {
            return self.send(&key, &[], (piece, 0, piece.size)).map(drop);
        }
        let begun = self.agent.send(self.request(Method::POST, &key, &[("uploads", "")], &[]).repeatable())?;
        let begun = text(self.success(begun)?)?;
        let odd = |reason: &str| DepotError::Odd { place: self.place(), reason: reason.into() };
        let id = element(&begun, "UploadId").ok_or_else(|| odd("it begins an upload and gives it no name"))?;
        let result = self.in_parts(&key, &id, piece);
        if result.is_err() {
            // Parts that nobody completes cost money. What went wrong is told in any case.
            let end = self.request(Method::DELETE, &key, &[("uploadId", &id)], &[]).once();
            let _ = self.agent.send(end);
        }
        result
    }

    fn in_parts(&self, key: &str, id: &str, piece: &Piece<'_>) -> Result<(), DepotError> {
        let parts: Vec<_> = (1..).zip(piece.parts(MOST_PARTS)).collect();
        let tags: Mutex<Vec<(u32, String)>> = Mutex::default();
        each_of(&parts, self.parallel, &|(number, (offset, length)): &(u32, (u64, u64))| {
            let query = [("partNumber", number.to_string()), ("uploadId", id.to_owned())];
            let query = query.each_ref().map(|(name, value)| (*name, value.as_str()));
            let response = self.send(key, &query, (piece, *offset, *length))?;
            let reason = || "it takes a part and gives it no ETag".into();
            let tag =
                response.header("etag").ok_or_else(|| DepotError::Odd { place: self.place(), reason: reason() })?;
            tags.lock().expect("nobody panics with it").push((*number, tag.to_owned()));
            Ok::<_, DepotError>(())
        })?;
        let mut tags = tags.into_inner().expect("nobody panics with it");
        tags.sort_unstable();
        let mut body = String::from("<CompleteMultipartUpload>");
        for (number, tag) in tags {
            let tag = tag.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            body.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"));
        }
        body.push_str("</CompleteMultipartUpload>");
        let request = self.request(Method::POST, key, &[("uploadId", id)], &[]).body(Body::Bytes(body.as_bytes()));
        match self.agent.send(request.repeatable()).map_err(DepotError::from).and_then(|answer| self.completed(answer))
        {
            Ok(()) => Ok(()),
            // The answer to the first of several attempts may have been lost.
            Err(error) => {
                if self.has((&piece.digest, piece.size))? {
                    Ok(())
                } else {
                    Err(error)
                }
            }
        }
    }

    /// Looks into an answer: its status was sent before the parts were joined.
    fn completed(&self, response: Response) -> Result<(), DepotError> {
        let response = self.success(response)?;
        let (status, said) = (response.status(), text(response)?);
        if said.contains("<Error>") { Err(self.refusal(status, &Said::parse(&said))) } else { Ok(()) }
    }

    /// Sends a part of a blob.
    fn send(
        &self,
        key: &str,
        query: &[(&str, &str)],
        (piece, offset, length): (&Piece<'_>, u64, u64),
    ) -> Result<Response, DepotError> {
        let open = || piece.part(offset, length);
        let request = self.request(Method::PUT, key, query, &[]);
        self.success(self.agent.send(request.body(Body::Stream { length, open: &open }))?)
    }
}

fn text(response: Response) -> Result<String, NetError> {
    Ok(String::from_utf8_lossy(&response.bytes(ANSWER)?).into_owned())
}
