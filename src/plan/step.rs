use super::Chmod;
use crate::oci::{ImageConfig, Platform};
use crate::progress::StepId;
use crate::source::Span;

/// What a build does: stages and their steps, with no variable, alias or relative path left.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The stages that the target needs, each after those it needs.
    pub stages: Vec<StagePlan>,
    /// The stage that becomes the image: an index into `stages`.
    pub target: usize,
    /// Of a plan for several platforms: the stages that become the images for all but the first, in the order of the platforms.
    pub others: Vec<usize>,
}

impl Plan {
    /// Returns the stages that become images, one for each platform.
    pub fn targets(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::once(self.target).chain(self.others.iter().copied())
    }

    /// Returns [`StagePlan::config`] of the image that `target`, one of [`Plan::targets`], becomes.
    ///
    /// # Panics
    /// Where that stage becomes no image.
    pub fn config(&self, target: usize) -> &ImageConfig {
        self.stages[target].config.as_ref().expect("a target has a configuration")
    }
}

/// One stage of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct StagePlan {
    /// Its name (lower case), or its number in the Dockerfile where it has none.
    pub name: String,
    /// What it stands on.
    pub base: Base,
    /// What its programs are for: a RUN on another machine needs an emulator.
    pub platform: Platform,
    /// What the user is told of its platform: only in a plan for several.
    pub shown: Option<String>,
    /// What happens on that, in order.
    pub steps: Vec<Step>,
    /// Of a stage that becomes an image, the configuration at its end: all but `created`, `rootfs.diff_ids`, and the `created` of the
    /// history that the stage adds. What other stages leave to those on them is in the steps of these.
    pub config: Option<ImageConfig>,
}

/// What a stage stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image: its [`key`](super::ImageUse::key).
    Image(String),
    /// Another stage: an index into [`Plan::stages`].
    Stage(usize),
}

/// One instruction that does something.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its number in the build, for events.
    pub id: StepId,
    /// Where it is written.
    pub span: Span,
    /// The instruction in one line, as the user sees it, variables expanded where the instruction expands them.
    pub text: String,
    /// The `created_by` of its history entry.
    pub created_by: String,
    /// What it does.
    pub op: Op,
}

/// What a step does. All but [`Op::Config`] make a layer and a history entry that is not empty.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Makes a directory, and those that lead to it, where they are missing.
    Workdir {
        /// Absolute path in the image.
        path: String,
        /// Who owns the new directories: `USER` as it is here ("" is root).
        user: String,
    },
    /// Copies files.
    Copy(Copy),
    /// Runs a command.
    Run(Run),
    /// Changes the configuration only: the history entry is empty.
    Config,
}

/// What COPY or ADD copies. Paths are still as written, variables expanded: globs and links need the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Where the paths among the sources are.
    pub from: CopyFrom,
    /// What is copied, in order.
    pub sources: Vec<CopySource>,
    /// Absolute destination path in the image. A slash at its end means: a directory.
    pub destination: String,
    /// `--chown`, variables expanded: names or numbers.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<Chmod>,
    /// `--link`: what is there already does not matter.
    pub link: bool,
    /// `--parents`: sources keep their directories.
    pub parents: bool,
    /// `--exclude`: patterns as in an ignore file.
    pub exclude: Vec<String>,
    /// What ADD alone does; `None` for COPY.
    pub add: Option<Add>,
}

/// What ADD does and COPY does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Add {
    /// `--unpack`: whether archives are unpacked. `None`: local ones are, downloads are not.
    pub unpack: Option<bool>,
    /// `--checksum`: "sha256:…" for a URL, a commit for a git repository.
    pub checksum: Option<String>,
    /// `--keep-git-dir`: whether the folder `.git` of a repository is copied, too. `None`: as its URL says, else not.
    pub keep_git_dir: Option<bool>,
}

/// One source of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path or a glob (Go's filepath.Match), relative to the root of [`Copy::from`].
    Path(String),
    /// A file whose content stands in the Dockerfile.
    Inline {
        /// The name of the file.
        name: String,
        /// What is in it, variables expanded.
        text: String,
    },
    /// ADD only: what an http or https URL leads to.
    Url(String),
    /// ADD only: a git repository, as written.
    Git(String),
}

/// Where COPY, or a mount of RUN, has its files from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFrom {
    /// The build context.
    Context,
    /// A stage: an index into [`Plan::stages`].
    Stage(usize),
    /// An image: its [`key`](super::ImageUse::key).
    Image(String),
    /// A folder that was given a name with `--build-context`.
    Named(String),
}

