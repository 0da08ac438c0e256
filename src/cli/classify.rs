//! Which exit code and which hint belong to an error of a room: all of it in this file.

mod image;
mod lock;
mod net;

pub use image::{ImageProblem, NoImage};
pub use lock::LockProblem;
pub use net::{CredentialsForWhom, LoginProblem};

use std::io;
use std::path::{Path, PathBuf};

use super::report::{Classify, ExitStatus};
use super::request::UsageError;
use crate::build::{BuildError, CopyError, KeyError};
use crate::context::{Context, ContextError};
use crate::fetch::FetchError;
use crate::input::InputError;
use crate::layer::LayerError;
use crate::net::NetError;
use crate::oci::ReferenceError;
use crate::output::OutputError;
use crate::store::{StoreError, is_full};
use crate::tree;
use coracle_runtime::RuntimeError;

impl Classify for UsageError {
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Usage
    }

    fn hint(&self) -> Option<String> {
        UsageError::hint(self)
    }
}

impl Classify for StoreError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            StoreError::BadImage { .. } | StoreError::Image(_) => ExitStatus::Input,
            _ => ExitStatus::Store,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            StoreError::Io { source, .. } => store_hint(source),
            StoreError::Busy { .. } => Some("try again when no build runs; /proc/locks tells who holds it".into()),
            StoreError::NoBlob(_) | StoreError::Mismatch { .. } => {
                Some("`coracle pull` brings the image in again, and replaces what is damaged".into())
            }
            StoreError::Damaged { .. } => {
                Some("`coracle build --no-cache` makes it anew, or pull the image again".into())
            }
            _ => None,
        }
    }
}

/// Returns what to do where a call on a file of the store failed.
fn store_hint(error: &io::Error) -> Option<String> {
    Some(match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
            "name a folder that you may write with --root DIR, CORACLE_ROOT or XDG_DATA_HOME".into()
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "`coracle prune` removes what no image needs; --root DIR keeps the store elsewhere".into()
        }
        _ => return None,
    })
}

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct OutputLost(#[source] pub io::Error);

impl Classify for OutputLost {
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Store
    }
}

impl Classify for BuildError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            BuildError::Step { source, .. } => source.exit_status(),
            BuildError::Interrupted => ExitStatus::Interrupted,
            BuildError::WrongDiffId { .. } | BuildError::TooManyLayers { .. } | BuildError::BadMountPoint { .. } => {
                ExitStatus::Input
            }
            BuildError::BadCache { .. } | BuildError::LargeCache { .. } => ExitStatus::Input,
            BuildError::DiskFull { .. } => ExitStatus::Store,
            BuildError::Unbuilt { .. } => ExitStatus::Input,
            BuildError::Fetch(error) => error.exit_status(),
            BuildError::Address(_) => ExitStatus::Input,
            BuildError::Context(error) => error.exit_status(),
            BuildError::Store(error) => error.exit_status(),
            BuildError::Layer(error) => error.exit_status(),
            BuildError::Copy(CopyError::Archive { source, .. }) => source.exit_status(),
            BuildError::Tree(error) if is_full(&error.source) => ExitStatus::Store,
            BuildError::Tree(error) | BuildError::Copy(CopyError::Tree(error)) => {
                // What is read out of a bundle.
                let inside = error.source.get_ref().and_then(|inside| inside.downcast_ref::<OutputError>());
                inside.map_or(ExitStatus::Failed, Classify::exit_status)
            }
            BuildError::Runtime(error) => error.exit_status(),
            BuildError::CannotRun { .. }
            | BuildError::ForeignPlatform { .. }
            | BuildError::NoOwnNetwork
            | BuildError::NoOwnHostname
            | BuildError::NoVolumes
            | BuildError::CacheElsewhere { .. } => ExitStatus::Unable,
            BuildError::NoSecret { .. } | BuildError::NoAgent { .. } | BuildError::Agent { .. } => ExitStatus::Usage,
            BuildError::Io { source, .. } if is_full(source) => ExitStatus::Store,
            BuildError::Io { .. } => ExitStatus::Store,
            _ => ExitStatus::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        build_hint(self, None)
    }
}

