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
}

impl Default for Directives {
    fn default() -> Self {
        Directives { escape: '\\', syntax: None }
    }
}

/// FROM, and what follows up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What it stands on: an image, an earlier stage or `scratch`.
    pub from: Word,
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
pub enum Instruction {
    /// ARG, one or more.
    Arg(Vec<Arg>),
    /// ENV. All of its pairs see the values from before it.
    Env(Vec<Pair>),
    /// LABEL.
    Label(Vec<Pair>),
    /// WORKDIR.
    Workdir(Word),
    /// COPY.
    Copy(Copy),
    /// RUN.
    Run(CommandLine),
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

/// COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// `--from`: a stage, the number of a stage, or an image. Nothing in it is expanded.
    pub from: Option<Word>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// At least one.
    pub sources: Vec<Word>,
    /// Where to.
    pub destination: Word,
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
            Instruction::Copy(_) => "COPY",
            Instruction::Run(_) => "RUN",
            Instruction::User(_) => "USER",
            Instruction::Cmd(_) => "CMD",
            Instruction::Entrypoint(_) => "ENTRYPOINT",
            Instruction::Expose(_) => "EXPOSE",
            Instruction::Volume(_) => "VOLUME",
            Instruction::StopSignal(_) => "STOPSIGNAL",
            Instruction::Shell(_) => "SHELL",
            Instruction::Maintainer(_) => "MAINTAINER",
        }
    }
}
