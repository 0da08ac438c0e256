//! What each instruction does to a stage; COPY, ADD and RUN have files of their own.

use super::config::{environment, present};
use super::env::Variables;
use super::gostring::{plain_list, quoted_list};
use super::graph::{Origin, expand_with};
use super::lower::Context;
use super::{CopyFrom, Op, Step, expose, health, path, signal};
use crate::dockerfile::{Arg, CommandLine, Instruction, Pair, Spanned, Word, expand_words};
use crate::oci::{History, ImageConfig};
use crate::source::Diagnostic;

/// What BuildKit writes into the history of all that comes from a Dockerfile.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// ARGs that speak to the builder and are no environment of a RUN.
const NOT_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// A stage up to some instruction.
#[derive(Debug, Clone)]
pub(super) struct StageState {
    /// The configuration, but for its environment.
    pub(super) config: ImageConfig,
    /// The environment of the configuration.
    pub(super) environment: Variables,
    /// What words and RUN see: the environment and the ARGs, whichever was set later.
    pub(super) visible: Variables,
    /// The ARGs that were declared, in order; the values do not count.
    pub(super) args: Variables,
    /// Whether this stage has a CMD of its own.
    has_cmd: bool,
}

/// What an instruction says once it is expanded.
pub(super) struct Said {
    /// For the history.
    pub created_by: String,
    /// For the user, where that is not `created_by`.
    pub text: Option<String>,
    pub op: Op,
}

impl Said {
    fn config(created_by: String) -> Self {
        Said { created_by, text: None, op: Op::Config }
    }
}

impl StageState {
    /// Returns a stage that starts with `config`.
    pub fn new(config: ImageConfig) -> Self {
        let environment = environment(&config);
        let visible = environment.clone();
        let mut state = StageState { config, environment, visible, args: Variables::default(), has_cmd: false };
        let workdir = &mut state.config.config.working_dir;
        if !workdir.is_empty() {
            *workdir = path::absolute("/", workdir);
        }
        state
    }

    /// Returns a stage that stands on this one: it sees the ARGs of this one, too.
    pub fn inherit(self) -> Self {
        let mut state = StageState { has_cmd: false, ..self };
        // The triggers of the stage below are done in this one, and not handed on.
        state.config.config.on_build.clear();
        // FROM sets what the configuration says anew: it wins over an ARG of the same name in the stage below.
        for (name, value) in state.environment.iter() {
            state.visible.set(name, value);
        }
        state
    }

    /// Returns the configuration as it is now.
    pub fn into_config(mut self) -> ImageConfig {
        self.config.config.env = self.environment.to_strings();
        self.config
    }

    /// Returns about how many bytes this takes.
    pub fn size(&self) -> usize {
        let history = self.config.history.iter().map(|entry| entry.created_by.as_ref().map_or(0, String::len) + 200);
        let variables = self.visible.iter().map(|(name, value)| name.len() + value.len() + 100);
        history.sum::<usize>() + variables.sum::<usize>()
    }

