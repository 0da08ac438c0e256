use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Look;

/// Where a file of a result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To this file.
    File(PathBuf),
    /// To standard output: `dest=-`.
    Stdout,
}

impl Destination {
    /// Returns what `path` means.
    pub fn of(path: PathBuf) -> Self {
        if is_stdout(&path) { Destination::Stdout } else { Destination::File(path) }
    }
}

/// Returns whether `path` means standard output: `-`, or a name that the system has for it. What is opened by such a name is written from
/// its beginning, over and under what goes to standard output otherwise.
pub fn is_stdout(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name))
}

/// What `--output` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputSpec {
    /// The image as a tar file of an OCI image layout.
    OciArchive(Destination, Look),
    /// The image in a folder: an OCI image layout.
    OciDir(PathBuf, Look),
    /// The image as a file that `docker load` reads.
    DockerArchive(Destination),
    /// The files of the image in a folder.
    Local(PathBuf, FilesOutput),
    /// The files of the image in a tar file.
    Tar(Destination, FilesOutput),
    /// Nothing: what the steps made is kept for other builds.
    CacheOnly,
    /// The image under names, in the store or in registries.
    Image(ImageOutput),
}

/// What is said of files that are not in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesOutput {
    /// Whether the files for a platform lie in a folder of its name; `None` for where there are several.
    pub split: Option<bool>,
    /// What becomes of other files in the folder.
    pub mode: FolderMode,
}

/// What becomes of files in a folder that are not in the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FolderMode {
    /// They stay.
    #[default]
    Merge,
    /// They are removed; the folder lies below this one, which is the working directory when that is known.
    Delete(PathBuf),
}

/// `type=image` and `type=registry`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageOutput {
    /// The names; where there are none, those of `--tag`.
    pub names: Vec<String>,
    /// Whether it goes to registries.
    pub push: bool,
    /// Whether it gets no tag there, so that jobs that build for several platforms can be joined later.
    pub by_digest: bool,
    /// Whether its name with the digest is one of those in the metadata.
    pub canonical: bool,
    /// What the image looks like.
    pub look: Look,
}

