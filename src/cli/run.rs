//! `coracle run`: an image in the foreground.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use coracle_runtime::container::{Control, Exit};
use coracle_runtime::probe::Wanted;
use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use super::classify::{BuildProblem, FileLost};
use super::report::{ExitStatus, Failure, Style};
use super::request::RunRequest;
use super::text::visible;
use super::{names, say};
use crate::build::{Builder, Command, Isolation, OnFailure, not_started};
use crate::oci::ExecConfig;
use crate::progress::{Event, Sink};
use crate::store::Store;

/// Runs the command and ends as it ends.
pub(super) fn run(request: &RunRequest, style: Style) -> Result<ExitCode, Failure> {
    let store = Store::open(&request.root)?;
    let image = names::find(&store, &request.image)?;
    let command = command(request, &image.config.config)?;
    let control = Arc::new(Control::new());
    let ended_by = Arc::new(AtomicI32::new(0));
    let on_enter = || forward_signals(&control, &ended_by);
    let mut builder = Builder {
        store: &store,
        sink: &Warnings,
        control: &control,
        isolation: Isolation::Undecided(Wanted::Any),
        on_enter: &on_enter,
        remote: None,
        journal: Arc::default(),
        on_failure: OnFailure::Nothing,
        ship: None,
    };
    for volume in &request.volumes {
        let lost = |source| FileLost { call: "find the volume", path: volume.source.display().to_string(), source };
        std::fs::metadata(&volume.source).map_err(lost)?;
    }
    for note in &request.notes {
        say(&format!("{note}\n"));
    }
    let exit = builder.run(&image, &command, &request.volumes)?;
    if let Exit::NotStarted { errno, what, path } = &exit {
        say(&Failure::from(not_started(errno.raw(), *what, path)).report(style));
    }
    let exit = match (exit, ended_by.load(Ordering::SeqCst)) {
        (Exit::Signal(SIGKILL), signal) if signal != 0 => Exit::Signal(signal),
        (exit, _) => exit,
    };
    Ok(ExitCode::from(u8::try_from(exit.status()).unwrap_or(ExitStatus::Fault.code())))
}

/// Prints warnings, and nothing else: the output belongs to the command.
#[derive(Debug)]
struct Warnings;

impl Sink for Warnings {
    fn emit(&self, event: Event) {
        if let Event::Warning { message, .. } = event {
            say(&format!("warning: {}\n", visible(&message)));
        }
    }
}

/// Works out what to run: the user's word, else the image's.
fn command(request: &RunRequest, config: &ExecConfig) -> Result<Command, Failure> {
    let mut args: Vec<std::ffi::OsString> = match &request.entrypoint {
        Some(words) => words.iter().map(Into::into).collect(),
        None => config.entrypoint.iter().flatten().map(Into::into).collect(),
    };
    if !request.command.is_empty() {
        args.extend(request.command.iter().cloned());
    } else if request.entrypoint.is_none() {
        args.extend(config.cmd.iter().flatten().map(std::ffi::OsString::from));
    }
    if args.is_empty() {
        return Err(BuildProblem::NoCommand { image: request.image.clone() }.into());
    }
    let mut env = config.clone();
    for (name, value) in &request.env {
        env.set_env(name, value);
    }
    let cwd = match (&request.workdir, config.working_dir.as_str()) {
        (Some(dir), _) => dir.clone(),
        (None, "") => "/".into(),
        (None, dir) => dir.into(),
    };
    let user = request.user.clone().unwrap_or_else(|| config.user.clone());
    let env = env.env.into_iter().map(Into::into).collect();
    Ok(Command { args, env, cwd, user, limits: request.limits.clone(), around: request.around.clone() })
}

/// Passes signals on to the command. One that would end any other program ends this one too, though it is process 1 of its
/// namespace: nobody else could. `ended_by` is told which.
fn forward_signals(control: &Arc<Control>, ended_by: &Arc<AtomicI32>) {
    let passed = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];
    let Ok(mut signals) = Signals::new(passed) else { return };
    let (control, ended_by) = (Arc::clone(control), Arc::clone(ended_by));
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if control.is_spared(signal) {
                ended_by.store(signal, Ordering::SeqCst);
                control.signal(SIGKILL);
            } else {
                control.signal(signal);
            }
        }
    });
}
