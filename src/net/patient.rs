use std::time::{Duration, Instant};

use ureq::unversioned::transport::time::Duration as Limit;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};
use ureq::{Error, Timeout};

use super::agent::Cancel;
use super::error::NetError;

/// How long a wait for the network may go on after the user has had enough.
const GLANCE: Duration = Duration::from_millis(200);

/// Wraps connections, so that waiting for bytes ends soon after the flag is set.
#[derive(Debug)]
pub(super) struct Patient(pub(super) Cancel);

impl<In: Transport> Connector<In> for Patient {
    type Out = Waiting<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if self.0.is_set() {
            return Err(cancelled());
        }
        Ok(chained.map(|inner| Waiting { inner, cancel: self.0.clone() }))
    }
}

/// A connection that looks up from waiting now and then.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    inner: T,
    cancel: Cancel,
}

impl<T: Transport> Transport for Waiting<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.cancel.is_set() {
            return Err(cancelled());
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let limit = if timeout.after.is_not_happening() { None } else { Some(*timeout.after) };
        let start = Instant::now();
        loop {
            if self.cancel.is_set() {
                return Err(cancelled());
            }
            let left = match limit {
                Some(limit) => limit.saturating_sub(start.elapsed()),
                None => GLANCE,
            };
            if left.is_zero() {
                return Err(Error::Timeout(timeout.reason));
            }
            let slice = NextTimeout {
                after: Limit::Exact(left.min(GLANCE)),
                reason: Timeout::PerRead,
                per_read: None,
                per_write: timeout.per_write,
            };
            match self.inner.await_input(slice) {
                Err(Error::Timeout(Timeout::PerRead)) => {}
                other => return other,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn cancelled() -> Error {
    Error::Other(Box::new(NetError::Cancelled))
}
