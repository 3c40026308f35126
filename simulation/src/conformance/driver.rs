//! What every driver must show, told as one life of a cluster of two.
//!
//! A database is brought in as a [`Rig`]. The story runs its processes from what the driver renders and believes
//! nothing but looks; each broken expectation is an error that names it. Steps and their durations are returned, so
//! that a report can show them.

use crate::sandbox::direct::{DirectError, Member};
use agent::driver::{BoxFuture, MovedAside, RenderError, StartContext, StartKind};
use protocol::database::{DatabasePhase, DatabaseState, RingStatus, VolumeState};
use protocol::id::DatabaseIdentity;
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::Instant;

/// A database to which the story can happen.
pub trait Rig {
    /// A member that was never started: `index` 0 or 1, on an empty volume of its own.
    fn member(&mut self, index: usize, kind: StartKind, seeds: &[&StartContext]) -> Member;

    /// Lowers the replication of everything to one, so that one of two members may leave.
    fn lower_replication<'a>(&'a mut self, through: &'a StartContext) -> BoxFuture<'a, Result<(), String>>;
}

/// A broken expectation, or a machine that refused.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A process could not be run or did not come to a state.
    #[error("while `{step}`: {source}")]
    Direct {
        /// The step of the story.
        step: &'static str,
        /// What happened.
        source: DirectError,
    },
    /// Something else was seen than must be.
    #[error("while `{step}`: expected {expected}, found {found}")]
    Expected {
        /// The step of the story.
        step: &'static str,
        /// What must be.
        expected: &'static str,
        /// What was.
        found: String,
    },
}

