use std::borrow::Cow;

use crate::source::{Diagnostic, Span};

/// A value and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it is written; for an instruction all of it, flags and continuation lines included.
    pub span: Span,
    /// What is written, continuation lines joined, without white space at either end.
    pub text: String,
}

/// A text that still has its variables, quotes and escapes: [`expand`](super::expand) resolves them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// As written.
    pub text: String,
    /// Where it is written.
    pub span: Span,
}

/// A parsed Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// What the comments at the top say to the parser.
    pub directives: Directives,
    /// The ARGs before the first FROM, in order.
    pub global_args: Vec<Arg>,
    /// The stages, in order. At least one.
    pub stages: Vec<Stage>,
    /// What the user should know, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

/// What the comments at the top say to the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `# escape=`: `\` or `` ` ``.
    pub escape: char,
    /// `# syntax=`: the image of a frontend. It is never fetched.
    pub syntax: Option<Spanned<String>>,
    /// `# check=`: what the checks of the file are told, as written.
    pub check: Option<Spanned<String>>,
}

impl Default for Directives {
    fn default() -> Self {
        Directives { escape: '\\', syntax: None, check: None }
    }
}

/// FROM, and what follows up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What it stands on: an image, an earlier stage or `scratch`.
    pub from: Word,
    /// `--platform`: which image of several.
    pub platform: Option<Word>,
    /// Its name in lower case, where it has one.
    pub name: Option<Spanned<String>>,
    /// The FROM line itself.
    pub span: Span,
    /// What follows, in order.
    pub instructions: Vec<Spanned<Instruction>>,
}

/// An instruction of a stage. Words are not expanded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "a file has few instructions, and most of them are the large ones")]
pub enum Instruction {
    /// ARG, one or more.
    Arg(Vec<Arg>),
    /// ENV. All of its pairs see the values from before it.
    Env(Vec<Pair>),
    /// LABEL.
    Label(Vec<Pair>),
    /// WORKDIR.
    Workdir(Word),
    /// COPY, and ADD.
    Copy(Copy),
    /// RUN.
    Run(Run),
    /// USER.
    User(Word),
    /// CMD.
    Cmd(CommandLine),
    /// ENTRYPOINT.
    Entrypoint(CommandLine),
    /// EXPOSE: each word may become several ports.
    Expose(Vec<Word>),
    /// VOLUME.
    Volume(Vec<Word>),
    /// STOPSIGNAL.
    StopSignal(Word),
    /// SHELL: a program and its arguments, at least one.
    Shell(Vec<String>),
    /// MAINTAINER, which is deprecated.
    Maintainer(String),
    /// HEALTHCHECK.
    Healthcheck(Healthcheck),
    /// ONBUILD.
    OnBuild(OnBuild),
}

/// A variable that the user may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// Its name; nothing in it is expanded.
    pub name: String,
    /// Its default.
    pub default: Option<Word>,
    /// Where both are written.
    pub span: Span,
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name. It may hold variables.
    pub name: Word,
    /// The value.
    pub value: Word,
}

/// COPY, and ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// `--from`: a stage, the number of a stage, an image or a named context. Nothing in it is expanded.
    pub from: Option<Word>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`: "true" or "false".
    pub link: Option<Word>,
    /// `--parents`: "true" or "false".
    pub parents: Option<Word>,
    /// `--exclude`, in order.
    pub exclude: Vec<Word>,
    /// At least one: paths first, then here-documents, which is the order in which they are copied.
    pub sources: Vec<CopySource>,
    /// Where to.
    pub destination: Word,
    /// The flags that ADD alone has; `None` for COPY.
    pub add: Option<AddFlags>,
}

/// What COPY or ADD copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path or a glob; with ADD a URL, too.
    Path(Word),
    /// A text in the Dockerfile itself.
    Heredoc(Heredoc),
}

/// The flags that ADD alone has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddFlags {
    /// `--keep-git-dir`: "true" or "false".
    pub keep_git_dir: Option<Word>,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--unpack`: "true" or "false".
    pub unpack: Option<Word>,
}