/// `--output` asks for something that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The quotes do not fit.
    #[error("the quotes make no sense: a whole part stands in them, as \"dest=a,b\", and a quote in it is doubled")]
    Quotes,
    /// A part without an equals sign.
    #[error("{0:?} is not KEY=VALUE")]
    NoValue(String),
    /// There is no `type=`.
    #[error("there is no type= in it ({TYPES})")]
    NoType,
    /// A type that nobody knows.
    #[error("there is no type {0:?} ({TYPES})")]
    UnknownType(String),
    /// A type that docker knows.
    #[error("type={0} is not supported yet ({TYPES})")]
    UnbuiltType(&'static str),
    /// A key that nobody knows.
    #[error("type={kind} has no key {key:?} (its keys are {known})")]
    UnknownKey {
        /// The type.
        kind: &'static str,
        /// The key.
        key: String,
        /// The keys that there are.
        known: &'static str,
    },
    /// A key of docker's that cannot be followed.
    #[error("{key}= is nothing that type={kind} has here: {why}")]
    NoSuchKey {
        /// The type.
        kind: &'static str,
        /// The key.
        key: &'static str,
        /// Why.
        why: &'static str,
    },
    /// `mode=` is neither.
    #[error("mode= is copy or delete, not {0:?}")]
    Mode(String),
    /// The same key twice.
    #[error("{0:?} is given twice")]
    Twice(String),
    /// There is no `dest=`, or nothing behind it.
    #[error("type={0} needs dest=PATH")]
    NoDest(&'static str),
    /// `dest=-` for a folder.
    #[error("{0} is a folder, which cannot go to standard output")]
    FolderToStdout(&'static str),
    /// `tar=` is neither true nor false.
    #[error("tar= is true or false, not {0:?}")]
    Bool(String),
    /// A NUL byte.
    #[error("there is a NUL byte in it")]
    Nul,
    /// A compression that is none.
    #[error(transparent)]
    Compression(#[from] crate::layer::CompressionError),
    /// An annotation that makes no sense.
    #[error(transparent)]
    Look(#[from] super::LookError),
    /// What is so for the whole build.
    #[error("{key}= is said for the whole build: --rewrite-timestamp")]
    OfBuild {
        /// The key.
        key: String,
    },
    /// An archive of docker has no manifest, and layers that are not compressed.
    #[error("{key}= means nothing for type=docker: its layers are not compressed, and it has no manifest")]
    NotInDocker {
        /// The key.
        key: String,
    },
}

const TYPES: &str = "the types are registry, image, oci, docker, local, tar and cacheonly";

const IMAGE_KEYS: &str = "type, name, push, push-by-digest, name-canonical, compression, compression-level, \
                          force-compression, oci-mediatypes, rewrite-timestamp, annotation.KEY";
const OCI_KEYS: &str = "type, dest, tar, compression, compression-level, force-compression, oci-mediatypes, \
     rewrite-timestamp, annotation.KEY";

/// What docker and buildah have besides.
const UNBUILT_TYPES: [&str; 1] = ["moby"];
/// Keys of docker's that cannot be followed, and why.
const OTHERS: [(&str, &str); 11] = [
    ("attestation-prefix", "attestations go into manifests only"),
    ("buildinfo", "BuildKit has given it up, and so there is none"),
    ("context", "it names a daemon"),
    ("dangling-name-prefix", "images without a name have their digest"),
    ("force-inline-attestations", "attestations are no part of this output"),
    ("insecure", "--tls-verify=false is for all registries"),
    ("prefer-nondist-layers", "layers that must not be distributed stay what they are in the base"),
    ("source-date-epoch", "it is said for the whole build: --source-date-epoch"),
    ("store", "the image is in the store in any case"),
    ("tar", "docker's archive is always a tar file"),
    ("unpack", "coracle unpacks an image when it is needed"),
];

impl FromStr for OutputSpec {
    type Err = OutputError;

    fn from_str(text: &str) -> Result<Self, OutputError> {
        if text.contains('\0') {
            return Err(OutputError::Nul);
        }
        let fields = csv(text)?;
        // docker's rule: what is one field, has no quotes and no type is a folder.
        if fields.len() == 1 && fields[0] == text && !text.starts_with("type=") {
            return match text {
                "" => Err(OutputError::NoType),
                "-" => Ok(OutputSpec::Tar(Destination::Stdout, FilesOutput::default())),
                dir => Ok(OutputSpec::Local(dir.into(), FilesOutput::default())),
            };
        }
        let mut pairs: Vec<(String, String)> = Vec::new();
        for field in fields {
            let Some((key, value)) = field.split_once('=') else { return Err(OutputError::NoValue(field)) };
            let key = key.trim().to_ascii_lowercase();
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(OutputError::Twice(key));
            }
            pairs.push((key, value.to_owned()));
        }
        let has_manifest =
            pairs.iter().any(|(key, value)| key == "type" && ["oci", "image", "registry"].contains(&&**value));
        let look = if has_manifest { Look::take(&mut pairs)? } else { Look::default() };
        let mut take = |key: &str| {
            let at = pairs.iter().position(|(known, _)| known == key)?;
            Some(pairs.remove(at).1)
        };
        let kind = take("type").ok_or(OutputError::NoType)?;
        let (kind, known) = match kind.as_str() {
            "oci" => ("oci", OCI_KEYS),
            "docker" => ("docker", "type, dest"),
            "local" => ("local", "type, dest, platform-split, mode"),
            "tar" => ("tar", "type, dest, platform-split"),
            "cacheonly" => ("cacheonly", "type"),
            "image" => ("image", IMAGE_KEYS),
            "registry" => ("registry", IMAGE_KEYS),
            other => {
                return Err(match UNBUILT_TYPES.iter().find(|kind| **kind == other) {
                    Some(kind) => OutputError::UnbuiltType(kind),
                    None => OutputError::UnknownType(kind),
                });
            }
        };
        let mut image = ImageOutput { push: kind == "registry", look: look.clone(), ..ImageOutput::default() };
        if matches!(kind, "image" | "registry") {
            let names = take("name").unwrap_or_default();
            image.names = names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
            for (key, flag) in [
                ("push", &mut image.push),
                ("push-by-digest", &mut image.by_digest),
                ("name-canonical", &mut image.canonical),
            ] {
                if let Some(value) = take(key) {
                    *flag = bool(value)?;
                }
            }
        }
        let mut files = FilesOutput::default();
        if matches!(kind, "local" | "tar") {
            files.split = take("platform-split").map(bool).transpose()?;
        }
        if let Some(mode) = if kind == "local" { take("mode") } else { None } {
            files.mode = match mode.as_str() {
                "copy" => FolderMode::Merge,
                "delete" => FolderMode::Delete(PathBuf::new()),
                _ => return Err(OutputError::Mode(mode)),
            };
        }
        let dest = take("dest");
        let archive = match if kind == "oci" { take("tar") } else { None } {
            Some(value) => bool(value)?,
            None => true,
        };
        if let Some((key, _)) = pairs.into_iter().next() {
            let of_look =
                |key: &str| key.starts_with("annotation") || OCI_KEYS.split(", ").skip(3).any(|own| own == key);
            if key == "rewrite-timestamp" {
                return Err(OutputError::OfBuild { key });
            }
            if kind == "docker" && of_look(&key) {
                return Err(OutputError::NotInDocker { key });
            }
            return Err(match OTHERS.iter().find(|(other, _)| *other == key) {
                Some((key, why)) => OutputError::NoSuchKey { kind, key, why },
                None => OutputError::UnknownKey { kind, key, known },
            });
        }
        if matches!(kind, "image" | "registry") {
            return match dest {
                Some(_) => Err(OutputError::UnknownKey { kind, key: "dest".into(), known }),
                None => Ok(OutputSpec::Image(image)),
            };
        }
        if kind == "cacheonly" {
            return match dest {
                Some(_) => Err(OutputError::UnknownKey { kind, key: "dest".into(), known }),
                None => Ok(OutputSpec::CacheOnly),
            };
        }
        let dest = dest.filter(|dest| !dest.is_empty()).ok_or(OutputError::NoDest(kind))?;
        let file = || Destination::of(dest.clone().into());
        match (kind, archive) {
            ("oci", true) => Ok(OutputSpec::OciArchive(file(), look)),
            ("docker", _) => Ok(OutputSpec::DockerArchive(file())),
            ("tar", _) => Ok(OutputSpec::Tar(file(), files)),
            ("oci", false) if dest == "-" => Err(OutputError::FolderToStdout("type=oci,tar=false")),
            (_, false) => Ok(OutputSpec::OciDir(dest.into(), look)),
            _ if dest == "-" => Err(OutputError::FolderToStdout("type=local")),
            _ => Ok(OutputSpec::Local(dest.into(), files)),
        }
    }
}

impl OutputSpec {
    /// Returns the path, to read or to change it; `None` for standard output.
    pub fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            OutputSpec::OciDir(path, _) | OutputSpec::Local(path, _) => Some(path),
            OutputSpec::OciArchive(to, _) | OutputSpec::DockerArchive(to) | OutputSpec::Tar(to, _) => match to {
                Destination::File(path) => Some(path),
                Destination::Stdout => None,
            },
            OutputSpec::Image(_) | OutputSpec::CacheOnly => None,
        }
    }

    /// Returns whether SOURCE_DATE_EPOCH is for files too, where the output says so.
    pub fn rewrites_times(&self) -> Option<bool> {
        match self {
            OutputSpec::Image(ImageOutput { look, .. })
            | OutputSpec::OciArchive(_, look)
            | OutputSpec::OciDir(_, look) => look.rewrite,
            _ => None,
        }
    }

    /// Returns whether this goes to standard output.
    pub fn is_stdout(&self) -> bool {
        use OutputSpec::{DockerArchive, OciArchive, Tar};
        matches!(
            self,
            OciArchive(Destination::Stdout, _) | DockerArchive(Destination::Stdout) | Tar(Destination::Stdout, _)
        )
    }
}

pub(super) fn bool(value: String) -> Result<bool, OutputError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => Err(OutputError::Bool(value)),
    }
}

