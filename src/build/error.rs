use crate::progress::StepId;
use crate::source::Span;

/// A build, or the preparation of a container, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A step failed.
    #[error("{text}")]
    Step {
        /// The step.
        step: StepId,
        /// The instruction, in one line.
        text: String,
        /// Where it is written.
        span: Span,
        /// Why it failed.
        #[source]
        source: Box<BuildError>,
    },
    /// What an instruction asks for cannot be done yet.
    #[error("{what} is not supported yet")]
    Unbuilt {
        /// What it asks for.
        what: &'static str,
    },
    /// What ADD names elsewhere cannot be had.
    #[error(transparent)]
    Fetch(#[from] crate::fetch::FetchError),
    /// What ADD names elsewhere is no address.
    #[error(transparent)]
    Address(#[from] crate::address::AddressError),
    /// What was fetched cannot be opened.
    #[error(transparent)]
    Context(#[from] crate::context::ContextError),
    /// A secret is required, and was not given.
    #[error("the secret {id:?} is required, and was not given")]
    NoSecret {
        /// Its id.
        id: String,
    },
    /// A secret that is to be a variable has a NUL byte.
    #[error("the secret for the variable {name} has a NUL byte, which no variable can have")]
    SecretNotText {
        /// The variable.
        name: String,
    },
    /// An ssh agent is required, and was not given.
    #[error("the ssh agent {id:?} is required, and was not given")]
    NoAgent {
        /// Its id.
        id: String,
    },
    /// An ssh agent does not answer.
    #[error("the ssh agent {id:?} cannot be reached")]
    Agent {
        /// Its id.
        id: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What a mount shows is not there.
    #[error("there is no {path} to be mounted")]
    NoMountSource {
        /// The path in the context, the stage or the image.
        path: String,
    },
    /// Something cannot be mounted at its place.
    #[error("{what} cannot be mounted at {target}: {found} is there")]
    BadMountTarget {
        /// The place.
        target: String,
        /// What is there.
        found: &'static str,
        /// What is to be mounted.
        what: &'static str,
    },
    /// A step in a chroot cannot have a network of its own.
    #[error("no network of its own for a step in a chroot: unshare(CLONE_NEWNET): Operation not permitted")]
    NoOwnNetwork,
    /// A step cannot have a name of the machine of its own.
    #[error("no host name of its own for a step here: sethostname: Operation not permitted")]
    NoOwnHostname,
    /// A container in a chroot cannot see a folder of the host.
    #[error("no volume for a container in a chroot: mount(MS_BIND): Operation not permitted")]
    NoVolumes,
    /// A cache mount cannot be moved to a step in a chroot.
    #[error("the cache mounts in {dir} are on another file system than the store, and nothing can be mounted in a chroot", dir = dir.display())]
    CacheElsewhere {
        /// Their folder.
        dir: std::path::PathBuf,
    },
    /// An archive of a cache mount holds what is for layers only.
    #[error("{path} of the archive is {what}, which no cache has")]
    BadCache {
        /// The path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// An archive of a cache mount is larger than allowed.
    #[error("the archive of the cache mount {id:?} has more than {limit} bytes unpacked")]
    LargeCache {
        /// Its id.
        id: String,
        /// How many it may have.
        limit: u64,
    },
    /// A command would have to be run, and this environment allows that in no way.
    #[error("no command can be run here")]
    CannotRun {
        /// What the smallest change would have to be about.
        #[source]
        source: coracle_runtime::RuntimeError,
    },
    /// A command would have to be run that is for another processor, and the kernel has no emulator for it.
    #[error("this machine cannot run programs for {platform}")]
    ForeignPlatform {
        /// What they are for.
        platform: crate::oci::Platform,
    },
    /// The command of a RUN step ended with a status other than 0.
    #[error("the command ended with exit status {code}")]
    ExitStatus {
        /// The status, 1 to 255.
        code: i32,
    },
    /// The command of a RUN step ended with a status other than 0, and there was no space left for it.
    #[error("the command ended with exit status {code}, and the disk of {store} is full", store = store.display())]
    DiskFull {
        /// The status.
        code: i32,
        /// The store.
        store: std::path::PathBuf,
    },
    /// The command of a RUN step failed, and a process of it was killed because the memory limit was reached.
    #[error("the command reached its memory limit of {limit} bytes, and ended with exit status {code}")]
    OutOfMemory {
        /// The status, that of a shell where a signal killed it.
        code: i32,
        /// The limit, bytes.
        limit: u64,
    },
    /// A place in the image where every container needs a directory is something else.
    #[error("{path} of the image is a {what}, and must be a directory")]
    BadMountPoint {
        /// The place.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// The command of a RUN step was killed by a signal.
    #[error("the command was killed by signal {signal}")]
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// The command of a RUN step could not be started.
    #[error("cannot start {program:?}")]
    NotStarted {
        /// The program.
        program: String,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// The working directory of a command cannot be entered.
    #[error("cannot enter the working directory {path:?}")]
    NoWorkingDirectory {
        /// The directory.
        path: String,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// The build was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// A stage was not built because another failed.
    #[error("stage {stage} failed")]
    StageFailed {
        /// The stage that failed.
        stage: String,
    },
    /// An image has more layers than overlayfs can stack.
    #[error("{count} layers, and overlayfs stacks {} at the most", super::MAX_LAYERS)]
    TooManyLayers {
        /// How many there are.
        count: usize,
    },
    /// A layer of an image does not unpack to what its configuration says.
    #[error("layer {blob} has diff_id {found}, not {expected}")]
    WrongDiffId {
        /// The layer's blob.
        blob: crate::oci::Digest,
        /// What the configuration says.
        expected: crate::oci::Digest,
        /// What is in the blob.
        found: crate::oci::Digest,
    },
    /// A file changed between the moment when it was read for the cache key and that when it was copied.
    #[error("/{path} changed while it was copied")]
    ChangedMeanwhile {
        /// The file, from the root of the context.
        path: String,
    },
    /// A path of the image cannot become a directory.
    #[error("{path} is in the way: it is a {what}")]
    NotADirectory {
        /// The path in the image.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A COPY cannot be done.
    #[error(transparent)]
    Copy(#[from] super::copy::CopyError),
    /// A user or group is not known to the image.
    #[error(transparent)]
    User(#[from] super::users::UserError),
    /// The store.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// A layer.
    #[error(transparent)]
    Layer(#[from] crate::layer::LayerError),
    /// The context or the files of an image.
    #[error(transparent)]
    Tree(#[from] crate::tree::Error),
    /// The kernel, or what this environment allows.
    #[error(transparent)]
    Runtime(#[from] coracle_runtime::RuntimeError),
    /// A file beside the store.
    #[error("cannot {call} {path}")]
    Io {
        /// What was attempted.
        call: &'static str,
        /// The file.
        path: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl BuildError {
    pub(super) fn io(call: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        BuildError::Io { call, path: path.display().to_string(), source }
    }
}