/// What RUN runs, and in which surroundings.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Program and arguments; the shell form has the shell in front already.
    pub args: Vec<String>,
    /// Environment, "NAME=value": that of the configuration, then the ARGs. The runtime adds HOME where it is missing.
    pub env: Vec<String>,
    /// Variables that are given to the command, but count neither in the cache key nor in the history: the predefined proxy
    /// ARGs that the Dockerfile does not declare. They take the place of those of their names in `env`.
    pub uncached_env: Vec<String>,
    /// Absolute working directory.
    pub cwd: String,
    /// `USER` as it is here ("" is root).
    pub user: String,
    /// `--mount`, in order.
    pub mounts: Vec<Mount>,
    /// `--network`.
    pub network: Network,
    /// The name of the machine, where the user chose one.
    pub hostname: Option<String>,
    /// A here-document that begins with `#!`: a program, which `args` run as [`Script::path`].
    pub script: Option<Script>,
}

impl Run {
    /// Returns the numbers of the mounts that have a place, in the order in which they are shown, as BuildKit has it: by their
    /// targets, so that what lies in another one comes behind it. Of several at one place the last one counts, and secrets and
    /// sockets stand behind all others there.
    pub fn mount_order(&self) -> Vec<usize> {
        let rank = |at: usize| {
            let Mount { target, kind, .. } = &self.mounts[at];
            let last = match kind {
                MountKind::Bind { .. } | MountKind::Cache { .. } | MountKind::Tmpfs { .. } => 0,
                MountKind::Secret { .. } => 1,
                MountKind::Ssh { .. } => 2,
            };
            (target.as_str(), last)
        };
        let mut order: Vec<usize> = (0..self.mounts.len()).filter(|&at| !self.mounts[at].target.is_empty()).collect();
        order.sort_by(|&a, &b| rank(a).cmp(&rank(b)));
        order
    }
}

/// A program whose text stands in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The name of its file.
    pub name: String,
    /// What is in it.
    pub text: String,
}

impl Script {
    /// The directory in the container where the program lies while it is run: mounted read-only, and in no layer.
    pub const FOLDER: &'static str = "/dev/pipes";

    /// Returns where the program lies.
    pub fn path(&self) -> String {
        format!("{}/{}", Self::FOLDER, self.name)
    }
}

/// Which network a RUN sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// That of the build.
    #[default]
    Default,
    /// None but its own loopback.
    None,
    /// That of the host.
    Host,
}

/// Something that is mounted while a RUN runs, and is in no layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is written.
    pub span: Span,
    /// Absolute path in the container, never `/`, without a slash at its end. Empty where a secret is given as a variable only.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
}

/// What is mounted while a RUN runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    Bind {
        /// Where they are.
        from: CopyFrom,
        /// Absolute path there.
        source: String,
        /// Whether the command may write; what it writes is dropped.
        writable: bool,
    },
    /// A directory that stays from build to build.
    Cache {
        /// Its name.
        id: String,
        /// What happens when two commands want it.
        sharing: Sharing,
        /// What it holds at first; `None`: nothing.
        from: Option<CopyFrom>,
        /// Absolute path in `from`.
        source: String,
        /// Whether the command may not write.
        read_only: bool,
        /// Mode, when it is made.
        mode: u32,
        /// Owner, when it is made.
        uid: u32,
        /// Group, when it is made.
        gid: u32,
    },
    /// A file system in memory.
    Tmpfs {
        /// Bytes that fit into it at the most.
        size: Option<u64>,
    },
    /// A secret that the user gives to the build.
    Secret {
        /// Its name.
        id: String,
        /// The variable that holds it.
        env: Option<String>,
        /// Whether there is a file: not where only `env` is given.
        file: bool,
        /// Whether the build fails without it.
        required: bool,
        /// Mode of the file.
        mode: u32,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
    /// The socket of an ssh agent. The first one of a RUN is in the variable SSH_AUTH_SOCK, where that is not set.
    Ssh {
        /// Which of the agents that the user gives to the build.
        id: String,
        /// Whether the build fails without it.
        required: bool,
        /// Mode of the socket.
        mode: u32,
        /// Owner of the socket.
        uid: u32,
        /// Group of the socket.
        gid: u32,
    },
}

/// What happens when two commands want the same cache mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Both have it.
    #[default]
    Shared,
    /// The second one has a directory of its own.
    Private,
    /// The second one waits.
    Locked,
}

/// What `lower` needs to know about an image that the Dockerfile names.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseImage {
    /// Its configuration.
    pub config: ImageConfig,
}

impl Op {
    /// Returns whether files of the build context are read: by COPY or ADD, or by a mount.
    pub fn reads_context(&self) -> bool {
        match self {
            Op::Copy(copy) => {
                copy.from == CopyFrom::Context && copy.sources.iter().any(|it| matches!(it, CopySource::Path(_)))
            }
            Op::Run(run) => run.mounts.iter().any(|mount| mount.kind.from() == Some(&CopyFrom::Context)),
            Op::Workdir { .. } | Op::Config => false,
        }
    }
}

impl MountKind {
    /// Returns where the files are that are mounted; `None` where they are not those of a context, stage or image.
    pub fn from(&self) -> Option<&CopyFrom> {
        match self {
            MountKind::Bind { from, .. } => Some(from),
            MountKind::Cache { from, .. } => from.as_ref(),
            MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
        }
    }
}