/// Returns the fields of one line of CSV, with the rules of Go's encoding/csv: a quote begins a field or is none.
pub(super) fn csv(text: &str) -> Result<Vec<String>, OutputError> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, behind) = rest.split_once(',').map_or((rest, None), |(field, behind)| (field, Some(behind)));
            if field.contains('"') {
                return Err(OutputError::Quotes);
            }
            fields.push(field.to_owned());
            match behind {
                Some(behind) => rest = behind,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        rest = quoted;
        loop {
            let (part, behind) = rest.split_once('"').ok_or(OutputError::Quotes)?;
            field.push_str(part);
            match behind.strip_prefix('"') {
                Some(behind) => {
                    field.push('"');
                    rest = behind;
                }
                None => {
                    rest = behind;
                    break;
                }
            }
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(OutputError::Quotes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Destination {
        Destination::File(path.into())
    }

    fn local(path: &str, files: FilesOutput) -> OutputSpec {
        OutputSpec::Local(path.into(), files)
    }

    #[test]
    fn what_can_be_asked_for() {
        for (text, spec) in [
            ("type=oci,dest=a.tar", OutputSpec::OciArchive(file("a.tar"), Look::default())),
            ("dest=a.tar,type=oci,tar=true", OutputSpec::OciArchive(file("a.tar"), Look::default())),
            ("type=oci,dest=-", OutputSpec::OciArchive(Destination::Stdout, Look::default())),
            ("type=oci,dest=layout,tar=false", OutputSpec::OciDir("layout".into(), Look::default())),
            ("type=oci,dest=/dev/stdout", OutputSpec::OciArchive(Destination::Stdout, Look::default())),
            ("type=tar,dest=/dev/fd/1", OutputSpec::Tar(Destination::Stdout, FilesOutput::default())),
            ("type=tar,dest=/dev/fd/3", OutputSpec::Tar(file("/dev/fd/3"), FilesOutput::default())),
            ("type=docker,dest=a.tar", OutputSpec::DockerArchive(file("a.tar"))),
            ("type=docker,dest=-", OutputSpec::DockerArchive(Destination::Stdout)),
            ("type=local,dest=out", local("out", FilesOutput::default())),
            ("type=tar,dest=a.tar", OutputSpec::Tar(file("a.tar"), FilesOutput::default())),
            ("out", local("out", FilesOutput::default())),
            ("./a=b", local("./a=b", FilesOutput::default())),
            ("-", OutputSpec::Tar(Destination::Stdout, FilesOutput::default())),
            ("type=local,\"dest=a,b\"", local("a,b", FilesOutput::default())),
            ("\"type=local\",\"dest=a\"\"b\"", local("a\"b", FilesOutput::default())),
            ("type=local,dest=a=b", local("a=b", FilesOutput::default())),
            ("type=cacheonly", OutputSpec::CacheOnly),
            (
                "type=local,dest=out,platform-split=false,mode=delete",
                local("out", FilesOutput { split: Some(false), mode: FolderMode::Delete(PathBuf::new()) }),
            ),
            (
                "type=tar,dest=a.tar,platform-split=true",
                OutputSpec::Tar(file("a.tar"), FilesOutput { split: Some(true), ..FilesOutput::default() }),
            ),
            ("type=registry", OutputSpec::Image(ImageOutput { push: true, ..ImageOutput::default() })),
            (
                "type=image,\"name=a,b\",push=true,push-by-digest=true,name-canonical=true",
                OutputSpec::Image(ImageOutput {
                    names: vec!["a".into(), "b".into()],
                    push: true,
                    by_digest: true,
                    canonical: true,
                    look: Look::default(),
                }),
            ),
        ] {
            assert_eq!(text.parse(), Ok(spec), "{text}");
        }
    }

    #[test]
    fn what_is_refused_and_how() {
        for (text, words) in [
            ("", "there is no type= in it (the types are registry, image, oci, docker, local, tar and cacheonly)"),
            (
                "dest=a,tar=false",
                "there is no type= in it (the types are registry, image, oci, docker, local, tar and cacheonly)",
            ),
            (
                "type=zip,dest=a",
                "there is no type \"zip\" (the types are registry, image, oci, docker, local, tar and cacheonly)",
            ),
            (
                "type=moby",
                "type=moby is not supported yet (the types are registry, image, oci, docker, local, tar and cacheonly)",
            ),
            (
                "type=image,store=false",
                "store= is nothing that type=image has here: the image is in the store in any case",
            ),
            ("type=local,dest=a,mode=move", "mode= is copy or delete, not \"move\""),
            ("type=tar,dest=a,mode=delete", "type=tar has no key \"mode\" (its keys are type, dest, platform-split)"),
            ("type=oci", "type=oci needs dest=PATH"),
            ("type=tar,dest=", "type=tar needs dest=PATH"),
            (
                "type=oci,dest=a,colour=red",
                "type=oci has no key \"colour\" (its keys are type, dest, tar, compression, compression-level, \
                 force-compression, oci-mediatypes, rewrite-timestamp, annotation.KEY)",
            ),
            (
                "type=oci,dest=a,compression=b",
                "\"b\" is no compression: use none, gzip, gzip:0 to gzip:12, zstd, or zstd:1 to zstd:19",
            ),
            (
                "type=oci,dest=a,compression=zstd:chunked",
                "\"zstd:chunked\" is not supported: use zstd, which all read that read zstd:chunked",
            ),
            (
                "type=docker,dest=a,compression=zstd",
                "compression= means nothing for type=docker: its layers are not compressed, and it has no manifest",
            ),
            (
                "type=local,dest=a,compression=zstd",
                "type=local has no key \"compression\" (its keys are type, dest, platform-split, mode)",
            ),
            (
                "type=docker,dest=a,tar=false",
                "tar= is nothing that type=docker has here: docker's archive is always a tar file",
            ),
            ("type=oci,dest=a,tar=maybe", "tar= is true or false, not \"maybe\""),
            ("type=oci,dest=a,dest=b", "\"dest\" is given twice"),
            ("type=oci,dest", "\"dest\" is not KEY=VALUE"),
            ("type=local,dest=-", "type=local is a folder, which cannot go to standard output"),
            ("type=oci,tar=0,dest=-", "type=oci,tar=false is a folder, which cannot go to standard output"),
        ] {
            assert_eq!(text.parse::<OutputSpec>().map_err(|e| e.to_string()), Err(words.into()), "{text}");
        }
        for text in ["type=local,dest=\"a,b\"", "type=local,\"dest=a", "\"type=local\"x,dest=a"] {
            assert_eq!(text.parse::<OutputSpec>(), Err(OutputError::Quotes), "{text}");
        }
    }
}