/// Returns what to do after `error`; `context` knows why a file is not in it.
pub(super) fn build_hint(error: &BuildError, context: Option<&Context>) -> Option<String> {
    match error {
        BuildError::Step { source, .. } => build_hint(source, context),
        BuildError::Store(error) => error.hint(),
        BuildError::Fetch(error) => Classify::hint(error),
        BuildError::Layer(error) => error.hint(),
        BuildError::Runtime(error) | BuildError::CannotRun { source: error } => Classify::hint(error),
        BuildError::Io { source, .. } => store_hint(source),
        BuildError::Tree(error) => store_hint(&error.source).filter(|_| is_full(&error.source)),
        BuildError::Copy(CopyError::NotFound { path, .. }) => {
            let rule = context?.explain(path)?;
            Some(format!("line {} of {} leaves it out: {:?}", rule.line, rule.file.display(), rule.rule))
        }
        BuildError::NotStarted { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Some("the image has no such program, or lacks the interpreter or loader that it needs".into())
        }
        BuildError::NotStarted { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Some("the file is not executable: `chmod +x` it, or COPY it with --chmod=755".into())
        }
        BuildError::NotStarted { source, .. }
            if source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) =>
        {
            Some("it is a script without `#!` in its first line, or a program for another processor".into())
        }
        BuildError::NoSecret { id } => {
            Some(format!("give it with --secret id={id},src=FILE or --secret id={id},env=VARIABLE"))
        }
        BuildError::NoAgent { id } => Some(format!(
            "give it with --ssh {id}=SOCKET or --ssh {id}=KEYFILE, or --ssh {id} for the agent of SSH_AUTH_SOCK"
        )),
        BuildError::Agent { .. } => Some("is the ssh-agent still running? `ssh-add -l` tells".into()),
        BuildError::NoOwnHostname => Some(
            "it takes namespaces: `coracle doctor` says what keeps from them; or leave BUILDKIT_SANDBOX_HOSTNAME out"
                .into(),
        ),
        BuildError::NoOwnNetwork => {
            Some("it takes namespaces: `coracle doctor` says what keeps from them; or leave --network=none out".into())
        }
        BuildError::NoVolumes => Some(
            "it takes namespaces: `coracle doctor` says what keeps from them; or COPY the files into the image".into(),
        ),
        BuildError::CacheElsewhere { .. } => {
            Some("leave --cache-dir out, or name a folder on the file system of the store".into())
        }
        BuildError::NoMountSource { path } => {
            let path = crate::tree::TreePath::new(path).ok()?;
            let rule = context?.explain(&path)?;
            Some(format!("line {} of {} leaves it out: {:?}", rule.line, rule.file.display(), rule.rule))
        }
        BuildError::ForeignPlatform { .. } => Some(
            "an emulator can: install qemu-user-static (on Debian with binfmt-support), so that a file in \
             /proc/sys/fs/binfmt_misc hands such programs to it with flag F; a build without RUN needs none"
                .into(),
        ),
        BuildError::LargeCache { .. } => Some("--max-size says how many it may have".into()),
        BuildError::OutOfMemory { .. } => Some("give it more with --memory, or less to do at the same time".into()),
        BuildError::ExitStatus { code: 137 } | BuildError::Killed { signal: 9 } => {
            Some("137 is 128 + 9: something was killed with SIGKILL, most often for lack of memory".into())
        }
        BuildError::ExitStatus { code: 127 } => {
            Some("127 is what a shell says of a command that it does not find".into())
        }
        BuildError::DiskFull { .. } => {
            Some("`coracle prune` removes what no image needs; --root DIR keeps the store elsewhere".into())
        }
        BuildError::TooManyLayers { .. } => Some("join RUN and COPY instructions".into()),
        BuildError::WrongDiffId { .. } => Some("the image is damaged: bring it in again".into()),
        _ => None,
    }
}

/// Returns the error of the system that `error` goes back to: one with an error number. An archive that ends early is an
/// [`io::Error`] as well, but no call failed there.
fn system_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| {
        let error = error.downcast_ref::<io::Error>()?;
        match error.get_ref() {
            // `source` would go past what is inside.
            Some(inside) => system_error(inside),
            None => error.raw_os_error().map(|_| error),
        }
    })
}

