use std::time::Duration;

use super::RegistryError;
use crate::net::{Agent, Budget};
use crate::progress::{Event, Sink};

/// Whoever came this far since the last failure may fail as often as at the beginning.
const PROGRESS: u64 = 1 << 20;

/// Waits between the attempts at one transfer, until there have been enough of them.
pub(super) struct Patience<'a> {
    agent: &'a Agent,
    /// What the requests of the transfer have in common with it.
    budget: Budget,
    /// How far the transfer was at the last failure.
    mark: u64,
}

impl<'a> Patience<'a> {
    /// Returns that of a transfer that begins `mark` bytes from its start.
    pub fn new(agent: &'a Agent, mark: u64) -> Self {
        Patience { agent, budget: Budget::default(), mark }
    }

    /// Returns what each request of the transfer is to have for its own retries.
    pub fn budget(&self) -> &Budget {
        &self.budget
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
            self.budget.renew();
        }
        self.mark = self.mark.max(at);
        let Some(wait) = self.budget.spend(&self.agent.options().retry, asked) else { return Err(error) };
        if let Some(sink) = sink {
            let message = format!("{error}; trying again in {} s", wait.as_secs().max(1));
            sink.emit(Event::Warning { message, line: None });
        }
        self.agent.wait(wait)?;
        Ok(())
    }
}
