use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ConfigError, GivenRegistries, Places, read};
use crate::oci::Reference;

/// Where images really lie: registries.conf and what lies in registries.conf.d, read once.
#[derive(Debug, Default)]
pub struct Registries {
    /// What is named in errors: the file that was read last.
    path: PathBuf,
    entries: Vec<Entry>,
    search: Option<Vec<String>>,
    mode: Option<String>,
    aliases: BTreeMap<String, String>,
    given: GivenRegistries,
}

/// A place where an image is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The name that the image has there.
    pub reference: Reference,
    /// How the registry may be reached.
    pub reach: Reach,
}

/// How a registry may be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// Nothing is said about it.
    #[default]
    Unsaid,
    /// TLS with a certificate that is checked.
    Secure,
    /// As it can be: without checks, without TLS.
    Insecure,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<String>,
    registry: Vec<Entry>,
    aliases: BTreeMap<String, String>,
    /// Of version 1 of the format.
    registries: Option<toml::Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Entry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<Mirror>,
    /// The file that says so.
    #[serde(skip)]
    path: PathBuf,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Mirror {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

impl Registries {
    /// Reads the files: the one that the user named, else the user's own, else that of the machine; then the drop-ins of the
    /// machine and of the user, of which the later one counts.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] for one that the user named, [`ConfigError::Format`], [`ConfigError::Io`].
    pub fn load(places: &Places) -> Result<Self, ConfigError> {
        let mut all = Registries { given: places.given.clone(), ..Registries::default() };
        let own = places.config_dir.as_ref().map(|dir| dir.join("containers"));
        let machine = places.etc.join("containers");
        let mains = match &places.registries_conf {
            Some(file) => vec![file.clone()],
            None => own.iter().chain([&machine]).map(|dir| dir.join("registries.conf")).collect(),
        };
        for path in mains {
            if let Some(text) = read(&path)? {
                all.add(&path, &text)?;
                break;
            } else if places.registries_conf.is_some() {
                return Err(ConfigError::Missing { path });
            }
        }
        for dir in [Some(&machine), own.as_ref()].into_iter().flatten() {
            for path in drop_ins(&dir.join("registries.conf.d"))? {
                if let Some(text) = read(&path)? {
                    all.add(&path, &text)?;
                }
            }
        }
        Ok(all)
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let bad = |reason: String| ConfigError::Format { path: path.into(), reason };
        let file: File = toml::from_str(text).map_err(|error| bad(error.message().to_owned()))?;
        if file.registries.is_some() {
            return Err(bad("it is of version 1 of the format, which nobody should use any longer".into()));
        }
        if let Some(mode) = &file.short_name_mode
            && !matches!(mode.as_str(), "" | "enforcing" | "permissive" | "disabled")
        {
            return Err(bad(format!("short-name-mode is enforcing, permissive or disabled, not {mode:?}")));
        }
        for mut entry in file.registry {
            entry.path = path.into();
            trim(&mut entry.prefix);
            trim(&mut entry.location);
            entry.mirror.iter_mut().for_each(|mirror| trim(&mut mirror.location));
            if entry.prefix.is_empty() {
                entry.prefix.clone_from(&entry.location);
            }
            if entry.prefix.is_empty() {
                return Err(bad("a [[registry]] has neither prefix nor location".into()));
            }
            if entry.prefix.contains('*') && (!entry.prefix.starts_with("*.") || entry.prefix.contains('/')) {
                return Err(bad(format!(
                    "the prefix {:?} is none: a star stands for the first part of a host",
                    entry.prefix
                )));
            }
            for mirror in &entry.mirror {
                if mirror.location.is_empty() {
                    return Err(bad(format!("a mirror of {:?} has no location", entry.prefix)));
                }
                if !matches!(mirror.pull_from_mirror.as_str(), "" | "all" | "digest-only" | "tag-only") {
                    let value = &mirror.pull_from_mirror;
                    return Err(bad(format!("pull-from-mirror is all, digest-only or tag-only, not {value:?}")));
                }
            }
            self.entries.retain(|old| old.prefix != entry.prefix);
            self.entries.push(entry);
        }
        self.search = file.unqualified_search_registries.or(self.search.take());
        self.mode = file.short_name_mode.or(self.mode.take());
        self.aliases.extend(file.aliases);
        self.path = path.into();
        Ok(())
    }

    /// Returns what a name as the user wrote it may mean, in the order in which it is tried: of a name without a registry, what
    /// its alias or the search list say; without those, an image of docker.io.
    ///
    /// # Errors
    /// [`ConfigError::Ambiguous`]; [`ConfigError::BadLocation`] where the files make no name of it.
    pub fn candidates(&self, text: &str, reference: &Reference) -> Result<Vec<Reference>, ConfigError> {
        let first = text.split('/').next().unwrap_or_default();
        let qualified = text.contains('/') && (first.contains(['.', ':']) || first == "localhost");
        if qualified || text.contains("://") {
            return Ok(vec![reference.clone()]);
        }
        let bad = |made: String| ConfigError::BadLocation { name: text.into(), made, path: self.path.clone() };
        let suffix = match (reference.tag(), reference.digest()) {
            (tag, Some(digest)) => format!("{}@{digest}", tag.map(|tag| format!(":{tag}")).unwrap_or_default()),
            (tag, None) => format!(":{}", tag.unwrap_or("latest")),
        };
        let short = text.split('@').next().unwrap_or_default();
        let short = match short.rsplit_once(':') {
            Some((short, tag)) if !tag.contains('/') => short,
            _ => short,
        };
        let named = |name: &str| Reference::parse(&format!("{name}{suffix}")).map_err(|_| bad(name.into()));
        if let Some(alias) = self.aliases.get(short).filter(|alias| !alias.is_empty()) {
            return Ok(vec![named(alias)?]);
        }
        let search = self.search.as_deref().unwrap_or_default();
        let candidates: Result<Vec<_>, _> = search.iter().map(|host| named(&format!("{host}/{short}"))).collect();
        let candidates = candidates?;
        match candidates.len() {
            0 => Ok(vec![reference.clone()]),
            1 => Ok(candidates),
            _ if self.mode.as_deref() == Some("enforcing") => Err(ConfigError::Ambiguous {
                name: text.into(),
                candidates: candidates.iter().map(Reference::to_string).collect::<Vec<_>>().join(", "),
                path: self.path.clone(),
            }),
            _ => Ok(candidates),
        }
    }

    /// Returns the registries in which these images are, as a user writes them. What is no name of an image is in none.
    pub fn named(&self, images: &[String]) -> BTreeSet<String> {
        self.meant(images).iter().map(|reference| reference.registry().to_owned()).collect()
    }

    /// Returns whom the credentials of the command line are for, where it names these images: their registries, the places that
    /// stand for those, and the mirrors that it names as well. Mirrors that only a file names are none of them.
    pub fn trusted(&self, images: &[String]) -> BTreeSet<String> {
        let mut hosts = self.named(images);
        let places = self.meant(images).into_iter().filter_map(|reference| self.target(&reference).ok());
        hosts.extend(places.map(|place| place.reference.registry().to_owned()));
        let mirrors = self.given.mirrors.iter().filter_map(|(_, place)| place.split('/').next());
        hosts.extend(mirrors.map(str::to_owned));
        hosts
    }

    fn meant(&self, images: &[String]) -> Vec<Reference> {
        let meant = |image: &String| self.candidates(image, &Reference::parse(image).ok()?).ok();
        images.iter().filter_map(meant).flatten().collect()
    }

    /// Returns the hosts that need not be secure, as the files and the command line say.
    pub fn insecure(&self) -> BTreeSet<String> {
        let places = self.entries.iter().filter(|entry| entry.insecure).map(|entry| match entry.location.as_str() {
            "" => entry.prefix.as_str(),
            location => location,
        });
        let mirrors = self.entries.iter().flat_map(|entry| &entry.mirror).filter(|mirror| mirror.insecure);
        let all = places.chain(mirrors.map(|mirror| mirror.location.as_str()));
        let hosts =
            all.filter_map(|place| place.split('/').next()).chain(self.given.insecure.iter().map(String::as_str));
        hosts.map(str::to_owned).collect()
    }

    /// Returns where the image `reference` is looked for: its mirrors, then the registry itself. There is no other place.
    ///
    /// # Errors
    /// [`ConfigError::Blocked`], [`ConfigError::BadLocation`].
    pub fn sources(&self, reference: &Reference) -> Result<Vec<Endpoint>, ConfigError> {
        self.given.sources(reference, self.sources_of_files(reference)?)
    }

    fn sources_of_files(&self, reference: &Reference) -> Result<Vec<Endpoint>, ConfigError> {
        let Some(entry) = self.entry(reference)? else {
            return Ok(vec![Endpoint { reference: reference.clone(), reach: Reach::Unsaid }]);
        };
        let mut endpoints = Vec::new();
        for mirror in &entry.mirror {
            let by_digest = reference.digest().is_some();
            let used = match mirror.pull_from_mirror.as_str() {
                "digest-only" => by_digest,
                "tag-only" => !by_digest,
                _ => by_digest || !entry.mirror_by_digest_only,
            };
            if used {
                let reference = moved(reference, entry, &mirror.location)?;
                endpoints.push(Endpoint { reference, reach: reach(mirror.insecure) });
            }
        }
        endpoints.push(self.own_place(reference, entry)?);
        Ok(endpoints)
    }

    /// Returns where the image `reference` is written to: mirrors are for reading.
    ///
    /// # Errors
    /// As [`Registries::sources`].
    pub fn target(&self, reference: &Reference) -> Result<Endpoint, ConfigError> {
        let endpoint = match self.entry(reference)? {
            Some(entry) => self.own_place(reference, entry)?,
            None => Endpoint { reference: reference.clone(), reach: Reach::Unsaid },
        };
        Ok(self.given.reached(endpoint))
    }

    fn own_place(&self, reference: &Reference, entry: &Entry) -> Result<Endpoint, ConfigError> {
        let reference = match entry.location.as_str() {
            "" => reference.clone(),
            location => moved(reference, entry, location)?,
        };
        Ok(Endpoint { reference, reach: reach(entry.insecure) })
    }

    /// Returns the entry for an image: the one with the longest prefix.
    fn entry(&self, reference: &Reference) -> Result<Option<&Entry>, ConfigError> {
        let fits = self.entries.iter().filter(|entry| rest(reference, &entry.prefix).is_some());
        let Some(entry) = fits.max_by_key(|entry| entry.prefix.len()) else { return Ok(None) };
        if entry.blocked {
            return Err(ConfigError::Blocked { name: reference.to_string(), path: entry.path.clone() });
        }
        Ok(Some(entry))
    }
}

fn reach(insecure: bool) -> Reach {
    if insecure { Reach::Insecure } else { Reach::Unsaid }
}

fn trim(text: &mut String) {
    *text = text.trim().trim_end_matches('/').to_owned();
}

/// Returns what is left of registry and repository behind a prefix; `None` where it is not one of them.
fn rest(reference: &Reference, prefix: &str) -> Option<String> {
    let name = reference.name();
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = reference.registry();
        return (host.ends_with(domain) && host.len() > domain.len()).then(|| name[host.len()..].to_owned());
    }
    // A prefix may name one image, with its tag.
    for (suffix, whole) in [
        (reference.tag().map(|tag| format!("{name}:{tag}")), ""),
        (reference.digest().map(|digest| format!("{name}@{digest}")), ""),
    ] {
        if suffix.as_deref() == Some(prefix) {
            return Some(whole.into());
        }
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
}

/// Returns the name that an image has at another place.
fn moved(reference: &Reference, entry: &Entry, location: &str) -> Result<Reference, ConfigError> {
    let made = format!("{location}{}", rest(reference, &entry.prefix).unwrap_or_default());
    reference.moved_to(&made).map_err(|_| ConfigError::BadLocation {
        name: reference.to_string(),
        made,
        path: entry.path.clone(),
    })
}

fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | PermissionDenied) => return Ok(Vec::new()),
        Err(source) => return Err(ConfigError::Io { call: "read", path: dir.into(), source }),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(text: &str) -> Registries {
        let mut all = Registries::default();
        all.add(Path::new("/r.conf"), text).expect("a file");
        all
    }

    fn places(all: &Registries, name: &str) -> Vec<String> {
        let endpoints = all.sources(&name.parse().expect("a name")).expect("endpoints");
        let insecure = |reach| if reach == Reach::Insecure { "!" } else { "" };
        endpoints.iter().map(|place| format!("{}{}", place.reference, insecure(place.reach))).collect()
    }

    const CONF: &str = r#"
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.example/hub"
        [[registry.mirror]]
        location = "localhost:5000"
        insecure = true
        pull-from-mirror = "digest-only"

        [[registry]]
        prefix = "mcr.microsoft.com/dotnet"
        location = "localhost:5000/ms"
        insecure = true

        [[registry]]
        prefix = "evil.example"
        blocked = true

        [[registry]]
        prefix = "*.corp.example"
        location = "corp.example/all"

        [[registry]]
        location = "digest.example"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "mirror.example/d/"
    "#;

    #[test]
    fn mirrors_come_first_and_a_rewritten_place_has_no_other() {
        let all = registries(CONF);
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (name, want) in [
            ("busybox", &["mirror.example/hub/library/busybox:latest", "docker.io/library/busybox:latest"][..]),
            (
                &format!("busybox@{digest}"),
                &[
                    &format!("mirror.example/hub/library/busybox@{digest}"),
                    &format!("localhost:5000/library/busybox@{digest}!"),
                    &format!("docker.io/library/busybox@{digest}"),
                ],
            ),
            ("mcr.microsoft.com/dotnet/core/sdk:3.0", &["localhost:5000/ms/core/sdk:3.0!"]),
            ("mcr.microsoft.com/dotnetx/sdk:3.0", &["mcr.microsoft.com/dotnetx/sdk:3.0"]),
            ("a.b.corp.example/x:1", &["corp.example/all/x:1"]),
            ("corp.example/x:1", &["corp.example/x:1"]),
            ("digest.example/x:1", &["digest.example/x:1"]),
            (
                &format!("digest.example/x@{digest}"),
                &[&format!("mirror.example/d/x@{digest}"), &format!("digest.example/x@{digest}")],
            ),
            ("other.example/x:1", &["other.example/x:1"]),
        ] {
            assert_eq!(places(&all, name), want, "{name}");
        }
        let target = all.target(&"docker.io/team/app:1".parse().expect("a name")).expect("a place");
        assert_eq!(target.reference.to_string(), "docker.io/team/app:1");
        let error = all.sources(&"evil.example/x".parse().expect("a name")).expect_err("blocked").to_string();
        assert_eq!(error, "evil.example/x:latest is blocked by /r.conf");
    }

    #[test]
    fn short_names() {
        let candidates = |all: &Registries, text: &str| {
            let found = all.candidates(text, &text.parse().expect("a name"));
            found.map(|found| found.iter().map(Reference::to_string).collect::<Vec<_>>())
        };
        assert_eq!(
            candidates(&Registries::default(), "busybox").expect("docker.io"),
            ["docker.io/library/busybox:latest"]
        );
        let text = r#"unqualified-search-registries = ["a.example", "b.example"]
            [aliases]
            "fedora" = "registry.fedoraproject.org/fedora"
            "team/app" = "quay.io/team/app""#;
        let all = registries(text);
        for (name, want) in [
            ("fedora:40", &["registry.fedoraproject.org/fedora:40"][..]),
            ("team/app", &["quay.io/team/app:latest"]),
            ("busybox:1", &["a.example/busybox:1", "b.example/busybox:1"]),
            ("docker.io/busybox", &["docker.io/library/busybox:latest"]),
            ("localhost/x", &["localhost/x:latest"]),
        ] {
            assert_eq!(candidates(&all, name).expect("names"), want, "{name}");
        }
        let strict = registries(&format!("short-name-mode = \"enforcing\"\n{text}"));
        let error = candidates(&strict, "busybox").expect_err("which?").to_string();
        assert!(error.contains("a.example/busybox:latest, b.example/busybox:latest"), "{error}");
    }

    #[test]
    fn drop_ins_come_after_and_bad_files_are_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let file = dir.path().join(path);
            fs::create_dir_all(file.parent().expect("in it")).expect("a folder");
            fs::write(file, text).expect("written");
        };
        let places_of =
            Places { config_dir: Some(dir.path().join("config")), etc: dir.path().join("etc"), ..Places::default() };
        write(
            "etc/containers/registries.conf",
            "[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\nlocation = \"m.example\"",
        );
        write("etc/containers/registries.conf.d/10.conf", "[[registry]]\nlocation = \"b.example\"\nblocked = true");
        write("config/containers/registries.conf.d/20.conf", "[[registry]]\nlocation = \"b.example\"");
        let all = Registries::load(&places_of).expect("files");
        assert_eq!(places(&all, "a.example/x:1"), ["m.example/x:1", "a.example/x:1"]);
        assert_eq!(places(&all, "b.example/x:1"), ["b.example/x:1"]);
        write("config/containers/registries.conf", "");
        assert_eq!(places(&Registries::load(&places_of).expect("files"), "a.example/x:1"), ["a.example/x:1"]);
        for (text, says) in [
            ("[registries.search]\nregistries = []", "version 1"),
            ("[[registry]]\ninsecure = true", "neither prefix nor location"),
            ("[[registry]]\nprefix = \"a*b\"\nlocation = \"x\"", "a star"),
            ("short-name-mode = \"x\"", "short-name-mode"),
            ("[[registry]", "cannot be used"),
        ] {
            write("config/containers/registries.conf", text);
            let error = Registries::load(&places_of).expect_err(text).to_string();
            assert!(error.contains(says) && error.contains("config/containers/registries.conf"), "{error}");
        }
        let missing = Places { registries_conf: Some(dir.path().join("none")), ..places_of };
        assert!(matches!(Registries::load(&missing), Err(ConfigError::Missing { .. })));
    }
}
