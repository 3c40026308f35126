//! How a person ends a sandbox: Ctrl-C, SIGTERM, a closed terminal. Once to drain, twice to end at once.

use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Counts the wishes to end.
#[derive(Debug, Clone)]
pub struct Stop {
    count: watch::Sender<u32>,
}

impl Stop {
    /// Listens for signals from now on.
    ///
    /// # Errors
    /// When they cannot be handled.
    pub fn listen() -> io::Result<Self> {
        let (count, _) = watch::channel(0);
        let stop = Self { count };
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut signals = signal(kind)?;
            let stop = stop.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    stop.ask();
                }
            });
        }
        Ok(stop)
    }

    /// Somebody wants it to end.
    pub fn ask(&self) {
        self.count.send_modify(|n| *n += 1);
    }

    /// Returns once it was wanted so often.
    pub async fn wanted(&self, times: u32) {
        // The sender lives as long as we do.
        let _ = self.count.subscribe().wait_for(|n| *n >= times).await;
    }

    /// Whether it was wanted at all.
    pub fn is_wanted(&self) -> bool {
        *self.count.borrow() > 0
    }
}
