use crate::oci::{ExecConfig, ImageConfig};
use crate::progress::StepId;
use crate::source::Span;

/// What a build does: stages and their steps, with no variable, alias or relative path left.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The stages that the target needs, each after those it needs.
    pub stages: Vec<StagePlan>,
    /// The stage that becomes the image: an index into `stages`.
    pub target: usize,
}

/// One stage of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct StagePlan {
    /// Its name (lower case), or its number in the Dockerfile where it has none.
    pub name: String,
    /// What it stands on.
    pub base: Base,
    /// What happens on that, in order.
    pub steps: Vec<Step>,
    /// The configuration of the stage at its end: all but `created`, `rootfs.diff_ids`, and the `created` of the history
    /// that the stage adds.
    pub config: ImageConfig,
}

/// What a stage stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image: the string that `Graph::images` gave for it.
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

/// What COPY copies. Paths are still as written, variables expanded: globs and links need the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Where the sources are.
    pub from: CopyFrom,
    /// Sources, each a path or a glob (Go's filepath.Match), relative to the root of `from`.
    pub sources: Vec<String>,
    /// Absolute destination path in the image. A slash at its end means: a directory.
    pub destination: String,
    /// `--chown`, variables expanded: names or numbers.
    pub chown: Option<String>,
    /// `--chmod`: at most 07777.
    pub chmod: Option<u32>,
}

/// Where COPY copies from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFrom {
    /// The build context.
    Context,
    /// A stage: an index into [`Plan::stages`].
    Stage(usize),
    /// An image: the string that `Graph::images` gave for it.
    Image(String),
}

/// What RUN runs, and in which surroundings.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Program and arguments; the shell form has the shell in front already.
    pub args: Vec<String>,
    /// Environment, "NAME=value": that of the configuration, then the ARGs. The runtime adds HOME where it is missing.
    pub env: Vec<String>,
    /// Variables that are given to the command, but count neither in the cache key nor in the history: the predefined proxy
    /// ARGs that the Dockerfile does not declare.
    pub uncached_env: Vec<String>,
    /// Absolute working directory.
    pub cwd: String,
    /// `USER` as it is here ("" is root).
    pub user: String,
}

/// What `lower` needs to know about an image that the Dockerfile names.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseImage {
    /// Its configuration.
    pub config: ImageConfig,
}

impl StagePlan {
    /// Returns how a container of this stage is run.
    pub fn exec(&self) -> &ExecConfig {
        &self.config.config
    }
}
