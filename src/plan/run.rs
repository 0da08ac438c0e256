//! RUN.

use super::graph::Origin;
use super::lower::Context;
use super::mount::{self, Surroundings};
use super::stage::{Said, StageState};
use super::{Network, Op, Run, Script};
use crate::dockerfile::{self, CommandLine, Heredoc, is_opening};
use crate::source::{Diagnostic, Span};

impl StageState {
    /// Returns what `run` does; `written` is the instruction as it is written, at `span`.
    pub(super) fn run(
        &self,
        run: &dockerfile::Run,
        (written, span): (&str, Span),
        origins: &dyn Fn(usize) -> Option<Origin>,
        context: &mut Context<'_>,
    ) -> Result<Said, Diagnostic> {
        let Command { line, script, text } = command(run, written);
        if let Some(script) = &script
            && let Some(interpreter) = carriage_return(&script.text)
        {
            let message = format!("`{interpreter}` ends with a carriage return: there is no interpreter of that name");
            let warning = Diagnostic::warning(message).at(span).hint("save the file with the line ends of Unix");
            context.warnings.push(warning);
        }
        let args = self.arguments(&line);
        let mut created_by = String::from("RUN ");
        let declared = self.args.iter().count();
        if declared > 0 {
            created_by.push_str(&format!("|{declared} "));
            for (name, _) in self.args.iter() {
                created_by.push_str(&format!("{name}={} ", self.visible.get(name).unwrap_or_default()));
            }
        }
        created_by.push_str(&args.join(" "));
        created_by.push_str(" # buildkit");

        // The environment of the configuration first, then the ARGs; a name once, with what was set last.
        let configured = self.environment.iter().map(|(name, value)| (name, self.visible.get(name).unwrap_or(value)));
        let arguments = self.visible.iter().filter(|(name, _)| !self.environment.contains(name));
        let env = configured.chain(arguments).map(|(name, value)| format!("{name}={value}")).collect();
        // They win against ENV, as with BuildKit.
        let proxies = context.proxies.iter().filter(|(name, value)| self.visible.get(name) != Some(value.as_str()));
        let uncached_env = proxies.map(|(name, value)| format!("{name}={value}")).collect();

        let cwd = self.cwd();
        let mut mounts = Vec::with_capacity(run.mounts.len());
        let mut agents = 0;
        for (number, word) in run.mounts.iter().enumerate() {
            let surroundings = Surroundings { cwd: &cwd, origin: origins(number), agents: &mut agents };
            mounts.push(mount::read(word, surroundings, self, context)?);
        }
        let network = match run.network.as_ref().map(|word| word.text.as_str()) {
            Some("none") => Network::None,
            Some("host") => Network::Host,
            _ => Network::Default,
        };
        let user = self.config.config.user.clone();
        let hostname = context.hostname.map(str::to_owned);
        let run = Run { args, env, uncached_env, cwd, user, mounts, network, hostname, script };
        Ok(Said { created_by, text, op: Op::Run(run) })
    }
}

/// A command with its here-documents taken in.
struct Command {
    line: CommandLine,
    script: Option<Script>,
    /// How it is shown, where that is not as it is written.
    text: Option<String>,
}

fn command(run: &dockerfile::Run, written: &str) -> Command {
    let (CommandLine::Shell(line), [first, ..]) = (&run.command, run.heredocs.as_slice()) else {
        return Command { line: run.command.clone(), script: None, text: None };
    };
    if !is_opening(line) {
        // The shell knows what to do with them.
        let mut whole = line.clone();
        for Heredoc { name, body, .. } in &run.heredocs {
            whole.extend(["\n", body, name]);
        }
        return Command { line: CommandLine::Shell(whole), script: None, text: None };
    }
    // Nothing but a here-document: that is the script. Whether its name is quoted does not matter: the shell expands, or nobody does.
    let text = first.text().into_owned();
    let shown = Some(format!("RUN{} ({})", written.get(3..).unwrap_or_default(), summary(&text)));
    if text.starts_with("#!") {
        let script = Script { name: first.name.clone(), text };
        return Command { line: CommandLine::Shell(script.path()), script: Some(script), text: shown };
    }
    Command { line: CommandLine::Shell(text), script: None, text: shown }
}

/// Returns the first line of a script where it ends as lines of Windows do: the kernel takes that for part of a name, here as with
/// BuildKit.
fn carriage_return(text: &str) -> Option<&str> {
    text.split('\n').next()?.strip_suffix('\r')
}

/// Returns the first line of a script, and a sign that there are more.
fn summary(text: &str) -> String {
    let mut lines = text.trim().lines();
    let first = lines.next().unwrap_or_default();
    if lines.next().is_some() { format!("{first}...") } else { first.into() }
}
