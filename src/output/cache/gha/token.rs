use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The right to read.
#[cfg(test)]
pub(super) const READ: u32 = 1;
/// The right to write.
const WRITE: u32 = 2;

/// Part of the caches of a repository: a branch, as a rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Scope {
    scope: String,
    permission: u32,
}

/// What a token says of itself. Nobody verifies it here: that is the service's affair.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// The scopes whose caches can be read, the nearest first; at least one.
    pub reads: Vec<String>,
    /// The scope to whose caches can be written.
    pub writes: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    /// JSON, as text.
    ac: String,
}

impl Claims {
    /// Reads a token. One that says nothing, as services have that are made after GitHub's, is for one scope without a name.
    pub fn of(token: &str) -> Self {
        let unknown = Claims { reads: vec![String::new()], writes: Some(String::new()) };
        let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok());
        let payload: Option<Payload> = payload.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let scopes: Option<Vec<Scope>> = payload.and_then(|payload| serde_json::from_str(&payload.ac).ok());
        let Some(scopes) = scopes.filter(|scopes| !scopes.is_empty()) else { return unknown };
        Claims {
            reads: scopes.iter().map(|scope| scope.scope.clone()).collect(),
            writes: scopes.into_iter().rfind(|scope| scope.permission & WRITE != 0).map(|scope| scope.scope),
        }
    }
}

/// Returns a token with these scopes, as GitHub makes them, without a signature.
#[cfg(test)]
pub(super) fn token(scopes: &[(&str, u32)]) -> String {
    let scopes: Vec<_> = scopes
        .iter()
        .map(|(scope, permission)| serde_json::json!({"Scope": scope, "Permission": permission}))
        .collect();
    let payload = serde_json::json!({"ac": serde_json::to_string(&scopes).expect("JSON"), "nbf": 1, "exp": 2});
    format!("e30.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(payload.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_allows() {
        let claims = Claims::of(&token(&[("refs/heads/topic", READ | WRITE), ("refs/heads/main", READ)]));
        assert_eq!(claims.reads, ["refs/heads/topic", "refs/heads/main"]);
        assert_eq!(claims.writes.as_deref(), Some("refs/heads/topic"));
        assert_eq!(Claims::of(&token(&[("refs/heads/main", READ)])).writes, None);
        for other in ["opaque", "a.b.c", "e30.e30.x", ""] {
            assert_eq!(Claims::of(other), Claims { reads: vec![String::new()], writes: Some(String::new()) });
        }
    }
}
