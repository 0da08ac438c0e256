use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::auth::{host_of, parse};
use super::{Auth, ConfigError, Credentials, Places, Secret, read};

/// Puts a name and a password for a registry (or a part of it, as `host/team`) into the file for that, which only the user may
/// read. Returns the file.
///
/// # Errors
/// [`ConfigError::NoAuthFile`], [`ConfigError::Format`] where there is another file in its place, [`ConfigError::Io`].
pub fn log_in(places: &Places, registry: &str, user: &str, password: &Secret) -> Result<PathBuf, ConfigError> {
    let path = file(places)?;
    change(&path, |document| {
        let auth = STANDARD.encode(format!("{user}:{}", password.reveal()));
        auths(document).insert(registry.into(), json!({ "auth": auth }));
        true
    })?;
    Ok(path)
}

/// Removes what the file says about a registry; all that it says of any, where none is given. Returns the file.
///
/// # Errors
/// [`ConfigError::NotLoggedIn`], and as [`log_in`].
pub fn log_out(places: &Places, registry: Option<&str>) -> Result<PathBuf, ConfigError> {
    let path = file(places)?;
    let removed = change(&path, |document| {
        let auths = auths(document);
        let before = auths.len();
        match registry {
            None => auths.clear(),
            Some(registry) => auths.retain(|key, _| key != registry && host_of(key) != registry),
        }
        auths.len() != before
    })?;
    match registry {
        Some(registry) if !removed => Err(ConfigError::NotLoggedIn { registry: registry.into(), path }),
        _ => Ok(path),
    }
}

/// Returns the name under which the user is known to a registry; `None` where there is none, or only a token.
///
/// # Errors
/// As [`Auth::load`] and [`Auth::of`].
pub fn logged_in(places: &Places, registry: &str) -> Result<Option<String>, ConfigError> {
    let exists = places.auth_file.as_ref().is_none_or(|file| file.exists());
    let auth = if exists { Auth::load(places)? } else { Auth::none() };
    let (host, repository) = registry.split_once('/').unwrap_or((registry, ""));
    Ok(match auth.of(host, repository)? {
        Some(Credentials::Basic { user, .. }) => Some(user),
        _ => None,
    })
}

/// The file that is written to: the one that is named, else podman's, which goes when the user logs out of the machine.
fn file(places: &Places) -> Result<PathBuf, ConfigError> {
    let dir = places.runtime_dir.as_ref().or(places.config_dir.as_ref());
    places.auth_file.clone().or(dir.map(|dir| dir.join("containers/auth.json"))).ok_or(ConfigError::NoAuthFile)
}

fn auths(document: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let auths = document.entry("auths").or_insert_with(|| json!({}));
    if !auths.is_object() {
        *auths = json!({});
    }
    auths.as_object_mut().expect("made one just now")
}

/// Changes the file: what it says besides stays, and a reader sees the old one or the new one.
fn change(path: &Path, change: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<bool, ConfigError> {
    let failed = |call| move |source| ConfigError::Io { call, path: path.into(), source };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(failed("create the folder of"))?;
    // Two logins at the same time must not lose each other's work. The file itself is replaced, so the lock is beside it.
    let lock = path.with_extension("lock");
    let lock = fs::File::options().create(true).truncate(false).write(true).open(&lock).map_err(failed("lock"))?;
    lock.lock().map_err(failed("lock"))?;
    let text = read(path)?.unwrap_or_default();
    parse(path, &text)?;
    let mut document: Map<String, Value> = if text.trim().is_empty() {
        Map::new()
    } else {
        let reason = || "it is not a JSON object".to_owned();
        serde_json::from_str(&text).map_err(|_| ConfigError::Format { path: path.into(), reason: reason() })?
    };
    if !change(&mut document) {
        return Ok(false);
    }
    let mut text = serde_json::to_string_pretty(&document).expect("strings always serialise");
    text.push('\n');
    let mut temp = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(dir)
        .map_err(failed("write"))?;
    temp.write_all(text.as_bytes()).and_then(|()| temp.as_file().sync_all()).map_err(failed("write"))?;
    // A link (dotfiles in a repository) stays one.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let temp_path = temp.into_temp_path();
    match fs::rename(&temp_path, &real) {
        Ok(()) => {
            // There is nothing left to remove.
            let _ = temp_path.keep();
            Ok(true)
        }
        Err(error) => Err(failed("write")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_and_out() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("deep/auth.json");
        let places = Places { auth_file: Some(path.clone()), ..Places::default() };
        assert_eq!(logged_in(&places, "r.example").expect("nobody"), None);
        assert_eq!(log_in(&places, "r.example", "ann", &Secret::new("a:b")).expect("in"), path);
        log_in(&places, "r.example/team", "team", &Secret::new("t")).expect("in");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(logged_in(&places, "r.example").expect("a file").as_deref(), Some("ann"));
        assert_eq!(logged_in(&places, "r.example/team/app").expect("a file").as_deref(), Some("team"));
        let mut document: Value = serde_json::from_str(&fs::read_to_string(&path).expect("text")).expect("JSON");
        document["credHelpers"] = json!({"x.example": "pass"});
        fs::write(&path, document.to_string()).expect("written");
        log_out(&places, Some("r.example")).expect("out");
        let text = fs::read_to_string(&path).expect("text");
        assert!(
            text.contains("\"pass\"") && text.contains("r.example/team") && !text.contains("\"r.example\""),
            "{text}"
        );
        assert!(matches!(log_out(&places, Some("r.example")), Err(ConfigError::NotLoggedIn { .. })));
        log_out(&places, None).expect("out");
        assert_eq!(logged_in(&places, "r.example/team").expect("a file"), None);
    }

    #[test]
    fn a_file_that_is_something_else_is_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("auth.json");
        let places = Places { auth_file: Some(path.clone()), ..Places::default() };
        for text in ["[1]", "hello", r#"{"auths": 7}"#] {
            fs::write(&path, text).expect("written");
            assert!(matches!(log_in(&places, "r", "u", &Secret::new("p")), Err(ConfigError::Format { .. })));
            assert_eq!(fs::read_to_string(&path).expect("text"), text);
        }
    }
}
