//! What services say when they refuse: XML of S3 and of Azure, JSON of Twirp.

use std::io::Read;

use crate::net::Response;

/// Bytes of an answer that are read to learn what it says.
const MOST: u64 = 64 << 10;

/// What an error said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::output::cache) struct Said {
    /// The service's word for it; may be empty.
    pub code: String,
    /// Its text; may be empty.
    pub message: String,
    /// The region that a bucket is in, where the answer says so.
    pub region: String,
}

impl Said {
    /// Reads what an answer says. An error on the way is an answer that says nothing.
    pub fn of(response: &mut Response) -> Self {
        let region = response.header("x-amz-bucket-region").unwrap_or_default().to_owned();
        let mut body = Vec::new();
        let _ = response.take(MOST).read_to_end(&mut body);
        let said = Said::parse(&String::from_utf8_lossy(&body));
        if region.is_empty() { said } else { Said { region: clean(&region), ..said } }
    }

    /// Reads the body of an error.
    pub fn parse(body: &str) -> Self {
        if let Ok(json) = serde_json::from_str::<serde_json::Value>(body) {
            let word = |names: [&str; 2]| {
                let found = names.iter().find_map(|name| json.get(name).and_then(|word| word.as_str()));
                clean(found.unwrap_or_default())
            };
            return Said { code: word(["code", "typeKey"]), message: word(["msg", "message"]), region: String::new() };
        }
        let word = |name| clean(&element(body, name).unwrap_or_default());
        Said { code: word("Code"), message: word("Message"), region: word("Region") }
    }

    /// Returns it in one line, without any of `secrets`.
    pub fn line(&self, secrets: &[&str]) -> String {
        let text = match (self.code.as_str(), self.message.as_str()) {
            ("", "") => "it does not say why".to_owned(),
            (word, "") | ("", word) => word.to_owned(),
            (code, message) => format!("{code}, {message}"),
        };
        let hide = |text: String, secret: &&str| if secret.is_empty() { text } else { text.replace(*secret, "…") };
        secrets.iter().fold(text, hide)
    }
}

/// Returns the text of the first element `name`, which has no attributes and no elements in it.
pub(in crate::output::cache) fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once("</")?;
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#34;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    Some(plain.iter().fold(text.to_owned(), |text, (escape, letter)| text.replace(escape, letter)))
}

/// Returns a text that may be shown: one line, not without end, without control characters.
fn clean(text: &str) -> String {
    let text: String = text.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let mut short: String = text.chars().take(300).collect();
    short.truncate(short.trim_end_matches([' ', '.']).len());
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_services_say() {
        let said = Said::parse(
            "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket</Code><Message>It&apos;s not there.</Message></Error>",
        );
        assert_eq!((said.code.as_str(), said.message.as_str()), ("NoSuchBucket", "It's not there"));
        let said = Said::parse(r#"{"code":"already_exists","msg":"cache entry exists\u001b[2J"}"#);
        assert_eq!(said.line(&[]), "already_exists, cache entry exists [2J");
        assert_eq!(Said::parse("<html>").line(&[]), "it does not say why");
        let said = Said::parse("<Error><Code>X</Code><Message>the secret is hunter2</Message></Error>");
        assert_eq!(said.line(&["", "hunter2"]), "X, the secret is …");
        assert_eq!(element("<a><UploadId>x&amp;y</UploadId></a>", "UploadId").as_deref(), Some("x&y"));
        assert_eq!(element("<UploadId>", "UploadId"), None);
    }
}