    /// Applies `instruction` and returns its step; ONBUILD is none. `origins` says what its `--from` means: that of COPY, or that of the mount of which
    /// it is given the number.
    ///
    /// # Errors
    /// It cannot be expanded, or makes no sense then. There is no step; what comes after can still be looked at.
    pub fn apply(
        &mut self,
        instruction: &Spanned<Instruction>,
        origins: &dyn Fn(usize) -> Option<Origin>,
        context: &mut Context<'_>,
    ) -> Result<Option<Step>, Diagnostic> {
        let span = instruction.span;
        let said = match &instruction.value {
            Instruction::Arg(args) => self.arg(args, context)?,
            Instruction::Env(pairs) => self.env(pairs, context)?,
            Instruction::Label(pairs) => self.label(pairs, context)?,
            Instruction::Workdir(word) => self.workdir(word, context)?,
            Instruction::Copy(copy) => self.copy(copy, origins(0).as_ref(), context)?,
            Instruction::Run(run) => self.run(run, (&instruction.text, span), origins, context)?,
            Instruction::User(word) => self.user(word, context)?,
            Instruction::Cmd(line) => {
                let args = self.arguments(line);
                let created_by = format!("CMD {}", quoted_list(&args));
                self.config.config.cmd = Some(args);
                self.config.config.other.insert("ArgsEscaped".into(), true.into());
                self.has_cmd = true;
                Said::config(created_by)
            }
            Instruction::Entrypoint(line) => {
                let args = self.arguments(line);
                let created_by = format!("ENTRYPOINT {}", quoted_list(&args));
                // An empty one takes back that of the base.
                self.config.config.entrypoint = (!args.is_empty()).then_some(args);
                if !self.has_cmd {
                    self.config.config.cmd = None;
                }
                Said::config(created_by)
            }
            Instruction::Expose(words) => self.expose(words, context)?,
            Instruction::Volume(words) => self.volume(words, context)?,
            Instruction::StopSignal(word) => {
                let name = self.expand(word, context)?;
                if !signal::is_signal(&name) {
                    return Err(Diagnostic::error(format!("`{name}` is not a signal"))
                        .at(word.span)
                        .hint("as in SIGTERM or 9"));
                }
                let created_by = format!("STOPSIGNAL {name}");
                self.config.config.stop_signal = Some(name);
                Said::config(created_by)
            }
            Instruction::Shell(shell) => {
                self.config.config.shell = Some(shell.clone());
                Said::config(format!("SHELL {}", plain_list(shell)))
            }
            Instruction::Maintainer(name) => {
                self.config.author = Some(name.clone());
                Said::config(format!("MAINTAINER {name}"))
            }
            Instruction::Healthcheck(check) => {
                let (value, created_by) = health::stored(check);
                self.config.config.other.insert("Healthcheck".into(), value);
                Said::config(created_by)
            }
            Instruction::OnBuild(on_build) => {
                // It leaves no trace in the history.
                context.charge(2 * on_build.trigger.len() + 100, span)?;
                self.config.config.on_build.push(on_build.trigger.clone());
                return Ok(None);
            }
        };
        let text = match (&instruction.value, said.text) {
            (_, Some(text)) => text,
            // Nothing in these is expanded: they are shown as written.
            (
                Instruction::Run(_)
                | Instruction::Cmd(_)
                | Instruction::Entrypoint(_)
                | Instruction::Shell(_)
                | Instruction::Healthcheck(_),
                None,
            ) => shown(instruction),
            (_, None) => said.created_by.clone(),
        };
        let environment = match &said.op {
            Op::Run(run) => run.env.iter().map(|entry| entry.len() + 24).sum(),
            _ => 0,
        };
        context.charge(2 * said.created_by.len() + text.len() + environment + 400, span)?;
        self.config.history.push(History {
            created_by: Some(said.created_by.clone()),
            comment: Some(COMMENT.into()),
            empty_layer: said.op == Op::Config,
            ..History::default()
        });
        Ok(Some(Step { id: context.step(), span, text, created_by: said.created_by, op: said.op }))
    }

    pub(super) fn expand(&self, word: &Word, context: &mut Context<'_>) -> Result<String, Diagnostic> {
        let expanded = expand_with(word, &self.visible, context.escape)?;
        context.charge(expanded.len(), word.span)?;
        Ok(expanded)
    }

    fn arg(&mut self, args: &[Arg], context: &mut Context<'_>) -> Result<Said, Diagnostic> {
        let mut created_by = String::from("ARG");
        for arg in args {
            // A value from outside beats the default, and that beats the ARG before the first FROM.
            let value = match (context.build_args.get(arg.name.as_str()), &arg.default) {
                (Some(&given), _) => Some(given.to_owned()),
                (None, Some(default)) => Some(self.expand(default, context)?),
                (None, None) => context.globals.get(&arg.name).map(str::to_owned),
            };
            self.args.set(&arg.name, "");
            created_by.push(' ');
            created_by.push_str(&arg.name);
            if let Some(value) = value {
                created_by.push('=');
                created_by.push_str(&value);
                if !NOT_ENVIRONMENT.contains(&arg.name.as_str()) {
                    self.visible.set(&arg.name, &value);
                }
            }
        }
        Ok(Said::config(created_by))
    }

    /// Returns `pairs` expanded, all with the values from before the instruction.
    fn pairs(&self, pairs: &[Pair], context: &mut Context<'_>) -> Result<Vec<(String, String)>, Diagnostic> {
        let pair = |pair: &Pair| {
            let name = self.expand(&pair.name, context)?;
            if name.is_empty() {
                return Err(Diagnostic::error("the name is empty after expansion").at(pair.name.span));
            }
            Ok((name, self.expand(&pair.value, context)?))
        };
        pairs.iter().map(pair).collect()
    }

    fn env(&mut self, pairs: &[Pair], context: &mut Context<'_>) -> Result<Said, Diagnostic> {
        let mut created_by = String::from("ENV");
        for (name, value) in self.pairs(pairs, context)? {
            created_by.push_str(&format!(" {name}={value}"));
            self.environment.set(&name, &value);
            self.visible.set(&name, &value);
        }
        Ok(Said::config(created_by))
    }

