//! Calls that change members: sent to some member, carried out by the leader, answered. Whoever calls may be gone before,
//! the answer may be lost, or the caller may be gone right after it has it.

use super::super::chance::Chance;
use super::super::database::Seed;
use super::super::schedule::{Action, Whom};
use super::super::{Happening, World};
use super::errands::Errand;
use protocol::id::{DatabaseIdentity, PilotName};
use std::collections::BTreeSet;
use std::fmt;

/// A change of the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// A new member at the address of this pod.
    Add(PilotName),
    /// A learner becomes a voter.
    Promote(DatabaseIdentity),
    /// A member is removed.
    Remove(DatabaseIdentity),
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(pod) => write!(f, "member add {pod}"),
            Self::Promote(identity) => write!(f, "member promote {identity}"),
            Self::Remove(identity) => write!(f, "member remove {identity}"),
        }
    }
}

/// Its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberCallKind {
    /// `member add`
    Add,
    /// `member promote`
    Promote,
    /// `member remove`
    Remove,
}

impl MemberCallKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Add, Self::Promote, Self::Remove];

    fn of(call: &Call) -> Self {
        match call {
            Call::Add(_) => Self::Add,
            Call::Promote(_) => Self::Promote,
            Call::Remove(_) => Self::Remove,
        }
    }
}

/// Where a call is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// It is decided on, and not sent.
    Unsent,
    /// It is carried out, and the answer is lost.
    Applied,
    /// It is answered, and nothing has come of that yet.
    Answered,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unsent, Self::Applied, Self::Answered];
}

/// What happens to whoever calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The pilot's process is killed.
    Pilot,
    /// The database's process is killed.
    Database,
    /// All processes of its pod are killed.
    Pod,
    /// A user deletes its pod.
    Deletion,
    /// Its pod is cut off from all others for so many milliseconds.
    CutOff(u64),
    /// Nothing but the answer is lost.
    Answer,
}

impl What {
    /// All of them; cuts last for so long.
    pub fn all(cut: u64) -> [Self; 6] {
        [Self::Pilot, Self::Database, Self::Pod, Self::Deletion, Self::CutOff(cut), Self::Answer]
    }

    /// One of them.
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let cut = chance.between(2_000, 60_000);
        chance.pick(&Self::all(cut)).copied().unwrap_or(Self::Answer)
    }
}

/// One call that is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutCall {
    /// The next of this kind.
    pub kind: MemberCallKind,
    /// Where.
    pub moment: Moment,
    /// How.
    pub what: What,
}

/// Why a call did nothing, or that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The member it was sent to was not there.
    Unreached,
    /// There was no quorum for it.
    NoQuorum,
    /// etcd does not do that.
    Refused(&'static str),
    /// No answer came.
    Unanswered,
}

impl Failed {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Unreached => "did not reach its member",
            Self::NoQuorum => "found no quorum",
            Self::Refused(why) => why,
            Self::Unanswered => "was not answered",
        }
    }
}

/// How far a call has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is about to be sent.
    Out,
    /// It is about to be carried out.
    There,
    /// Its answer is about to be heard.
    Back(Result<(), Failed>),
}

/// A call on its way.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(super) errand: Errand,
    pub(super) call: Call,
    through: Seed,
    way: Way,
}

/// A caller waits so long for its answer.
const PATIENCE: u64 = 7_000;

impl World {
    /// A call is made.
    pub(super) fn call_members(&mut self, errand: Errand, call: Call, through: Seed) {
        let wait = self.etcd.chance.between(1, 50);
        let request = Request { errand, call, through, way: Way::Out };
        self.after(wait, Happening::MemberCall(Box::new(request)));
    }

    fn goes_on(&mut self, request: Request, wait: u64, way: Way) {
        self.after(wait, Happening::MemberCall(Box::new(Request { way, ..request })));
    }

    /// A call gets on.
    pub(crate) fn member_call(&mut self, request: Request) {
        match request.way.clone() {
            Way::Out => self.send_call(request),
            Way::There => self.carry_out_call(request),
            Way::Back(result) => {
                let Some(pod) = self.errand_from(&request.errand) else { return };
                if let Some(what) = self.cut_due(&request.call, Moment::Answered) {
                    self.cut_caller(&pod, &request, what);
                }
                self.answered(&request, &result);
            }
        }
    }

