//! Plans, enumerated instead of drawn: after each write of a workload, each thing that can go wrong there or that a user
//! may change their mind to. (Sieve's *intermediate state* and Acto's *declared state*, each for every step.)

use super::agents::Life;
use super::cluster::NO_IMAGE;
use super::database::Kind;
use super::etcd::{CutCall, MemberCallKind, Moment, What};
use super::front::Door;
use super::run::{Options, Outcome};
use super::schedule::{Action, Whom};
use super::{World, oracle::Rule};
use agent::kubernetes::call::Call;
use protocol::id::PilotName;
use protocol::record::IntentKind;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a write that moved a workload on was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The Lease was made, or passed to another life.
    LeaseTaken,
    /// The Lease was given back.
    LeaseReturned,
    /// The record was made, with the intent to found.
    RecordMade,
    /// The intent of a join was written, or went on.
    JoinIntent,
    /// The intent of a leave was written.
    LeaveIntent,
    /// The leave was granted.
    LeaveGranted,
    /// The intent of a restart was written.
    RestartIntent,
    /// The record was written without an intent.
    RecordRests,
    /// The set was stamped.
    SetStamped,
    /// The size was set.
    SizeSet,
    /// A claim was marked.
    ClaimMarked,
    /// A pod was stamped.
    PodStamped,
    /// A pod was evicted.
    PodEvicted,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::LeaseTaken,
        Self::LeaseReturned,
        Self::RecordMade,
        Self::JoinIntent,
        Self::LeaveIntent,
        Self::LeaveGranted,
        Self::RestartIntent,
        Self::RecordRests,
        Self::SetStamped,
        Self::SizeSet,
        Self::ClaimMarked,
        Self::PodStamped,
        Self::PodEvicted,
    ];

    /// What this write was, where it is one; `before` is the epoch that its object was stamped with. Renewals of the
    /// Lease and Events move nothing on.
    pub(crate) fn of(call: &Call, before: Option<u64>) -> Option<Self> {
        match call {
            Call::ReplaceLease { content, .. } if content.holder.is_none() => Some(Self::LeaseReturned),
            Call::ReplaceLease { content, .. } => (before != Some(content.epoch.0)).then_some(Self::LeaseTaken),
            Call::CreateLease(_) => Some(Self::LeaseTaken),
            Call::CreateRecord(_) => Some(Self::RecordMade),
            Call::ReplaceRecord(_, record) => Some(match record.intent.as_ref().map(|i| &i.kind) {
                Some(IntentKind::Form { .. }) => Self::RecordMade,
                Some(IntentKind::Join { .. } | IntentKind::Replace { .. }) => Self::JoinIntent,
                Some(IntentKind::Leave { granted: false, .. }) => Self::LeaveIntent,
                Some(IntentKind::Leave { granted: true, .. }) => Self::LeaveGranted,
                Some(IntentKind::Restart { .. }) => Self::RestartIntent,
                None => Self::RecordRests,
            }),
            Call::StampSet(_) => Some(Self::SetStamped),
            Call::Scale(..) => Some(Self::SizeSet),
            Call::MarkClaim(..) => Some(Self::ClaimMarked),
            Call::StampPod(_) => Some(Self::PodStamped),
            Call::EvictPod(_) => Some(Self::PodEvicted),
            Call::GetLease
            | Call::GetRecord
            | Call::GetSet
            | Call::ListPods
            | Call::ListClaims
            | Call::GetOwnPod
            | Call::GetOwnClaim
            | Call::PostEvent(_) => None,
        }
    }
}

/// The steps of a run so far, and the world right after each of them.
#[derive(Clone, Default)]
pub(crate) struct Steps {
    counting: bool,
    taken: Vec<Step>,
    writer: Option<Life>,
    worlds: Vec<World>,
}

impl Steps {
    pub(crate) fn last_writer(&self) -> Option<Life> {
        self.writer
    }
}

impl World {
    /// A write that moves things on was committed.
    pub(crate) fn step(&mut self, by: Life, step: Step) {
        if !self.steps.counting {
            return;
        }
        self.steps.taken.push(step);
        self.steps.writer = Some(by);
        let worlds = std::mem::take(&mut self.steps.worlds);
        let mut right_after = self.clone();
        right_after.steps.counting = false;
        self.steps.worlds = worlds;
        self.steps.worlds.push(right_after);
    }
}