    fn label(&mut self, pairs: &[Pair], context: &mut Context<'_>) -> Result<Said, Diagnostic> {
        let mut created_by = String::from("LABEL");
        for (name, value) in self.pairs(pairs, context)? {
            created_by.push_str(&format!(" {name}={value}"));
            self.config.config.labels.insert(name, value);
        }
        Ok(Said::config(created_by))
    }

    fn workdir(&mut self, word: &Word, context: &mut Context<'_>) -> Result<Said, Diagnostic> {
        let written = self.expand(word, context)?;
        let directory = path::absolute(
            &self.config.config.working_dir,
            match written.as_str() {
                "" => ".",
                written => written,
            },
        );
        let created_by = format!("WORKDIR {directory}");
        self.config.config.working_dir = directory;
        let op = match self.cwd().as_str() {
            "/" => Op::Config,
            path => Op::Workdir { path: path.into(), user: self.config.config.user.clone() },
        };
        Ok(Said { created_by, text: None, op })
    }

    /// Returns the working directory of commands, without a slash at its end.
    pub(super) fn cwd(&self) -> String {
        match self.config.config.working_dir.trim_end_matches('/') {
            "" => "/".into(),
            directory => directory.into(),
        }
    }

    fn user(&mut self, word: &Word, context: &mut Context<'_>) -> Result<Said, Diagnostic> {
        let user = self.expand(word, context)?;
        if user.is_empty() {
            let warning = Diagnostic::warning(format!("`{}` is empty after expansion: that is root", word.text));
            context.warnings.push(warning.at(word.span));
        }
        let created_by = format!("USER {user}");
        self.config.config.user = user;
        Ok(Said::config(created_by))
    }

    fn expose(&mut self, words: &[Word], context: &mut Context<'_>) -> Result<Said, Diagnostic> {
        let mut words: Vec<&Word> = words.iter().collect();
        words.sort_by(|a, b| a.text.cmp(&b.text));
        let mut ports = Vec::new();
        for word in words {
            let lookup = |name: &str| self.visible.get(name).map(str::to_owned);
            let specs = expand_words(word, &lookup, context.escape)
                .map_err(|error| Diagnostic::error(error.to_string()).at(word.span))?;
            for spec in specs {
                let more = expose::ports(&spec).map_err(|error| {
                    Diagnostic::error(error.to_string()).at(word.span).hint("as in 80, 53/udp or 8000-8010")
                })?;
                context.charge(more.len() * 40, word.span)?;
                ports.extend(more);
            }
        }
        let created_by = format!("EXPOSE {}", plain_list(&ports));
        self.config.config.exposed_ports.extend(ports.into_iter().map(|port| (port, present())));
        Ok(Said::config(created_by))
    }

    fn volume(&mut self, words: &[Word], context: &mut Context<'_>) -> Result<Said, Diagnostic> {
        let mut paths = Vec::with_capacity(words.len());
        for word in words {
            let path = self.expand(word, context)?;
            if path.is_empty() {
                return Err(Diagnostic::error("a path of VOLUME is empty after expansion").at(word.span));
            }
            paths.push(path);
        }
        let created_by = format!("VOLUME {}", plain_list(&paths));
        self.config.config.volumes.extend(paths.into_iter().map(|path| (path, present())));
        Ok(Said::config(created_by))
    }

    /// Returns program and arguments, with the shell in front of a text for it.
    pub(super) fn arguments(&self, line: &CommandLine) -> Vec<String> {
        match line {
            CommandLine::Exec(args) => args.clone(),
            CommandLine::Shell(text) => {
                let mut args = match &self.config.config.shell {
                    Some(shell) if !shell.is_empty() => shell.clone(),
                    _ => vec!["/bin/sh".into(), "-c".into()],
                };
                args.push(text.clone());
                args
            }
        }
    }
}

/// Returns an instruction as it is written, its keyword in capitals.
fn shown(instruction: &Spanned<Instruction>) -> String {
    let keyword = instruction.value.keyword();
    format!("{keyword}{}", instruction.text.get(keyword.len()..).unwrap_or_default())
}

impl Origin {
    /// Returns where files of this origin are in the plan; `None` for scratch, where there are none.
    pub(super) fn in_plan(&self, context: &Context<'_>) -> Option<CopyFrom> {
        match self {
            Origin::Scratch => None,
            Origin::Stage(stage) => Some(CopyFrom::Stage(context.places[stage])),
            Origin::Image { name, platform } => Some(CopyFrom::Image(context.options.key(name, platform))),
            Origin::Folder(name) => Some(CopyFrom::Named(name.clone())),
        }
    }
}