/// Returns why no temporary file could be made in `dir`. What the crate tempfile says has the name of that file in it, which
/// means nothing to the user.
pub(super) fn not_created(dir: &Path, error: &io::Error) -> io::Error {
    match rustix::fs::access(dir, rustix::fs::Access::WRITE_OK) {
        Err(errno) => errno.into(),
        Ok(()) => error.kind().into(),
    }
}

impl Classify for LayerError {
    fn exit_status(&self) -> ExitStatus {
        match (self, system_error(self)) {
            (LayerError::UnmappedOwner { .. } | LayerError::NoAttributes { .. }, _) => ExitStatus::Unable,
            (_, Some(_)) => ExitStatus::Store,
            (_, None) => ExitStatus::Input,
        }
    }

    fn hint(&self) -> Option<String> {
        match (self, system_error(self)) {
            (LayerError::UnmappedOwner { .. }, _) => Some(
                "--isolation=single-id emulates owners: then there are all ids; `coracle doctor` says whether it works"
                    .into(),
            ),
            (LayerError::NoAttributes { .. }, _) => {
                Some("put the store on another file system, with --root DIR or CORACLE_ROOT".into())
            }
            (_, Some(error)) => store_hint(error),
            _ => None,
        }
    }
}

impl Classify for RuntimeError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            RuntimeError::Interrupted => ExitStatus::Interrupted,
            RuntimeError::Died { .. } | RuntimeError::BadSpec { .. } | RuntimeError::Threads { .. } => {
                ExitStatus::Fault
            }
            _ => ExitStatus::Unable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            RuntimeError::NotWanted => {
                Some("leave --isolation=none out: then the best way that works here is taken".into())
            }
            _ => RuntimeError::hint(self),
        }
    }
}

impl Classify for OutputError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            OutputError::Store(error) => error.exit_status(),
            OutputError::Layer(error) => error.exit_status(),
            OutputError::Registry(error) => error.exit_status(),
            OutputError::Depot(error) => error.exit_status(),
            OutputError::Tree(_) => ExitStatus::Store,
            OutputError::NoRegistry { .. } | OutputError::OneImage { .. } | OutputError::OneOnly { .. } => {
                ExitStatus::Usage
            }
            OutputError::Io { call: "open", source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ExitStatus::Input
            }
            error if system_error(error).is_some() => ExitStatus::Store,
            _ => ExitStatus::Input,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            OutputError::Store(error) => error.hint(),
            OutputError::Layer(error) => error.hint(),
            OutputError::Registry(error) => error.hint(),
            OutputError::Depot(error) => error.hint(),
            OutputError::NoBundle { .. } => Some("`coracle bundle create` writes one".into()),
            OutputError::NotBundled { wanted, .. } => {
                Some(format!("`coracle bundle create --platform {wanted}` has it"))
            }
            OutputError::Several { .. } => Some("put the name behind the path: oci:DIR:NAME".into()),
            _ => None,
        }
    }
}

impl Classify for ContextError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            ContextError::NotUtf8 { .. }
            | ContextError::Ignore { .. }
            | ContextError::NotAFile { .. }
            | ContextError::TooLarge { .. } => ExitStatus::Input,
            ContextError::Open { .. } | ContextError::NoDockerfile { .. } => ExitStatus::Usage,
            ContextError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => ExitStatus::Usage,
            _ => ExitStatus::Failed,
        }
    }
}

impl Classify for InputError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            InputError::Context(error) => error.exit_status(),
            InputError::Store(error) => error.exit_status(),
            InputError::Archive { source, .. } => source.exit_status(),
            InputError::Fetch(error) => error.exit_status(),
            InputError::NoFolder { .. } => ExitStatus::Usage,
            InputError::Read { source, .. } if system_error(source).is_some() => ExitStatus::Store,
            _ => ExitStatus::Input,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            InputError::Context(error) => Classify::hint(error),
            InputError::Store(error) => error.hint(),
            InputError::Archive { source, .. } => source.hint(),
            InputError::Fetch(error) => Classify::hint(error),
            _ => None,
        }
    }
}