/// What is asked of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// Three found.
    Form,
    /// 3 -> 4.
    Grow,
    /// 4 -> 3.
    Shrink,
    /// 4 -> 3 with a grace period that is too short for the leave.
    ShrinkCutOff,
    /// 3 -> 4 where the fourth has been before: its claim holds the data of then.
    GrowAgain,
    /// 3 -> 2: refused where there are three copies; etcd has as many as it has voters, and two are enough.
    TooSmall,
    /// A changed template.
    Roll,
    /// The coordinator is killed: another one takes over.
    Handover,
    /// Everything is deleted, and a set of the same name is made again: another cluster is founded.
    Recreate,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Form,
        Self::Grow,
        Self::Shrink,
        Self::ShrinkCutOff,
        Self::GrowAgain,
        Self::TooSmall,
        Self::Roll,
        Self::Handover,
        Self::Recreate,
    ];

    fn members(self) -> u32 {
        match self {
            Self::Form | Self::Grow | Self::TooSmall | Self::Roll | Self::Handover | Self::Recreate => 3,
            Self::Shrink | Self::ShrinkCutOff | Self::GrowAgain => 4,
        }
    }

    /// The size that it ends with when nobody asks for another.
    fn size(self, database: Kind) -> u32 {
        match self {
            Self::TooSmall => copies(database),
            Self::Form | Self::Roll | Self::Shrink | Self::ShrinkCutOff | Self::Handover | Self::Recreate => 3,
            Self::Grow | Self::GrowAgain => 4,
        }
    }

    /// The most pods there are in it.
    fn most(self) -> u32 {
        match self {
            Self::Form | Self::TooSmall | Self::Roll | Self::Handover | Self::Recreate => 3,
            Self::Grow | Self::Shrink | Self::ShrinkCutOff | Self::GrowAgain => 4,
        }
    }

    /// A world just before it; nothing where that is not reached.
    fn prepared(self, seed: u64, database: Kind) -> Option<World> {
        let grace = if self == Self::ShrinkCutOff { 6 } else { 120 };
        let mut world = World::new(Options { grace, database, ..Options::calm(seed, self.members()) });
        if self != Self::Form && !world.settle(PATIENCE) {
            return None;
        }
        if self == Self::GrowAgain {
            world.act(&Action::Scale(3));
            if !world.settle(PATIENCE) {
                return None;
            }
        }
        world.steps.counting = true;
        Some(world)
    }

    fn begin(self, world: &mut World) {
        match self {
            Self::Form => {}
            Self::Grow | Self::GrowAgain => world.act(&Action::Scale(4)),
            Self::Shrink | Self::ShrinkCutOff => world.act(&Action::Scale(3)),
            Self::TooSmall => world.act(&Action::Scale(2)),
            Self::Roll => world.act(&Action::Template(1)),
            Self::Handover => world.act(&Action::KillAgent(Whom::Coordinator)),
            Self::Recreate => world.act(&Action::Recreate(3)),
        }
    }

    /// Carries it out when nothing goes wrong, and keeps the world as it is right after each of its steps.
    ///
    /// # Errors
    /// When it does not come to rest.
    pub fn steps(self, seed: u64, database: Kind) -> Result<Vec<Reached>, String> {
        let Some(mut world) = self.prepared(seed, database) else {
            return Err(format!("{self:?} is not reached from seed {seed}"));
        };
        // Of a set that is made again nobody stays.
        let before = if self == Self::Recreate { BTreeMap::new() } else { members(&world) };
        self.begin(&mut world);
        if !world.settle(PATIENCE) {
            return Err(format!("{self:?} does not come to rest: {:?}", world.oracle.verdict));
        }
        let Steps { taken, worlds, .. } = std::mem::take(&mut world.steps);
        let reached = taken.into_iter().zip(worlds).enumerate();
        Ok(reached
            .map(|(at, (step, world))| Reached { workload: self, after: at + 1, step, before: before.clone(), world })
            .collect())
    }

    /// Everything that may happen right after one of its steps.
    pub fn actions(self, database: Kind) -> Vec<Action> {
        let mut actions = vec![
            Action::KillAgent(Whom::Writer),
            Action::Pause(Whom::Writer, 60_000),
            Action::CutApi(Whom::Writer, 30_000),
            Action::HoldWrite(Whom::Writer, 120_000),
            Action::LoseReply(Whom::Writer),
            Action::ApiOutage(20_000),
            Action::ApiFates(300, 60_000),
            Action::DeleteLease,
            Action::EmptyLease,
            Action::Template(0),
            Action::Template(2),
            Action::Template(NO_IMAGE),
            Action::StaleReads(Whom::Writer, 60_000),
            Action::NoStoreQuorum(30_000),
            Action::Strip,
        ];
        actions.extend(Door::ALL.map(|door| Action::Refuse(door, 30_000)));
        for ordinal in 0..self.most() {
            actions.extend([
                Action::KillAgent(Whom::Ordinal(ordinal)),
                Action::KillDatabase(ordinal),
                Action::DeletePod(ordinal),
                Action::LoseMemory(ordinal),
                Action::RollBackMemory(ordinal),
                Action::Cut(vec![ordinal], 30_000),
                Action::Deaf(ordinal, 30_000),
                Action::HangDatabase(ordinal, 30_000),
                Action::StaleReads(Whom::Ordinal(ordinal), 60_000),
            ]);
        }
        match database {
            Kind::Ring => actions.extend((0..self.most()).map(Action::FailMove)),
            Kind::Etcd => actions.extend(cuts().map(Action::CutMemberCall)),
        }
        actions.extend((2..=5).map(Action::Scale));
        actions
    }
}

