use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::web::{Answer, Web};

/// What a step waits for until the test lets it go on, or is over.
#[derive(Debug)]
pub struct Gate {
    web: Web,
    open: Arc<AtomicBool>,
}

impl Gate {
    /// Returns one that is closed.
    pub fn closed() -> Self {
        let open = Arc::new(AtomicBool::new(false));
        let is_open = Arc::clone(&open);
        let web = Web::new(move |_| Answer::status(if is_open.load(Ordering::SeqCst) { 200 } else { 404 }));
        Gate { web, open }
    }

    /// Returns the command of a step that waits for it, for the shell of busybox.
    pub fn wait(&self) -> String {
        let url = self.web.url("/open");
        format!("n=0; until wget -q -O /dev/null {url}; do n=$((n+1)); [ $n -lt 1200 ] || exit 9; sleep 0.1; done")
    }

    /// Lets who waits go on.
    pub fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}
