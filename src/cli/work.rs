//! What the verbs that run or unpack something have in common: the signals, the display.

use std::sync::Arc;

use coracle_runtime::container::Control;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::progress::Progress;
use super::report::ExitStatus;

/// How long an interrupted build may take to clean up.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(1800);

/// Returns what is to be called once the process may have threads: from then on a signal ends the steps, and the terminal is
/// redrawn.
pub(super) fn on_enter(control: &Arc<Control>, progress: &Arc<Progress>) -> impl Fn() + use<> {
    let (control, progress) = (Arc::clone(control), Arc::clone(progress));
    move || {
        watch_signals(&control);
        progress.start_ticking();
    }
}

/// Ends what runs on SIGINT, SIGTERM and SIGHUP; a second signal ends this process at once.
fn watch_signals(control: &Arc<Control>) {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    let control = Arc::clone(control);
    std::thread::spawn(move || {
        let mut before = false;
        for signal in signals.forever() {
            // A shell has the terminal, and hears of it itself.
            if signal == SIGINT && control.is_attended() {
                continue;
            }
            if before {
                std::process::exit(ExitStatus::Interrupted.code().into());
            }
            before = true;
            control.kill();
            // Steps end at once, and what copies or packs looks up often. An export to a slow disk may not: it is left as it is, under
            // a temporary name.
            std::thread::spawn(|| {
                std::thread::sleep(PATIENCE);
                std::process::exit(ExitStatus::Interrupted.code().into());
            });
        }
    });
}
