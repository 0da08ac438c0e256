use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{ConfigError, Credentials, Places, Secret, helper, read};

/// Where kaniko's users put their file.
const KANIKO: &str = "/kaniko/.docker/config.json";
/// By this name docker knows Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Who the user is to which registry: the files with credentials, read once.
#[derive(Debug)]
pub struct Auth {
    /// With the registries that they are for.
    given: Option<(Credentials, BTreeSet<String>)>,
    places: Places,
    /// Read when one is asked for.
    files: OnceLock<Files>,
}

type Files = Vec<(PathBuf, AuthFile)>;

/// docker's config.json, and auth.json of the others: one form.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AuthFile {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry")
    }
}

impl Auth {
    /// Returns these credentials for the registries `hosts` (--creds). For others the files count, which are read when one of
    /// those is asked for.
    pub fn given(credentials: Credentials, hosts: BTreeSet<String>, places: &Places) -> Self {
        Auth { given: Some((credentials, hosts)), places: places.clone(), files: OnceLock::new() }
    }

    /// Returns none for any registry.
    pub fn none() -> Self {
        Auth { given: None, places: Places::default(), files: OnceLock::from(Files::new()) }
    }

    /// Reads the files, in the order in which they count.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] for one that the user named, [`ConfigError::Format`], [`ConfigError::Io`].
    pub fn load(places: &Places) -> Result<Self, ConfigError> {
        Ok(Auth { given: None, places: places.clone(), files: OnceLock::from(read_all(places)?) })
    }

    /// Returns the credentials for a repository of a registry. The longest entry counts: `host/team/app` before
    /// `host/team` before `host`.
    ///
    /// # Errors
    /// [`ConfigError::Helper`], [`ConfigError::Format`]; as [`Auth::load`] where the files were not read yet.
    pub fn of(&self, registry: &str, repository: &str) -> Result<Option<Credentials>, ConfigError> {
        if let Some((credentials, _)) = self.given.as_ref().filter(|(_, hosts)| hosts.contains(registry)) {
            return Ok(Some(credentials.clone()));
        }
        for (path, file) in self.files()? {
            if let Some(found) = file.find(path, registry, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn files(&self) -> Result<&Files, ConfigError> {
        match self.files.get() {
            Some(files) => Ok(files),
            None => {
                let files = read_all(&self.places)?;
                Ok(self.files.get_or_init(|| files))
            }
        }
    }
}

fn read_all(places: &Places) -> Result<Files, ConfigError> {
    let mut files = Vec::new();
    for path in auth_files(places) {
        match read(&path) {
            Ok(Some(text)) => files.push((path.clone(), parse(&path, &text)?)),
            Ok(None) if places.auth_file.is_some() => return Err(ConfigError::Missing { path }),
            // A file of somebody else, at a place that we only guess.
            Err(ConfigError::Io { source, .. })
                if places.auth_file.is_none() && source.kind() == std::io::ErrorKind::PermissionDenied => {}
            Ok(None) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

impl AuthFile {
    fn find(&self, path: &Path, registry: &str, repository: &str) -> Result<Option<Credentials>, ConfigError> {
        let mut key = format!("{registry}/{repository}");
        loop {
            // Docker has its own registry under an old name.
            let is_it = |name: &str| key == registry && host_of(name) == registry;
            let old_helper = || self.cred_helpers.iter().find(|(name, _)| is_it(name)).map(|(_, helper)| helper);
            if let Some(name) = self.cred_helpers.get(&key).or_else(old_helper)
                && let Some(found) = ask(name, registry)?
            {
                return Ok(Some(found));
            }
            let legacy = || self.auths.iter().find(|(name, _)| is_it(name));
            let entry = self.auths.get(&key).or_else(|| legacy().map(|(_, entry)| entry));
            if let Some(found) = entry.map(|entry| entry.credentials(path, &key)).transpose()?.flatten() {
                return Ok(Some(found));
            }
            match key.rfind('/') {
                Some(slash) if key != registry => key.truncate(slash),
                _ => break,
            }
        }
        if self.creds_store.is_empty() { Ok(None) } else { ask(&self.creds_store, registry) }
    }
}

impl Entry {
    fn credentials(&self, path: &Path, key: &str) -> Result<Option<Credentials>, ConfigError> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::Bearer(Secret::new(&*self.registrytoken))));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::Identity(Secret::new(&*self.identitytoken))));
        }
        if self.auth.is_empty() {
            // An empty entry says that a helper keeps the secret.
            let password = Secret::new(&*self.password);
            return Ok(
                (!self.username.is_empty()).then(|| Credentials::Basic { user: self.username.clone(), password })
            );
        }
        let bad = || ConfigError::Format {
            path: path.into(),
            reason: format!("the entry {key:?} is not base64 of user:password"),
        };
        let decoded = STANDARD.decode(self.auth.trim()).map_err(|_| bad())?;
        let text = String::from_utf8(decoded).map_err(|_| bad())?;
        // Some writers put a NUL behind it.
        Credentials::parse(text.trim_end_matches('\0')).map(Some).ok_or_else(bad)
    }
}

