use std::time::Duration;

use super::RegistryError;
use crate::net::Agent;
use crate::progress::{Event, Sink};

/// Whoever came this far since the last failure may fail as often as at the beginning.
const PROGRESS: u64 = 1 << 20;

/// Waits between the attempts at one transfer, until there have been enough of them.
pub(super) struct Patience<'a> {
    agent: &'a Agent,
    failed: u32,
    waited: Duration,
    /// How far the transfer was at the last failure.
    mark: u64,
}

impl<'a> Patience<'a> {
    /// Returns that of a transfer that begins `mark` bytes from its start.
    pub fn new(agent: &'a Agent, mark: u64) -> Self {
        Patience { agent, failed: 0, waited: Duration::ZERO, mark }
    }

    /// Waits after a failure, at `at` bytes from the start; the peer asked to be left alone for the time `asked`. Tells `sink` why.
    ///
    /// # Errors
    /// `error`, where it is not to be tried again.
    pub fn wait(
        &mut self,
        error: RegistryError,
        asked: Option<Duration>,
        at: u64,
        sink: Option<&dyn Sink>,
    ) -> Result<(), RegistryError> {
        if at >= self.mark.saturating_add(PROGRESS) {
            (self.failed, self.waited) = (0, Duration::ZERO);
        }
        self.mark = self.mark.max(at);
        self.failed += 1;
        let Some(wait) = self.agent.options().retry.wait(self.failed, asked, self.waited) else { return Err(error) };
        if let Some(sink) = sink {
            let message = format!("{error}; trying again in {} s", wait.as_secs().max(1));
            sink.emit(Event::Warning { message, line: None });
        }
        self.agent.wait(wait)?;
        self.waited += wait;
        Ok(())
    }
}
