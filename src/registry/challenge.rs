use std::collections::BTreeMap;

/// What a WWW-Authenticate header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token of a token server.
    Bearer {
        /// The URL of the token server.
        realm: String,
        /// The name of the registry there.
        service: Option<String>,
        /// What we need.
        scope: Option<String>,
    },
}

/// Returns the challenges of a header that are known; one header may hold several.
pub(super) fn challenges(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        let scheme = &rest[..end];
        let (members, behind) = members(&rest[end..]);
        rest = behind.trim_start_matches([' ', ',']);
        let member = |name: &str| members.get(name).cloned().filter(|value| !value.is_empty());
        match (scheme.to_ascii_lowercase().as_str(), member("realm")) {
            ("basic", _) => found.push(Challenge::Basic),
            ("bearer", Some(realm)) => {
                found.push(Challenge::Bearer { realm, service: member("service"), scope: member("scope") });
            }
            _ => {}
        }
    }
    found
}

/// Reads `name=value` or `name="value"` members up to the next scheme; returns what is behind them.
fn members(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut members = BTreeMap::new();
    let mut rest = text;
    loop {
        let begun = rest.trim_start_matches([' ', ',']);
        let name_end = begun.find(['=', ' ', ',']).unwrap_or(begun.len());
        if !begun[name_end..].starts_with('=') || name_end == 0 {
            return (members, begun);
        }
        let name = begun[..name_end].to_ascii_lowercase();
        let value = &begun[name_end + 1..];
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find([',', ' ']).unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        members.insert(name, value);
        rest = behind;
    }
}

fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: realm.into(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        };
        for (header, want) in [
            ("Basic realm=\"Registry Realm\"", vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (
                r#"Bearer realm="https://auth.example/token",service="reg, the",scope="repository:a/b:pull,push""#,
                vec![bearer("https://auth.example/token", Some("reg, the"), Some("repository:a/b:pull,push"))],
            ),
            (r#"bearer realm=https://a/t, service=s , error="x""#, vec![bearer("https://a/t", Some("s"), None)]),
            (r#"Negotiate, Basic realm="x", Bearer realm="r""#, vec![Challenge::Basic, bearer("r", None, None)]),
            (r#"Bearer service="s""#, vec![]),
            (r#"Bearer realm="a\"b"#, vec![bearer("a\"b", None, None)]),
            ("", vec![]),
            (",,= ,\"", vec![]),
        ] {
            assert_eq!(challenges(header), want, "{header}");
        }
    }
}
