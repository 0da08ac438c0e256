//! `coracle login` and `coracle logout`: credentials for registries, in the file that podman, buildah and skopeo use too.

use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::classify::{FileLost, LoginProblem};
use super::registry::LazyClient;
use super::report::{ExitStatus, Failure};
use super::request::{LoginAction, LoginRequest, LogoutRequest, PasswordFrom};
use super::{print, say};
use crate::config::{self, Credentials, GivenCredentials, Secret};
use crate::net::Cancel;

/// The longest name or password, in bytes: tokens of cloud providers have some thousand.
const MAX_SECRET: u64 = 64 << 10;

/// Asks the registry whether it accepts the credentials, and keeps them if it does.
pub(super) fn login(request: &LoginRequest) -> Result<ExitCode, Failure> {
    let (registry, places) = (&request.registry, &request.access.places);
    let (user, from) = match &request.action {
        LoginAction::Show => {
            return match config::logged_in(places, registry)? {
                Some(user) => print(&format!("{user}\n")).map(|()| ExitCode::SUCCESS),
                None => Err(LoginProblem::NotLoggedIn { registry: registry.clone() }.into()),
            };
        }
        LoginAction::LogIn { user, password } => (user.clone(), *password),
    };
    let user = match user {
        Some(user) => user,
        None => asked("Username: ", Echo::On)?.reveal().to_owned(),
    };
    let password = match from {
        PasswordFrom::Stdin => {
            let mut text = String::new();
            io::stdin().lock().take(MAX_SECRET).read_to_string(&mut text).map_err(stdin_lost)?;
            Secret::new(text.strip_suffix('\n').map_or(text.as_str(), |text| text.trim_end_matches('\r')))
        }
        PasswordFrom::Terminal => asked("Password: ", Echo::Off)?,
    };
    if user.is_empty() || password.reveal().is_empty() {
        return Err(LoginProblem::Empty.into());
    }
    // A file with credentials need not be there yet, and what it says does not count here.
    let mut access = request.access.clone();
    let credentials = Credentials::Basic { user: user.clone(), password: password.clone() };
    access.credentials = Some(GivenCredentials { credentials: credentials.clone(), images: Vec::new() });
    LazyClient::new(&access, Cancel::default()).get()?.check_login(registry, credentials)?;
    let file = config::log_in(places, &request.key, &user, &password)?;
    print(&format!("Login Succeeded! ({user} at {registry}, kept in {})\n", file.display())).map(|()| ExitCode::SUCCESS)
}

/// Forgets the credentials of a registry, or all.
pub(super) fn logout(request: &LogoutRequest) -> Result<ExitCode, Failure> {
    let file = config::log_out(&request.places, request.registry.as_deref())?;
    let what = match &request.registry {
        Some(registry) => format!("Removed login credentials for {registry} from {}\n", file.display()),
        None => format!("Removed login credentials for all registries from {}\n", file.display()),
    };
    print(&what).map(|()| ExitCode::SUCCESS)
}

/// Whether what is typed is seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    On,
    Off,
}

/// Asks the user at the terminal.
fn asked(question: &str, echo: Echo) -> Result<Secret, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(LoginProblem::NoTerminal.into());
    }
    let before = tcgetattr(&stdin).ok().filter(|_| echo == Echo::Off);
    if let Some(before) = &before {
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        restore_on_signals(before.clone());
        // Where it cannot be done it is typed in sight, as anywhere.
        let _ = tcsetattr(&stdin, OptionalActions::Flush, &quiet);
    }
    say(question);
    let mut line = String::new();
    let result = stdin.read_line(&mut line);
    if let Some(before) = &before {
        let _ = tcsetattr(&stdin, OptionalActions::Now, before);
        say("\n");
    }
    let _ = io::stderr().flush();
    result.map_err(stdin_lost)?;
    Ok(Secret::new(line.trim_end_matches(['\n', '\r'])))
}

/// Ends the process on a signal with the terminal as it was: who is asked for a password may give up.
fn restore_on_signals(before: Termios) {
    // Without it the signal ends the process all the same.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT]) else { return };
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
            say("\n");
            signal_hook::low_level::exit(ExitStatus::Interrupted.code().into());
        }
    });
}

fn stdin_lost(source: io::Error) -> Failure {
    FileLost { call: "read", path: "standard input".into(), source }.into()
}
