//! Flags, words and exit codes.
//!
//! This room decides nothing about images. It is the only one that prints, reads the environment, or knows exit codes.
//! A verb goes through it in four steps: [`args`] is what was typed, [`request`] what that means in this
//! [`environment`], a file with the name of the verb calls the rooms, and [`report`] says how it ended.

pub mod args;
mod attested;
mod changes;
pub mod classify;
pub mod environment;
pub mod progress;
pub mod report;
pub mod request;
pub mod table;
pub mod template;
pub mod text;

mod arriving;
mod bases;
mod build;
mod bundle;
mod bundled;
mod caches;
mod call;
mod context_ls;
mod copy;
mod diff;
mod doctor;
mod dress;
mod early;
mod elsewhere;
mod finder;
mod findings;
mod given;
mod images;
mod info;
mod inspect;
mod lists;
mod lock;
mod locked;
mod login;
mod manifest;
mod named;
mod names;
mod needs;
mod outputs;
mod plan;
mod platforms;
mod product;
mod provenance;
mod prune;
mod pull;
mod push;
mod registry;
mod remote_cache;
mod result;
mod run;
mod scan;
mod sources;
mod unshare;
mod version;
mod volumes;
mod work;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use args::Verb;
use classify::OutputLost;
use environment::Environment;
use progress::Mode;
use report::{ExitStatus, Failure, Style};
use request::Request;

/// Runs the program with the arguments and the environment of this process, and returns its exit code.
pub fn main() -> ExitCode {
    let environment = Environment::capture();
    let style = if environment.colour() { Style::Colour } else { Style::Plain };
    std::panic::set_hook(Box::new(move |panic| {
        // A panic is our fault, and the user must see that it is. The payload may hold anything.
        let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
        let payload = panic.payload();
        let words = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        let words = words.unwrap_or("no reason given");
        say(&format!(
            "{} this is a fault of coracle: {}{place}\n  = hint: please report it, with what you did\n",
            style.paint("1;31", "error:"),
            text::visible(words)
        ));
    }));
    catch_unwind(AssertUnwindSafe(|| start(&environment, style))).unwrap_or(ExitStatus::Fault.into())
}

fn start(environment: &Environment, style: Style) -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // --help goes to standard output; that nobody reads on is no failure.
            let printed = error.print().and_then(|()| std::io::stdout().flush());
            return match printed {
                _ if error.use_stderr() => ExitStatus::Usage.into(),
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => lost(error, style),
                _ => ExitStatus::Done.into(),
            };
        }
    };
    let json = matches!(&cli.verb, Verb::Build(build) if build.progress == Mode::Json);
    let done =
        Request::new(cli, environment).map_err(Failure::from).and_then(|request| dispatch(request, environment, style));
    done.unwrap_or_else(|failure| {
        if json {
            say(&progress::error_line(jiff::Timestamp::now(), &failure).unwrap_or_default());
        } else {
            say(&failure.report(style));
        }
        failure.status().into()
    })
}

fn lost(error: std::io::Error, style: Style) -> ExitCode {
    let failure = Failure::from(OutputLost(error));
    say(&failure.report(style));
    failure.status().into()
}

/// Calls the verb. Returns the exit code: another one than 0 for the command of `run` and `unshare`, for findings of `--check`, and for
/// `--plan-exit-code`.
fn dispatch(request: Request, environment: &Environment, style: Style) -> Result<ExitCode, Failure> {
    let mode = Mode::Auto.resolve(environment.terminal());
    match request {
        Request::Build(request) => build::build(&request),
        Request::Lock(request) => lock::lock(&request, mode, style),
        Request::BundleCreate(request) => bundle::create(&request, mode, style),
        Request::BundleLs(request) => bundle::ls(&request),
        Request::Run(request) => run::run(&request, style),
        Request::Pull(request) => pull::pull(&request, mode, style),
        Request::Push(request) => push::run(&request, mode, style),
        Request::Copy(request) => copy::copy(&request, mode, style),
        Request::Save(request) => copy::save(&request, mode, style),
        Request::Load(request) => copy::load(&request, mode, style),
        Request::Login(request) => login::login(&request),
        Request::Logout(request) => login::logout(&request),
        Request::Images(request) => images::images(&request),
        Request::Inspect(request) => inspect::inspect(&request),
        Request::History(request) => inspect::history(&request),
        Request::Tag(request) => images::tag(&request),
        Request::Untag(request) => images::untag(&request),
        Request::Rmi(request) => images::rmi(&request),
        Request::Diff(request) => diff::diff(&request),
        Request::Manifest(request) => manifest::manifest(&request, mode, style),
        Request::Prune(request) => prune::prune(&request),
        Request::Cache(request) => caches::cache(&request, style),
        Request::Df(request) => prune::df(&request),
        Request::ContextLs(request) => context_ls::context_ls(&request),
        Request::Version(request) => version::version(&request).map(|()| ExitCode::SUCCESS),
        Request::Doctor(request) => doctor::doctor(&request),
        Request::Info(request) => info::info(&request),
        Request::Unshare(request) => unshare::unshare(&request, style),
    }
}

/// Writes the result of a verb to standard output.
///
/// # Errors
/// A silent one with exit code 0 where the reader has gone (`coracle images | head -1`): it has all that it wanted.
/// [`OutputLost`] for others.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::silent(ExitStatus::Done)),
        Err(error) => Err(OutputLost(error).into()),
    }
}

/// Writes to standard error. Where that is gone there is nobody to tell.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