/// How long each step took.
pub type Timings = Vec<(&'static str, Duration)>;

/// A boot on a busy machine.
const BOOT: Duration = Duration::from_secs(180);
/// News travelling between members.
const NEWS: Duration = Duration::from_secs(60);
/// A tool's run.
const TOOL: Duration = Duration::from_secs(120);

struct Story {
    step: &'static str,
    since: Instant,
    timings: Timings,
}

impl Story {
    fn step(&mut self, step: &'static str) {
        if !self.step.is_empty() {
            self.timings.push((self.step, self.since.elapsed()));
        }
        self.step = step;
        self.since = Instant::now();
    }

    fn ran<T>(&self, result: Result<T, DirectError>) -> Result<T, Broken> {
        result.map_err(|source| Broken::Direct { step: self.step, source })
    }

    fn expect(&self, holds: bool, expected: &'static str, found: &impl std::fmt::Debug) -> Result<(), Broken> {
        if holds {
            return Ok(());
        }
        Err(Broken::Expected { step: self.step, expected, found: format!("{found:?}") })
    }

    fn identity(&self, state: &DatabaseState) -> Result<DatabaseIdentity, Broken> {
        state.identity.clone().ok_or_else(|| Broken::Expected {
            step: self.step,
            expected: "an identity",
            found: format!("{state:?}"),
        })
    }
}

/// Runs the whole story.
///
/// # Errors
/// At the first expectation that does not hold.
pub async fn every_driver(rig: &mut dyn Rig) -> Result<Timings, Broken> {
    let mut s = Story { step: "", since: Instant::now(), timings: Vec::new() };

    s.step("nobody joins where nobody is");
    let mut first = rig.member(0, StartKind::Join, &[]);
    let refused = first.driver().program(first.context());
    s.expect(matches!(refused, Err(RenderError::NobodyToJoin { .. })), "a refusal", &refused)?;

    s.step("an untouched volume is empty");
    let volume = first.driver().volume(None);
    s.expect(volume == VolumeState::Empty, "an empty volume", &volume)?;

    s.step("a stopped process has no phase of its own");
    let state = first.look().await;
    s.expect(state.phase == DatabasePhase::Stopped && state.ring.is_none(), "stopped, no ring", &state)?;

    s.step("the founder serves alone");
    first.context_mut().kind = StartKind::Found;
    s.ran(first.start())?;
    let state = s.ran(first.wait_for(DatabasePhase::Serving, BOOT).await)?;
    let a = s.identity(&state)?;
    s.expect(statuses(&state) == [(a.clone(), RingStatus::Normal)], "itself alone in the ring", &state)?;
    s.expect(state.replication.is_some_and(|r| r > 0), "a known replication", &state)?;
    s.expect(state.version.is_some() && state.disk.is_some(), "version and disk", &state)?;

    s.step("the second joins through the first");
    let mut second = rig.member(1, StartKind::Join, &[first.context()]);
    s.ran(second.start())?;
    let state = s.ran(second.wait_for(DatabasePhase::Serving, BOOT).await)?;
    let b = s.identity(&state)?;
    s.expect(a != b, "two identities", &b)?;

    s.step("both see both, alive");
    for member in [&mut first, &mut second] {
        let both = |state: &DatabaseState| up(state, &a) == Some(true) && up(state, &b) == Some(true);
        let state = s.ran(member.wait("both alive", NEWS, both).await)?;
        s.expect(is(&state, &a, RingStatus::Normal) && is(&state, &b, RingStatus::Normal), "two members", &state)?;
        s.expect(state.schema_agreed == Some(true), "an agreed schema", &state)?;
    }

    s.step("a volume with data is never empty");
    let volume = second.driver().volume(None);
    s.expect(volume == VolumeState::HoldsUnknown || volume == VolumeState::Holds(b.clone()), "data", &volume)?;
    let volume = second.driver().volume(Some(&b));
    s.expect(volume == VolumeState::Holds(b.clone()), "the known identity", &volume)?;

    s.step("a leave that would lose a replica is refused, and the member serves on");
    let outcome = s.ran(second.leave(TOOL).await)?;
    s.expect(outcome.code != Some(0), "a refusal", &outcome)?;
    s.ran(second.wait_for(DatabasePhase::Serving, NEWS).await)?;

    s.step("a drained member says so, and its peers hold it down");
    let outcome = s.ran(second.drain(TOOL).await)?;
    s.expect(outcome.code == Some(0), "drained", &outcome)?;
    let state = s.ran(second.wait_for(DatabasePhase::Draining, NEWS).await)?;
    s.expect(state.identity.as_ref() == Some(&b), "the identity known before", &state)?;
    s.ran(first.wait("the drained one down", NEWS, |state| up(state, &b) == Some(false)).await)?;
    let again = s.ran(second.drain(TOOL).await)?;
    s.expect(again.code == Some(0), "a second drain that succeeds", &again)?;

    s.step("it stops on the stop signal");
    s.ran(second.end(Signal::TERM).await)?;
    s.ran(second.wait_for(DatabasePhase::Stopped, NEWS).await)?;

    s.step("a killed founder leaves nobody; the second starts alone with the same identity");
    s.ran(first.end(Signal::KILL).await)?;
    second.context_mut().kind = StartKind::Return;
    s.ran(second.start())?;
    let state = s.ran(second.wait_for(DatabasePhase::Serving, BOOT).await)?;
    s.expect(state.identity.as_ref() == Some(&b), "the same identity", &state)?;
    s.expect(is(&state, &a, RingStatus::Normal), "the absent one still a member", &state)?;
    s.ran(second.wait("the absent one down", NEWS, |state| up(state, &a) == Some(false)).await)?;

    s.step("the killed founder returns");
    first.context_mut().kind = StartKind::Return;
    let other = second.context().address;
    first.context_mut().seeds = vec![other];
    s.ran(first.start())?;
    let state = s.ran(first.wait_for(DatabasePhase::Serving, BOOT).await)?;
    s.expect(state.identity.as_ref() == Some(&a), "the same identity", &state)?;
    s.ran(second.wait("it alive again", NEWS, |state| up(state, &a) == Some(true)).await)?;

    s.step("a process that stands still is found out");
    s.ran(second.signal(Signal::STOP))?;
    let found = second.wait_for(DatabasePhase::Unresponsive, NEWS).await;
    s.ran(second.signal(Signal::CONT))?;
    s.ran(found)?;
    s.ran(second.wait_for(DatabasePhase::Serving, NEWS).await)?;

    s.step("a granted leave ends as left, seen by the peer");
    let lowered = rig.lower_replication(first.context()).await;
    s.expect(lowered.is_ok(), "a lower replication", &lowered)?;
    s.ran(second.wait("the lower replication", NEWS, |state| state.replication == Some(1)).await)?;
    let outcome = s.ran(second.leave(TOOL).await)?;
    s.expect(outcome.code == Some(0), "a leave", &outcome)?;
    s.ran(second.wait_for(DatabasePhase::Left, NEWS).await)?;
    let gone = |state: &DatabaseState| status(state, &b).is_none_or(|status| status == RingStatus::Left);
    s.ran(first.wait("the left one gone", NEWS, gone).await)?;

    s.step("leaving again is a success at once");
    let again = s.ran(second.leave(TOOL).await)?;
    s.expect(again.code == Some(0), "a success", &again)?;

    s.step("retired data is moved aside once");
    s.ran(second.end(Signal::TERM).await)?;
    let moved = second.driver().move_aside(b.as_str());
    s.expect(matches!(moved, Ok(MovedAside::Moved(_))), "moved", &moved)?;
    let volume = second.driver().volume(None);
    s.expect(volume == VolumeState::Empty, "an empty volume", &volume)?;
    let again = second.driver().move_aside(b.as_str());
    s.expect(matches!(again, Ok(MovedAside::Already(_))), "nothing to do", &again)?;

    s.step("the last one stops");
    s.ran(first.drain(TOOL).await)?;
    s.ran(first.end(Signal::TERM).await)?;
    s.step("end");
    Ok(s.timings)
}

fn statuses(state: &DatabaseState) -> Vec<(DatabaseIdentity, RingStatus)> {
    state.ring.iter().flat_map(|ring| ring.iter()).map(|m| (m.identity.clone(), m.status)).collect()
}

fn status(state: &DatabaseState, identity: &DatabaseIdentity) -> Option<RingStatus> {
    state.ring.iter().flat_map(|ring| ring.iter()).find(|m| m.identity == *identity).map(|m| m.status)
}

fn is(state: &DatabaseState, identity: &DatabaseIdentity, wanted: RingStatus) -> bool {
    status(state, identity) == Some(wanted)
}

fn up(state: &DatabaseState, identity: &DatabaseIdentity) -> Option<bool> {
    state.ring.iter().flat_map(|ring| ring.iter()).find(|m| m.identity == *identity).and_then(|m| m.up)
}
