//! A client of the database as users have them: it writes numbered rows all the while, notes what was acknowledged,
//! and in the end reads everything back.

mod gaps;
mod rows;

pub use gaps::Gap;

use rows::Rows;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// How a database is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// CQL, as Cassandra does.
    Cql,
    /// As the model database does.
    Model,
}

/// How a writer writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterSettings {
    /// How the database is spoken to.
    pub protocol: Protocol,
    /// The keyspace it makes and uses.
    pub keyspace: String,
    /// Copies of each row; written and read at QUORUM of them.
    pub replication: u32,
    /// Rows a second, at most.
    pub rows_per_second: u32,
    /// Bytes of each row's payload.
    pub row_bytes: usize,
    /// As which role, with its password, where the database asks for one.
    pub role: Option<(String, String)>,
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self {
            protocol: Protocol::Cql,
            keyspace: "tour".to_owned(),
            replication: 3,
            rows_per_second: 200,
            row_bytes: 100,
            role: None,
        }
    }
}

/// Writes one more row than this at a time, never: a database that stands still must not pile up requests.
const IN_FLIGHT: usize = 128;

/// Requests are given up after so long; the row's number is then not used again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Without an acknowledgement for so long, the connections are made anew from the present addresses.
const RECONNECT_AFTER: Duration = Duration::from_secs(2);

/// Between two tries to connect at first.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// Reading back is tried for so long in all: a database that has just lost a member needs a moment.
const READ_BACK_WITHIN: Duration = Duration::from_secs(90);

/// A running writer.
pub struct RowWriter {
    log: Arc<Log>,
    contacts: watch::Receiver<Vec<SocketAddr>>,
    settings: WriterSettings,
    task: JoinHandle<()>,
}

struct Log {
    began: Instant,
    stopped: AtomicBool,
    stopped_at: Mutex<Option<Duration>>,
    tried: AtomicU64,
    /// Number and moment of each acknowledgement, in the order they came.
    acknowledged: Mutex<Vec<(u64, Duration)>>,
}

impl Log {
    fn last(&self) -> Option<Duration> {
        self.lock().last().map(|(_, at)| *at)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Duration)>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells how many rows a writer has had acknowledged, for somebody who only shows it.
#[derive(Clone)]
pub struct RowCount(Arc<Log>);

impl RowCount {
    /// Rows acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        u64::try_from(self.0.lock().len()).unwrap_or(u64::MAX)
    }
}

/// What reading back brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBack {
    /// Rows that had been acknowledged.
    pub acknowledged: u64,
    /// Acknowledged rows that were not there: none, or data was lost.
    pub missing: Vec<u64>,
    /// Rows that were there.
    pub found: u64,
}

/// Rows could not be read back at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rows could not be read back within {} s: {last}", within.as_secs())]
pub struct ReadBackError {
    within: Duration,
    last: String,
}

impl RowWriter {
    /// Begins to write through the addresses that `contacts` holds at the time; new ones are followed by themselves.
    pub fn start(contacts: watch::Receiver<Vec<SocketAddr>>, settings: WriterSettings) -> Self {
        let log = Arc::new(Log {
            began: Instant::now(),
            stopped: AtomicBool::new(false),
            stopped_at: Mutex::new(None),
            tried: AtomicU64::new(0),
            acknowledged: Mutex::new(Vec::new()),
        });
        let task = tokio::spawn(write(Arc::clone(&log), contacts.clone(), settings.clone()));
        Self { log, contacts, settings, task }
    }

    /// Time since the writer began: the clock of everything it says.
    pub fn elapsed(&self) -> Duration {
        self.log.began.elapsed()
    }