/// A here-document: lines that belong to the instruction above them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// Its name, quotes removed.
    pub name: String,
    /// Whether COPY and ADD expand variables in it: its name is not quoted.
    pub expand: bool,
    /// `<<-`: tabs at the start of its lines do not count.
    pub chomp: bool,
    /// The lines as written; ends with a line feed unless empty.
    pub body: String,
    /// Where the lines are written, the last one, which is the name, not included.
    pub span: Span,
}

impl Heredoc {
    /// Returns the text: the lines, without the tabs that do not count.
    ///
    /// ```
    /// use coracle::{dockerfile::Heredoc, source::Span};
    /// let body = "\ta\n\t\tb\tc\n".to_owned();
    /// let heredoc = Heredoc { name: "EOF".into(), expand: true, chomp: true, body, span: Span::default() };
    /// assert_eq!(heredoc.text(), "a\nb\tc\n");
    /// ```
    pub fn text(&self) -> Cow<'_, str> {
        if !self.chomp {
            return Cow::Borrowed(&self.body);
        }
        let lines = self.body.split_inclusive('\n').map(|line| line.trim_start_matches('\t'));
        Cow::Owned(lines.collect())
    }
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is run. A here-document is not in it, but its `<<NAME` is.
    pub command: CommandLine,
    /// The here-documents that the command opens, in order. None where it is a JSON array.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order: options with commas between them.
    pub mounts: Vec<Word>,
    /// `--network`.
    pub network: Option<Word>,
    /// `--security`.
    pub security: Option<Word>,
}

/// HEALTHCHECK. Nothing in it is expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// What is run to see whether the container is well; `None` for NONE.
    pub check: Option<CommandLine>,
    /// `--interval`, nanoseconds; 0 where it is not given.
    pub interval: u64,
    /// `--timeout`, nanoseconds; 0 where it is not given.
    pub timeout: u64,
    /// `--start-period`, nanoseconds; 0 where it is not given.
    pub start_period: u64,
    /// `--start-interval`, nanoseconds; 0 where it is not given.
    pub start_interval: u64,
    /// `--retries`; 0 where it is not given.
    pub retries: u32,
}

/// ONBUILD: an instruction for the stages and images that stand on this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnBuild {
    /// The instruction in one line, with its here-documents behind it, as the configuration of an image holds it.
    pub trigger: String,
    /// The instruction, as it was read here.
    pub instruction: Box<Spanned<Instruction>>,
}

/// The command of RUN, CMD and ENTRYPOINT. Its variables are the shell's, not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// A text for the shell.
    Shell(String),
    /// A program and its arguments, from a JSON array.
    Exec(Vec<String>),
}

impl Instruction {
    /// Returns the keyword, in capitals.
    pub fn keyword(&self) -> &'static str {
        match self {
            Instruction::Arg(_) => "ARG",
            Instruction::Env(_) => "ENV",
            Instruction::Label(_) => "LABEL",
            Instruction::Workdir(_) => "WORKDIR",
            Instruction::Copy(Copy { add: None, .. }) => "COPY",
            Instruction::Copy(_) => "ADD",
            Instruction::Run(_) => "RUN",
            Instruction::User(_) => "USER",
            Instruction::Cmd(_) => "CMD",
            Instruction::Entrypoint(_) => "ENTRYPOINT",
            Instruction::Expose(_) => "EXPOSE",
            Instruction::Volume(_) => "VOLUME",
            Instruction::StopSignal(_) => "STOPSIGNAL",
            Instruction::Shell(_) => "SHELL",
            Instruction::Maintainer(_) => "MAINTAINER",
            Instruction::Healthcheck(_) => "HEALTHCHECK",
            Instruction::OnBuild(_) => "ONBUILD",
        }
    }
}
