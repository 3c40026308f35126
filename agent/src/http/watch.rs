//! `/state/watch`: the document at once, then again on every change, one JSON document a line.
//!
//! A reader that is slow misses documents in between and is then told the latest: nothing is queued for it.

use super::board::{Board, Published};
use hyper::body::{Body, Bytes, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch::Receiver;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// When nothing changes for so long, an empty line says that the pilot is still there.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// At most so many watch at a time; more are refused with 503, so that places stay for probes.
pub const MOST_WATCHERS: usize = 48;

/// Lines of one watcher.
pub(super) struct Lines {
    /// Holds one line at most: the reader's pace is the writer's.
    lines: mpsc::Receiver<Bytes>,
}

impl Lines {
    /// Begins a watch. The place is given back when the reader has gone.
    pub(super) fn begin(board: &Board, place: OwnedSemaphorePermit, heartbeat: Duration) -> Self {
        let (to, lines) = mpsc::channel(1);
        let changes = board.changes();
        tokio::spawn(async move {
            tell(changes, to, heartbeat).await;
            drop(place);
        });
        Self { lines }
    }
}

/// Tells every change until the reader has gone.
async fn tell(mut changes: Receiver<Option<Arc<Published>>>, to: mpsc::Sender<Bytes>, heartbeat: Duration) {
    changes.mark_changed();
    loop {
        // A place for the line first, then the line: so it is the latest that is sent.
        let Ok(place) = to.reserve().await else { return };
        let line = tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                let latest = changes.borrow_and_update().clone();
                match latest.map(|published| published.json()) {
                    Some(Ok(line)) => line,
                    Some(Err(error)) => {
                        tracing::error!(%error, "the state document cannot be written as JSON");
                        return;
                    }
                    // Nothing is known yet: the first document will be a change.
                    None => continue,
                }
            }
            () = tokio::time::sleep(heartbeat) => Bytes::from_static(b"\n"),
            () = to.closed() => return,
        };
        place.send(line);
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.lines.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