/// Each way in which the next call of each kind may be cut.
fn cuts() -> impl Iterator<Item = CutCall> {
    let moments = MemberCallKind::ALL.into_iter().flat_map(|kind| Moment::ALL.map(|moment| (kind, moment)));
    moments.flat_map(|(kind, moment)| What::all(30_000).map(|what| CutCall { kind, moment, what }))
}

/// A workload that has come as far as one of its steps.
#[derive(Clone)]
pub struct Reached {
    workload: Workload,
    after: usize,
    step: Step,
    /// The members before it began.
    before: BTreeMap<String, String>,
    world: World,
}

impl Reached {
    /// Every plan that goes on from here.
    pub fn plans(&self) -> Vec<Plan> {
        let plan = |action| Plan { workload: self.workload, after: self.after, step: self.step, action };
        self.workload.actions(self.world.options.database).into_iter().map(plan).collect()
    }
}

/// One of the plans.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is asked of the cluster.
    pub workload: Workload,
    /// After so many of its writes, from 1.
    pub after: usize,
    /// What that write is.
    pub step: Step,
    /// What happens then.
    pub action: Action,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, after step {} ({:?}): {}", self.workload, self.after, self.step, self.action)
    }
}

/// So long a cluster has to come to rest, in milliseconds.
const PATIENCE: u64 = 900_000;

impl Plan {
    /// Where every plan of this seed begins.
    ///
    /// # Errors
    /// When a workload does not come to rest although nothing goes wrong.
    pub fn all(seed: u64, database: Kind) -> Result<Vec<Reached>, String> {
        let mut all = Vec::new();
        for workload in Workload::ALL {
            all.extend(workload.steps(seed, database)?);
        }
        Ok(all)
    }

    /// Carries it out from where it begins, and judges where it ends.
    pub fn run(&self, reached: &Reached) -> Outcome {
        let mut world = reached.world.clone();
        let begun = world.now();
        world.tell(format!("right after step {}, {:?}", self.after, self.step));
        world.act(&self.action);
        let wait = world.now() + HEALED_AFTER;
        world.run_until(wait);
        let mut rested = None;
        if world.oracle.verdict.is_none() {
            world.heal();
            world.answer_lost_quorum();
            if world.settle(PATIENCE) {
                rested = Some(world.now().saturating_sub(begun));
                self.judge_end(&mut world, &reached.before);
            }
        }
        world.outcome(rested)
    }

    /// The sizes it may end with: the one asked for last, if it is allowed.
    fn allowed_sizes(&self, database: Kind) -> BTreeSet<u32> {
        match (&self.action, self.workload) {
            // Two members are enough as long as there are no three copies.
            (Action::Scale(2), Workload::Form | Workload::Recreate) => BTreeSet::from([2, 3]),
            // While the leaver's pod is brought back the set shows just this size: asking for it changes nothing that
            // anybody could see.
            (Action::Scale(4), Workload::ShrinkCutOff) => BTreeSet::from([3, 4]),
            (Action::Scale(size), _) => BTreeSet::from([(*size).max(copies(database))]),
            _ => BTreeSet::from([self.workload.size(database)]),
        }
    }

    /// The size is the one asked for last, and who was not asked to leave is who it was.
    fn judge_end(&self, world: &mut World, before: &BTreeMap<String, String>) {
        let database = world.options.database;
        let allowed = self.allowed_sizes(database);
        let size = world.kubernetes().replicas().unwrap_or(0);
        if !allowed.contains(&size) && !world.rescued {
            world.oracle.broken(Rule::Rest, format!("the size is {size}, allowed are {allowed:?}"));
        }
        let least = allowed.into_iter().chain([self.workload.size(database)]).min().unwrap_or(0);
        let now = members(world);
        let stays = |name: &str| PilotName::parse(name).ok().and_then(|n| n.ordinal()).is_some_and(|o| o < least);
        let changed: Vec<&String> = before
            .iter()
            .filter(|(name, was)| stays(name) && now.get(*name) != Some(*was))
            .map(|(name, _)| name)
            .collect();
        if !changed.is_empty() {
            let why = format!("{changed:?} are other members than before, although nobody asked them to leave");
            world.oracle.broken(Rule::Rest, why);
        }
    }
}

/// The least size that members may leave for: copies of each row, once there are so many members; of voters two do.
fn copies(database: Kind) -> u32 {
    match database {
        Kind::Ring => 3,
        Kind::Etcd => 2,
    }
}

/// The longest of the faults is over by then.
const HEALED_AFTER: u64 = 130_000;

fn members(world: &World) -> BTreeMap<String, String> {
    let record = world.kubernetes().record();
    let members = record.iter().flat_map(|r| &r.members);
    members.map(|(name, member)| (name.to_string(), member.identity.to_string())).collect()
}