    fn send_call(&mut self, request: Request) {
        let Some(pod) = self.errand_from(&request.errand) else { return };
        if let Some(what) = self.cut_due(&request.call, Moment::Unsent) {
            self.cut_caller(&pod, &request, what);
            self.goes_on(request, PATIENCE, Way::Back(Err(Failed::Unanswered)));
            return;
        }
        if self.leader_through(&pod, &request.through).is_none() {
            self.goes_on(request, 1_000, Way::Back(Err(Failed::Unreached)));
            return;
        }
        let wait = self.etcd.chance.between(20, 3_000);
        self.goes_on(request, wait, Way::There);
    }

    /// The caller may be gone, or cut off, by now: the member that it was sent to does not know.
    fn carry_out_call(&mut self, request: Request) {
        let result = match self.leader_of(&request.through.0) {
            Some(leader) => self.change_members(&request.call, &leader),
            None => Err(Failed::NoQuorum),
        };
        self.tell(format!("{} through {}: {result:?}", request.call, request.through.0));
        let Some(pod) = self.errand_from(&request.errand) else { return };
        let cut = if result.is_ok() { self.cut_due(&request.call, Moment::Applied) } else { None };
        if let Some(what) = cut {
            self.cut_caller(&pod, &request, what);
        }
        if cut.is_some() || !self.reaches(&pod, &request.through.0) {
            self.goes_on(request, PATIENCE, Way::Back(Err(Failed::Unanswered)));
            return;
        }
        let wait = self.etcd.chance.between(2, 80);
        self.goes_on(request, wait, Way::Back(result));
    }

    fn change_members(&mut self, call: &Call, leader: &super::log::Peer) -> Result<(), Failed> {
        let Some(before) = self.configuration_of(leader).cloned() else { return Err(Failed::NoQuorum) };
        let after = match call {
            Call::Add(pod) => {
                if before.at(pod).is_some() {
                    return Err(Failed::Refused("names an address that is a member's"));
                }
                if before.learner().is_some() {
                    return Err(Failed::Refused("meets another learner"));
                }
                let votes = self.options.planted == Some(super::super::planted::Planted::AddsVoters);
                let identity = self.etcd.mint(pod);
                before.with(&identity, pod, votes)
            }
            Call::Promote(identity) => {
                let Some((_, member)) = before.members().find(|(i, _)| *i == identity) else {
                    return Err(Failed::Refused("names no member"));
                };
                if member.votes {
                    return Ok(());
                }
                if !self.has_caught_up(identity, leader) {
                    return Err(Failed::Refused("names a learner that lacks too much"));
                }
                before.with(identity, &member.pod.clone(), true)
            }
            Call::Remove(identity) => {
                if !before.has(identity) {
                    return Ok(());
                }
                let after = before.without(identity);
                if after.votes() == 0 {
                    return Err(Failed::Refused("names the last member"));
                }
                after
            }
        };
        self.judge_change(call, &before, &after);
        if !self.commit(Some(after)) {
            return Err(Failed::NoQuorum);
        }
        if let Call::Remove(identity) = call {
            self.etcd.removed.insert(identity.clone(), self.now);
        }
        Ok(())
    }

    fn has_caught_up(&self, identity: &DatabaseIdentity, leader: &super::log::Peer) -> bool {
        let peers = self.peers();
        let learner = peers.iter().find(|p| p.identity == *identity && self.is_led(p, leader));
        // As etcd counts it: nine tenths of what the leader has.
        learner.is_some_and(|p| p.entries * 10 >= leader.entries * 9)
    }

    fn cut_due(&mut self, call: &Call, moment: Moment) -> Option<What> {
        let kind = MemberCallKind::of(call);
        let at = self.etcd.cuts.iter().position(|cut| cut.kind == kind && cut.moment == moment)?;
        let cut = self.etcd.cuts.remove(at);
        self.marks.mark(format!("{kind:?} is cut, {moment:?}"));
        Some(cut.what)
    }

    fn cut_caller(&mut self, pod: &PilotName, request: &Request, what: What) {
        self.tell(format!("{} from {pod} is cut: {what:?}", request.call));
        let Some(ordinal) = pod.ordinal() else { return };
        match what {
            What::Pilot => self.act(&Action::KillAgent(Whom::Ordinal(ordinal))),
            What::Database => self.kill_database(pod, None),
            What::Pod => self.kill_pod(pod),
            What::Deletion => self.act(&Action::DeletePod(ordinal)),
            What::CutOff(length) => {
                self.broken.cuts.push((BTreeSet::from([ordinal]), self.now + length));
            }
            What::Answer => {}
        }
    }
}