impl Classify for FetchError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            FetchError::Net(NetError::Cancelled) => ExitStatus::Interrupted,
            FetchError::Net(NetError::BadUrl { .. }) => ExitStatus::Input,
            FetchError::WrongDigest { .. }
            | FetchError::Submodule { .. }
            | FetchError::UnsafeTree { .. }
            | FetchError::NotBundled { .. }
            | FetchError::BadPack { .. } => ExitStatus::Input,
            FetchError::NoGit { .. } => ExitStatus::Unable,
            FetchError::Io { .. } => ExitStatus::Store,
            _ => ExitStatus::Network,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            FetchError::NoGit { .. } => Some("install git, or use an archive of the repository".into()),
            FetchError::Io { source, .. } => store_hint(source),
            FetchError::NoReference { .. } => Some("`git ls-remote` lists the branches and tags that there are".into()),
            FetchError::NotBundled { .. } => Some(super::bundled::ANEW.into()),
            FetchError::Git { message, .. } if message.starts_with("Host key verification failed") => Some(
                "ssh does not know the host: `ssh-keyscan HOST` shows its keys; put the right one into ~/.ssh/known_hosts".into(),
            ),
            FetchError::Git { message, .. } if message.starts_with("Permission denied (") => {
                Some("--ssh default=FILE gives a private key, --ssh default the agent of SSH_AUTH_SOCK".into())
            }
            FetchError::NoCommit { .. } => Some("name a branch or a tag that leads to it".into()),
            _ => None,
        }
    }
}

impl Classify for tree::Error {
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Failed
    }
}

impl Classify for ReferenceError {
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Usage
    }
}

