//! Bodies: whole ones, and watches that go on.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Bytes, Frame};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::super::request::Request;
use super::super::watch::{WatchCursor, WatchEvent};
use super::{SharedApi, StreamError, lock, real_now};

/// Events taken under one hold of the lock.
const BATCH: usize = 256;

/// How often a quiet watch says where it stands, where the client wants to know.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// How long a watch lasts whose client sets no limit; real servers choose 30 to 60 minutes.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// The body of an answer.
pub(super) enum StreamBody {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl StreamBody {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }
}

impl hyper::body::Body for StreamBody {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(lines) => lines.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(_) => hyper::body::SizeHint::default(),
        }
    }
}

/// A watch being served.
pub(super) struct WatchStream {
    pub(super) api: SharedApi,
    pub(super) revision: watch::Receiver<u64>,
    pub(super) cursor: WatchCursor,
    pub(super) request: Request,
}

impl WatchStream {
    pub(super) fn begin(self) -> StreamBody {
        let (lines, body) = mpsc::channel(16);
        tokio::spawn(self.run(lines));
        StreamBody::Stream(body)
    }

    async fn run(mut self, lines: mpsc::Sender<Bytes>) {
        let lasts = self.cursor.timeout_seconds.map_or(LONGEST, Duration::from_secs);
        let end = Instant::now() + lasts;
        let mut bookmark = Instant::now() + BOOKMARK_EVERY;
        loop {
            self.revision.mark_unchanged();
            let Some(batch) = self.draw() else { return };
            let full = batch.events >= BATCH;
            if !batch.lines.is_empty() && lines.send(batch.lines.into()).await.is_err() {
                return;
            }
            if self.cursor.has_ended() {
                return;
            }
            if full {
                continue;
            }
            tokio::select! {
                changed = self.revision.changed() => if changed.is_err() { return },
                () = lines.closed() => return,
                () = tokio::time::sleep_until(end) => return,
                () = tokio::time::sleep_until(bookmark), if self.cursor.wants_bookmarks() => {
                    bookmark = Instant::now() + BOOKMARK_EVERY;
                    let line = line(&self.cursor.bookmark(), None);
                    if !self.is_silent() && lines.send(line.into()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn is_silent(&self) -> bool {
        lock(&self.api).faults().is_cut(&self.request.user)
    }

    /// Takes what is new. `None` where the server is away: the stream breaks off.
    fn draw(&mut self) -> Option<Batch> {
        let api = lock(&self.api);
        if api.faults().outage() {
            return None;
        }
        // A watch of a user who is cut off stalls without a word, as a broken network does.
        if api.faults().is_cut(&self.request.user) {
            return Some(Batch { lines: Vec::new(), events: 0 });
        }
        let events = api.poll_watch(&mut self.cursor, BATCH);
        let now = real_now();
        let mut lines = Vec::new();
        for event in &events {
            let shown = api.shown(&self.cursor, event, &self.request, now);
            lines.extend(line(event, Some(&shown)));
        }
        Some(Batch { lines, events: events.len() })
    }
}

struct Batch {
    lines: Vec<u8>,
    events: usize,
}

fn line(event: &WatchEvent, shown: Option<&Value>) -> Vec<u8> {
    let object = shown.unwrap_or(&event.object);
    let mut line = format!("{{\"type\":\"{}\",\"object\":{object}}}", event.change.word()).into_bytes();
    line.push(b'\n');
    line
}
