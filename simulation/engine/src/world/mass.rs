//! Many pilots restarted at once, as when a zone comes back: what that costs the API, and how soon all know all again.

use super::World;
use super::run::Options;
use super::schedule::{Action, Whom};

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MassRestart {
    /// Pilots restarted.
    pub restarted: u32,
    /// Requests to the API from then on until all knew all again.
    pub requests: u64,
    /// The most of them in one second.
    pub busiest: u64,
    /// Milliseconds until every pilot knew the present life of every other one, and what it reports.
    pub converged_after: u64,
    /// Pilots that coordinated then.
    pub coordinators: usize,
}

/// They have to know each other again within so many milliseconds.
pub const CONVERGES_WITHIN: u64 = 60_000;
/// Before that the mesh rests for so many milliseconds.
const RESTS: u64 = 30_000;
/// A pilot that starts reads the Lease, the record, its claim and its pod, and again what it could not read at first; where
/// the coordinator is among them, those next in line look at the Lease as well.
pub const REQUESTS_A_START: u64 = 16;
/// A mesh at rest asks the API about once a second, and this is how much more often it may while it settles.
pub const REQUESTS_A_SECOND: u64 = 5;

impl MassRestart {
    /// Restarts every tenth pilot of a cluster of so many members.
    ///
    /// # Errors
    /// With what broke, or did not come to be in time.
    pub fn of(seed: u64, members: u32) -> Result<Self, String> {
        let mut world = World::new(Options::large(seed, members));
        world.run_until_all_know_all(members)?;
        // What they had to read when their power came back is not counted.
        let rested = world.now() + RESTS;
        world.run_until(rested);
        let (began, before) = (world.now(), world.requests());
        let chosen: Vec<u32> = (0..members).step_by(10).collect();
        for ordinal in &chosen {
            world.act(&Action::KillAgent(Whom::Ordinal(*ordinal)));
        }
        let busiest = world.run_until_all_know_all(members)?;
        let restarted = u32::try_from(chosen.len()).unwrap_or(u32::MAX);
        let converged_after = world.now() - began;
        let requests = world.requests() - before;
        let allowed = u64::from(restarted) * REQUESTS_A_START + (converged_after / 1_000 + 1) * REQUESTS_A_SECOND;
        if requests > allowed {
            return Err(format!("{requests} requests to the API within {converged_after} ms, {allowed} are allowed"));
        }
        Ok(Self { restarted, requests, busiest, converged_after, coordinators: world.coordinators().len() })
    }
}

impl World {
    /// Second by second, until one coordinates and every pilot knows the present life of every other one. Tells the most
    /// requests of a second.
    fn run_until_all_know_all(&mut self, members: u32) -> Result<u64, String> {
        let end = self.now() + CONVERGES_WITHIN;
        let mut busiest = 0;
        while self.now() < end {
            let sent = self.requests();
            let next = self.now() + 1_000;
            self.run_until(next);
            busiest = busiest.max(self.requests() - sent);
            if let Some((rule, why)) = &self.oracle.verdict {
                return Err(format!("{rule} is broken: {why}"));
            }
            if self.coordinators().len() == 1 && self.everybody_knows_everybody(members) {
                return Ok(busiest);
            }
        }
        Err(format!("not all of {members} pilots know all within {CONVERGES_WITHIN} ms"))
    }

    /// Whether so many pilots run, and each knows the present life of each other one.
    fn everybody_knows_everybody(&self, members: u32) -> bool {
        u32::try_from(self.agents.len()).is_ok_and(|running| running == members)
            && self.agents.values().all(|agent| {
                let mut others = self.agents.values().filter(|other| other.life != agent.life);
                others.all(|other| agent.gossip.knows(other.name(), other.id.generation))
            })
    }
}