/// A file that the user named cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {call} {path}")]
pub struct FileLost {
    /// What was attempted.
    pub call: &'static str,
    /// The file.
    pub path: String,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl Classify for FileLost {
    fn exit_status(&self) -> ExitStatus {
        use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
        match (self.call, self.source.kind()) {
            ("write" | "create" | "resolve", _) => ExitStatus::Store,
            (_, NotFound | PermissionDenied | IsADirectory | NotADirectory) => ExitStatus::Input,
            _ => ExitStatus::Store,
        }
    }
}

/// A build or a run cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildProblem {
    /// The Dockerfile on standard input is too long.
    #[error("the Dockerfile on standard input has more than 16 MiB")]
    StdinTooLong,
    /// The Dockerfile on standard input is no text.
    #[error("the Dockerfile on standard input is not UTF-8")]
    StdinNotUtf8,
    /// The image has a file where a file about it is to be.
    #[error("the image has a file /{name}, and one about it is to have that name")]
    NoteInTheWay {
        /// The name.
        name: String,
    },
    /// What should be a device is none.
    #[error("{path:?} is no device")]
    NoDevice {
        /// The path.
        path: PathBuf,
    },
    /// There is no such cache mount.
    #[error("there is no cache mount {id:?} here")]
    NoCache {
        /// The id.
        id: String,
    },
    /// What is to be imported is no export.
    #[error("{} is no export of cache mounts: {reason}", input(from))]
    BadExport {
        /// The file or folder; "-" for standard input.
        from: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A secret is too long.
    #[error("the secret {id:?} has more than 500 KiB")]
    LongSecret {
        /// Its id.
        id: String,
    },
    /// A socket among several files of --ssh.
    #[error("--ssh takes one socket, or files of keys: {path:?} is a socket, and not alone")]
    SocketAndKeys {
        /// The socket.
        path: PathBuf,
    },
    /// What is given as an ssh key cannot be used.
    #[error("{path:?} cannot be used for --ssh")]
    SshKey {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: KeyError,
    },
    /// What is kept of a failed step needs an empty folder.
    #[error("{dir:?} for --on-failure=save is no empty folder")]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// The context is a Dockerfile, and another one is named.
    #[error("the context {context} is a Dockerfile, and --file names another one")]
    TwoDockerfiles {
        /// The context.
        context: String,
    },
    /// A context with a name is no files.
    #[error("the context {name:?}: {place} is a text, neither a folder nor an archive")]
    NoFiles {
        /// Its name.
        name: String,
        /// Where it is.
        place: String,
    },
    /// An image says nothing about what to run.
    #[error("image {image:?} has neither ENTRYPOINT nor CMD")]
    NoCommand {
        /// The image, as the user named it.
        image: String,
    },
    /// A file that is to be written has no folder.
    #[error("cannot write {file:?}: there is no folder {dir:?}")]
    NoFolder {
        /// The file.
        file: PathBuf,
        /// Where it should lie.
        dir: PathBuf,
    },
    /// An image that came in has no name.
    #[error("{place} does not say what the image is called")]
    NoName {
        /// Where it came from.
        place: String,
    },
}

/// Returns what a file is called that may be standard input.
fn input(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}

impl Classify for BuildProblem {
    fn exit_status(&self) -> ExitStatus {
        match self {
            BuildProblem::NoCache { .. } => ExitStatus::Failed,
            BuildProblem::BadExport { .. } | BuildProblem::StdinTooLong | BuildProblem::StdinNotUtf8 => {
                ExitStatus::Input
            }
            _ => ExitStatus::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            BuildProblem::NoCache { .. } => Some("`coracle cache ls` lists those that are".into()),
            BuildProblem::BadExport { .. } => Some("`coracle cache export` writes one".into()),
            BuildProblem::SshKey { source: KeyError::Public, .. } => {
                Some("the private key is in the file of that name without .pub".into())
            }
            BuildProblem::SshKey { source: KeyError::Encrypted | KeyError::Kind { .. }, .. } => {
                Some("`ssh-add` it to an ssh-agent, and give the socket of that: --ssh default=$SSH_AUTH_SOCK".into())
            }
            BuildProblem::SshKey { .. } => Some("`ssh-keygen -y -f FILE` says whether OpenSSH can read it".into()),
            BuildProblem::NoCommand { .. } => Some("put the command behind the image".into()),
            BuildProblem::NoteInTheWay { .. } => Some(
                "--provenance=filename=NAME gives that of the provenance another name, inline-only=true makes none"
                    .into(),
            ),
            BuildProblem::NoName { .. } => Some("put a name behind it: coracle pull SOURCE NAME".into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::Failure;

    fn io(kind: io::ErrorKind) -> Failure {
        StoreError::Io { call: "create", path: "/x".into(), source: kind.into() }.into()
    }

    #[test]
    fn each_error_has_its_code_and_its_next_step() {
        let no_root = Failure::from(UsageError::NoRoot);
        assert_eq!(no_root.status(), ExitStatus::Usage);
        assert_eq!(no_root.hints(), ["name a folder with --root DIR, CORACLE_ROOT or XDG_DATA_HOME"]);
        let denied = io(io::ErrorKind::PermissionDenied);
        assert_eq!(denied.status(), ExitStatus::Store);
        assert_eq!(denied.hints(), ["name a folder that you may write with --root DIR, CORACLE_ROOT or XDG_DATA_HOME"]);
        assert!(io(io::ErrorKind::StorageFull).hints()[0].contains("coracle prune"));
        let bad = StoreError::BadImage { what: "manifest".into(), reason: "no layers".into() };
        assert_eq!(Failure::from(bad).status(), ExitStatus::Input);
        let digest = crate::oci::Digest::of(b"");
        let (expected, found) = (digest, digest);
        let rotten = StoreError::Mismatch { what: "blob".into(), expected, expected_size: 5, found, found_size: 5 };
        let rotten = Failure::from(rotten);
        assert_eq!(rotten.status(), ExitStatus::Store);
        assert!(rotten.hints()[0].contains("coracle pull"));
    }

    #[test]
    fn an_archive_that_ends_early_is_a_bad_input_and_a_full_disk_is_not() {
        let read = |source: io::Error| LayerError::from(crate::layer::tar::TarError::Read { offset: 0, source });
        let full = || io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        let around = io::Error::other(crate::tree::Error { call: "read", path: "a".into(), source: full() });
        for (source, status) in [
            (io::ErrorKind::UnexpectedEof.into(), ExitStatus::Input),
            (io::Error::new(io::ErrorKind::InvalidData, "bad gzip header"), ExitStatus::Input),
            (full(), ExitStatus::Store),
            (io::Error::other(full()), ExitStatus::Store),
            (around, ExitStatus::Store),
        ] {
            let said = format!("{source:?}");
            assert_eq!(Failure::from(read(source)).status(), status, "{said}");
        }
    }
}