/// docker asks for Docker Hub by an old name.
fn ask(helper: &str, registry: &str) -> Result<Option<Credentials>, ConfigError> {
    if registry == "docker.io"
        && let Some(found) = helper::get(helper, DOCKER_HUB)?
    {
        return Ok(Some(found));
    }
    helper::get(helper, registry)
}

/// Returns the host of the key of an entry, which old programs wrote as a URL.
pub(super) fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    // Only what is a URL has a path that says nothing: others name a part of the registry.
    let host = if rest.len() == key.len() { rest } else { rest.split('/').next().unwrap_or(rest) };
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

pub(super) fn parse(path: &Path, text: &str) -> Result<AuthFile, ConfigError> {
    if text.trim().is_empty() {
        return Ok(AuthFile::default());
    }
    serde_json::from_str(text).map_err(|error| ConfigError::Format {
        path: path.into(),
        // The message of the parser may hold a part of the file.
        reason: format!("it is not JSON of the right form (line {}, column {})", error.line(), error.column()),
    })
}

/// Returns the files in which credentials may be, in the order in which they count.
fn auth_files(places: &Places) -> Vec<PathBuf> {
    if let Some(file) = &places.auth_file {
        return vec![file.clone()];
    }
    let of = |dir: &Option<PathBuf>, name: &str| dir.as_ref().map(|dir| dir.join(name));
    [
        of(&places.runtime_dir, "containers/auth.json"),
        of(&places.config_dir, "containers/auth.json"),
        of(&places.docker_dir, "config.json"),
        Some(KANIKO.into()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(text: &str) -> Auth {
        let path = PathBuf::from("/auth.json");
        let file = parse(&path, text).expect("a file");
        Auth { files: OnceLock::from(vec![(path, file)]), ..Auth::none() }
    }

    fn user(auth: &Auth, registry: &str, repository: &str) -> Option<String> {
        auth.of(registry, repository).expect("no helper").map(|found| match found {
            Credentials::Basic { user, password } => format!("{user}:{}", password.reveal()),
            Credentials::Identity(token) => format!("identity {}", token.reveal()),
            Credentials::Bearer(token) => format!("bearer {}", token.reveal()),
        })
    }

    #[test]
    fn the_longest_entry_counts() {
        let entry = |text: &str| STANDARD.encode(text);
        let auth = auth(&format!(
            r#"{{"auths": {{
                "reg.example": {{"auth": "{}"}},
                "reg.example/team": {{"auth": "{}"}},
                "reg.example/team/app": {{"auth": "{}"}},
                "https://index.docker.io/v1/": {{"auth": "{}"}},
                "https://old.example/v2/": {{"auth": "{}"}},
                "token.example": {{"identitytoken": "t"}},
                "bearer.example": {{"registrytoken": "b"}},
                "plain.example": {{"username": "u", "password": "p"}},
                "empty.example": {{}}
            }}}}"#,
            entry("host:1"),
            entry("team:2"),
            entry("app:3"),
            entry("hub:4:5"),
            entry("old:6\0")
        ));
        for (registry, repository, found) in [
            ("reg.example", "other/app", Some("host:1")),
            ("reg.example", "team/other", Some("team:2")),
            ("reg.example", "team/app", Some("app:3")),
            ("reg.example", "team/app/deep", Some("app:3")),
            ("reg.example", "teams/app", Some("host:1")),
            ("docker.io", "library/busybox", Some("hub:4:5")),
            ("old.example", "x", Some("old:6")),
            ("token.example", "x", Some("identity t")),
            ("bearer.example", "x", Some("bearer b")),
            ("plain.example", "x", Some("u:p")),
            ("empty.example", "x", None),
            ("unknown.example", "x", None),
        ] {
            assert_eq!(user(&auth, registry, repository).as_deref(), found, "{registry}/{repository}");
        }
        assert!(!format!("{auth:?}").contains("team:2") && !format!("{auth:?}").contains(&entry("app:3")));
    }

    #[test]
    fn what_the_command_line_gives_is_for_whom_it_names() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("auth.json");
        let places = Places { auth_file: Some(file.clone()), ..Places::default() };
        let given = Credentials::parse("given:1").expect("a pair");
        let auth = || Auth::given(given.clone(), ["named.example".to_owned()].into(), &places);
        // The file is no matter as long as nobody else is asked.
        assert_eq!(user(&auth(), "named.example", "x").as_deref(), Some("given:1"));
        assert!(matches!(auth().of("other.example", "x"), Err(ConfigError::Missing { .. })));
        std::fs::write(&file, r#"{"auths": {"other.example": {"username": "u", "password": "p"}}}"#).expect("written");
        assert_eq!(user(&auth(), "other.example", "x").as_deref(), Some("u:p"));
        assert_eq!(user(&auth(), "third.example", "x"), None);
    }

    #[test]
    fn files_count_in_their_order_and_a_named_one_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |path: &str, user: &str| {
            let file = dir.path().join(path);
            std::fs::create_dir_all(file.parent().expect("in it")).expect("a folder");
            let entry = STANDARD.encode(format!("{user}:x"));
            std::fs::write(&file, format!(r#"{{"auths":{{"r.example":{{"auth":"{entry}"}}}}}}"#)).expect("written");
            file
        };
        let places = Places {
            runtime_dir: Some(dir.path().join("run")),
            docker_dir: Some(dir.path().join("docker")),
            config_dir: Some(dir.path().join("config")),
            ..Places::default()
        };
        let found = |places: &Places| user(&Auth::load(places).expect("files"), "r.example", "x");
        assert_eq!(found(&places), None);
        write("docker/config.json", "docker");
        assert_eq!(found(&places).as_deref(), Some("docker:x"));
        write("run/containers/auth.json", "run");
        assert_eq!(found(&places).as_deref(), Some("run:x"));
        let named = Places { auth_file: Some(write("mine.json", "mine")), ..places.clone() };
        assert_eq!(found(&named).as_deref(), Some("mine:x"));
        let missing = Places { auth_file: Some(dir.path().join("none.json")), ..places };
        assert!(matches!(Auth::load(&missing), Err(ConfigError::Missing { .. })));
    }

    #[test]
    fn a_bad_file_is_named_and_not_shown() {
        let path = Path::new("/auth.json");
        let error = parse(path, r#"{"auths": {"a": {"auth": 12345678}}}"#).expect_err("no text").to_string();
        assert!(error.contains("/auth.json") && !error.contains("12345678"), "{error}");
        let bad = auth(r#"{"auths": {"a.example": {"auth": "bm8gY29sb24="}}}"#);
        let error = bad.of("a.example", "x").expect_err("no colon").to_string();
        assert!(error.contains("a.example") && !error.contains("bm8g"), "{error}");
    }
}
