use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// How often something is tried again, and how long is waited in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Further attempts after the first. Default: 3.
    pub retries: u32,
    /// The first wait; each one after it is twice as long. Default: one second.
    pub delay: Duration,
    /// The longest wait, also where the peer asks for a longer one. Default: 60 seconds.
    pub max_delay: Duration,
    /// All waits together. Default: five minutes.
    pub total: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            retries: 3,
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            total: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// Returns a policy that tries once.
    pub fn never() -> Self {
        RetryPolicy { retries: 0, ..RetryPolicy::default() }
    }

    /// Returns how long to wait before the attempt after `failed` ones; `None` where there is to be no other.
    ///
    /// `asked` is what the peer said (Retry-After), `waited` the sum of the waits so far. A random part keeps many clients
    /// from coming back at the same moment.
    pub fn wait(&self, failed: u32, asked: Option<Duration>, waited: Duration) -> Option<Duration> {
        if failed == 0 || failed > self.retries {
            return None;
        }
        let jitter = fastrand::f64();
        let wait = match asked {
            // Never earlier than asked for; the cap is there for absurd values.
            Some(asked) => asked.min(self.max_delay).mul_f64(1.0 + jitter / 10.0),
            None => self.delay.saturating_mul(1 << (failed - 1).min(16)).mul_f64(0.5 + jitter / 2.0),
        };
        let wait = wait.min(self.max_delay);
        (waited.saturating_add(wait) <= self.total).then_some(wait)
    }
}

/// What has been spent of a [`RetryPolicy`]: attempts and waits. All that has a clone of it has it in common, so that what is tried again
/// within something that is tried again does not get the whole each time.
#[derive(Debug, Clone, Default)]
pub struct Budget(Arc<Mutex<Spent>>);

#[derive(Debug, Default)]
struct Spent {
    failed: u32,
    waited: Duration,
}

impl Budget {
    /// Counts a failure. Returns how long to wait before the next attempt, and counts that too; `None` where there is to be no other.
    pub fn spend(&self, policy: &RetryPolicy, asked: Option<Duration>) -> Option<Duration> {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spent.failed += 1;
        let wait = policy.wait(spent.failed, asked, spent.waited)?;
        spent.waited += wait;
        Some(wait)
    }

    /// Begins anew, for who has got on.
    pub fn renew(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Spent::default();
    }
}

/// Whether an answer with this status may be another one a little later.
pub(super) fn transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Returns what the value of a Retry-After header asks for: seconds, or a date. Anything else asks for nothing.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long time too.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end() {
        let policy = RetryPolicy { retries: 4, ..RetryPolicy::default() };
        for (failed, least, most) in [(1, 500, 1000), (2, 1000, 2000), (3, 2000, 4000), (4, 4000, 8000)] {
            let wait = policy.wait(failed, None, Duration::ZERO).expect("another attempt").as_millis();
            assert!((least..=most).contains(&wait), "{failed}: {wait} ms");
        }
        assert_eq!(policy.wait(5, None, Duration::ZERO), None);
        assert_eq!(policy.wait(1, None, Duration::from_secs(300)), None);
        assert_eq!(RetryPolicy::never().wait(1, None, Duration::ZERO), None);
    }

    #[test]
    fn what_the_peer_asks_for_is_done_within_limits() {
        let policy = RetryPolicy::default();
        let wait = |asked| policy.wait(1, Some(Duration::from_secs(asked)), Duration::ZERO).expect("another attempt");
        assert!(wait(5) >= Duration::from_secs(5) && wait(5) < Duration::from_secs(6));
        assert_eq!(wait(1_000_000), Duration::from_secs(60));
        assert_eq!(wait(u64::MAX), Duration::from_secs(60));
        assert!(wait(0) < Duration::from_secs(1));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let asked = |value| retry_after(value, now);
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(asked("Thu, 01 Jan 2026 00:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(asked("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        for none in ["", "-1", "soon", "1.5"] {
            assert_eq!(asked(none), None, "{none:?}");
        }
    }
}
