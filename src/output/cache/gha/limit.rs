use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts the time during which a service is used, by one or several at once, and says when that is over a limit.
#[derive(Debug, Clone)]
pub(super) struct Limit(Arc<Mutex<Counted>>);

#[derive(Debug)]
struct Counted {
    limit: Duration,
    spent: Duration,
    users: usize,
    since: Instant,
}

impl Limit {
    pub fn new(limit: Duration) -> Self {
        Limit(Arc::new(Mutex::new(Counted { limit, spent: Duration::ZERO, users: 0, since: Instant::now() })))
    }

    /// Counts as long as the value lives.
    pub fn begin(&self) -> Running {
        self.with(|counted| {
            if counted.users == 0 {
                counted.since = Instant::now();
            }
            counted.users += 1;
        });
        Running(self.clone())
    }

    /// Returns the limit, where it is reached.
    pub fn reached(&self) -> Option<Duration> {
        self.with(|counted| {
            let running = if counted.users > 0 { counted.since.elapsed() } else { Duration::ZERO };
            (counted.spent + running >= counted.limit).then_some(counted.limit)
        })
    }

    fn with<R>(&self, act: impl FnOnce(&mut Counted) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Time that counts.
#[derive(Debug)]
pub(super) struct Running(Limit);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.with(|counted| {
            counted.users -= 1;
            if counted.users == 0 {
                counted.spent += counted.since.elapsed();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_once_and_only_while_it_is_used() {
        let limit = Limit::new(Duration::from_millis(200));
        let sleep = |millis| std::thread::sleep(Duration::from_millis(millis));
        let (one, two) = (limit.begin(), limit.begin());
        sleep(120);
        drop((one, two));
        sleep(250);
        assert_eq!(limit.reached(), None, "twice at the same time is once, and a pause is none");
        let _running = limit.begin();
        sleep(120);
        assert_eq!(limit.reached(), Some(Duration::from_millis(200)));
    }
}