    /// Rows acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        u64::try_from(self.log.lock().len()).unwrap_or(u64::MAX)
    }

    /// The same, for somebody who only shows it.
    pub fn count(&self) -> RowCount {
        RowCount(Arc::clone(&self.log))
    }

    /// Rows tried so far, acknowledged or not.
    pub fn tried(&self) -> u64 {
        self.log.tried.load(Ordering::Relaxed)
    }

    /// Every stretch of at least `window` in which nothing was acknowledged, since the first acknowledgement.
    pub fn gaps(&self, window: Duration) -> Vec<Gap> {
        let stopped = *self.log.stopped_at.lock().unwrap_or_else(PoisonError::into_inner);
        let end = stopped.unwrap_or_else(|| self.elapsed());
        let at: Vec<Duration> = self.log.lock().iter().map(|(_, at)| *at).collect();
        gaps::find(&at, end, window)
    }

    /// Stops writing and waits for the last answers.
    pub async fn stop(&mut self) {
        self.log.stopped.store(true, Ordering::Relaxed);
        if let Err(error) = (&mut self.task).await {
            tracing::warn!(%error, "the writer's task did not end by itself");
        }
        self.log
            .stopped_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| self.log.began.elapsed());
    }

    /// Reads every row at QUORUM and compares with what was acknowledged until now.
    ///
    /// # Errors
    /// When some rows could not be read for a minute and a half.
    pub async fn read_back(&self) -> Result<ReadBack, ReadBackError> {
        let expected: BTreeSet<u64> = self.log.lock().iter().map(|(number, _)| *number).collect();
        let ends = Instant::now() + READ_BACK_WITHIN;
        let mut last = "no address is known".to_owned();
        while Instant::now() < ends {
            let contacts = self.contacts.borrow().clone();
            if !contacts.is_empty() {
                match read_all(&contacts, &self.settings).await {
                    Ok(found) => {
                        return Ok(ReadBack {
                            acknowledged: u64::try_from(expected.len()).unwrap_or(u64::MAX),
                            missing: expected.difference(&found).copied().collect(),
                            found: u64::try_from(found.len()).unwrap_or(u64::MAX),
                        });
                    }
                    Err(error) => last = error,
                }
            }
            sleep(Duration::from_millis(500)).await;
        }
        Err(ReadBackError { within: READ_BACK_WITHIN, last })
    }
}

impl Drop for RowWriter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_all(contacts: &[SocketAddr], settings: &WriterSettings) -> Result<BTreeSet<u64>, String> {
    Rows::connect(contacts, settings, REQUEST_TIMEOUT).await?.read_all().await
}

async fn write(log: Arc<Log>, mut contacts: watch::Receiver<Vec<SocketAddr>>, settings: WriterSettings) {
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut next = 0;
    let mut rows: Option<Arc<Rows>> = None;
    // The old connections are used until the new ones are there: changing over must not be a pause.
    let mut connecting: Option<JoinHandle<Result<Rows, String>>> = None;
    let mut quiet_since = log.began.elapsed();
    let mut ticks = interval(Duration::from_secs(1) / settings.rows_per_second.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !log.stopped.load(Ordering::Relaxed) {
        ticks.tick().await;
        if let Some(task) = connecting.take_if(|task| task.is_finished()) {
            match task.await {
                Ok(Ok(new)) => rows = Some(Arc::new(new)),
                Ok(Err(error)) => tracing::debug!(%error, "the writer cannot reach the database"),
                Err(error) => tracing::warn!(%error, "connecting ended badly"),
            }
            quiet_since = log.began.elapsed();
        }
        let heard = log.last().map_or(quiet_since, |at| at.max(quiet_since));
        let silent =
            log.began.elapsed().saturating_sub(heard) > if rows.is_some() { RECONNECT_AFTER } else { RETRY_AFTER };
        if connecting.is_none() && (silent || contacts.has_changed().unwrap_or(false)) {
            let at = contacts.borrow_and_update().clone();
            let settings = settings.clone();
            connecting = Some(tokio::spawn(async move {
                let work = Rows::connect(&at, &settings, REQUEST_TIMEOUT);
                timeout(3 * REQUEST_TIMEOUT, work).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
            }));
        }
        let Some(rows) = &rows else {
            continue;
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        let (rows, log, number) = (Arc::clone(rows), Arc::clone(&log), next);
        next += 1;
        log.tried.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            match rows.write(number).await {
                Ok(()) => {
                    let mut acknowledged = log.lock();
                    let at = log.began.elapsed();
                    acknowledged.push((number, at));
                }
                Err(error) => tracing::trace!(number, %error, "a row was not acknowledged"),
            }
            drop(permit);
        });
    }
    if let Some(task) = connecting {
        task.abort();
    }
    // All room free again: every request has ended.
    let all = u32::try_from(IN_FLIGHT).unwrap_or(u32::MAX);
    if timeout(2 * REQUEST_TIMEOUT, room.acquire_many(all)).await.is_err() {
        tracing::debug!("some of the writer's last requests were not answered");
    }
}
