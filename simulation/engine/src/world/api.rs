//! Requests on their way to the API and back: late, lost, applied without an answer, applied long after.

use super::cluster::{NAMESPACE, SET, TEMPLATE, pod_name};
use super::oracle::Commit;
use super::planted::Planted;
use super::{Happening, Request, World, plan, planted};
use crate::kubernetes::{Body, Response};
use agent::event::Event;
use agent::kubernetes::call::{Answer, Call, Failure};
use agent::kubernetes::translate::{Names, decode, decode_items, encode};
use protocol::id::{PilotId, PilotName};
use serde_json::Value;

pub(crate) fn names(pod: &PilotName) -> Names {
    Names {
        namespace: NAMESPACE.to_owned(),
        set: SET.to_owned(),
        claim_template: TEMPLATE.to_owned(),
        pod: pod.clone(),
    }
}

impl World {
    /// A pilot sends a request: what becomes of it is drawn now.
    pub(crate) fn dispatch(&mut self, mut request: Request) {
        self.requests += 1;
        self.oracle.judge_sent(self.now, request.life, &request.from);
        let write = request.call.is_write() && !matches!(*request.call, Call::PostEvent(_));
        let ordinal = request.from.name.ordinal().unwrap_or(0);
        let chance = &mut self.chances.api;
        let (there, back) = (chance.between(1, 25), chance.between(1, 25));
        let planted = self.options.planted;
        let cut = self.broken.api_cuts.get(&ordinal).is_some_and(|until| self.now < *until);
        if cut || self.now < self.broken.outage_until {
            // Half of the outages refuse connections, the other half swallow what is sent.
            if chance.happens(500) {
                let result = Err(Failure::Ambiguous("connection refused".to_owned()));
                let event = Event::Api { id: request.id, result };
                self.after(there, Happening::Hear(request.life, Box::new(event)));
            }
            if planted == Some(Planted::StopsWithoutApi) {
                self.stops_its_database(request.life);
            }
            return;
        }
        request.answer_after = Some(back);
        let mut arrives = there;
        let lease = matches!(*request.call, Call::CreateLease(_) | Call::ReplaceLease { .. });
        if write
            && !lease
            && let Some(held) = self.broken.held.remove(&request.life)
        {
            let (from, call) = (request.from.clone(), word(&request.call));
            self.tell(format!("{call} of {from} is held for {held} ms"));
            self.writes_held += 1;
            request.held = true;
            arrives = held;
        } else if write && !lease && self.broken.replies_lost.remove(&request.life) {
            request.answer_after = None;
        } else if self.now < self.broken.fates.1 && chance.happens(self.broken.fates.0) {
            match chance.below(6) {
                0 => return,
                1 => {
                    let failure = Failure::Ambiguous("500: the server had a bad moment".to_owned());
                    let result = planted::error_is_absence(planted, &request.call, failure);
                    let event = Event::Api { id: request.id, result };
                    self.after(there, Happening::Hear(request.life, Box::new(event)));
                    return;
                }
                2 => request.answer_after = None,
                3 => request.answer_after = Some(chance.between(500, 4_000)),
                4 => arrives = chance.between(500, 4_000),
                _ => {
                    arrives = chance.between(2_500, 120_000);
                    request.answer_after = None;
                }
            }
        }
        if planted == Some(Planted::IntentBeforeRecord) && matches!(*request.call, Call::ReplaceRecord(..)) {
            request.answer_after = None;
            let event = Event::Api { id: request.id, result: Ok(Answer::Written) };
            self.after(there, Happening::Hear(request.life, Box::new(event)));
            arrives += 3_000;
            if let (Some(agent), Call::ReplaceRecord(_, record)) = (self.agents.get_mut(&request.life), &*request.call)
            {
                agent.kept.record = Some((**record).clone());
            }
        }
        if planted == Some(Planted::ClientRetries) && write && request.answer_after.is_none() {
            self.after(arrives + 1_000, Happening::Request(Box::new(request.clone())));
        }
        self.after(arrives, Happening::Request(Box::new(request)));
    }

    /// S-BOOT: a cluster is founded only where every declared member has been looked at and is empty.
    fn judge_founding(&mut self, by: &PilotId) {
        let declared = (0..self.cluster.replicas().unwrap_or(0)).filter_map(pod_name);
        let is_empty = |name: &PilotName| {
            let volume = self.cluster.claim(name).and_then(|claim| self.volumes.get(&claim));
            volume.is_some_and(|v| (v.durable.is_some() || v.forgot) && v.data.is_none())
        };
        let unasked: Option<PilotName> = declared.into_iter().find(|name| !is_empty(name));
        if let Some(name) = unasked {
            let why = format!("{by} founds while {name} is not known to be empty");
            self.oracle.broken(super::oracle::Rule::Boot, why);
        }
    }

    /// Whether most of the roster hold the Lease's holder silent.
    fn holder_is_held_silent(&self) -> bool {
        let (Some(lease), Some(record)) = (self.cluster.lease(), self.cluster.record()) else { return false };
        let Some(holder) = self.agents.values().find(|a| a.id.to_string() == lease.holder) else { return false };
        let silent = |name: &PilotName| {
            self.held_silent.get(&(name.clone(), holder.id.clone())).is_some_and(|at| at + 2_000 > self.now)
        };
        record.roster.iter().filter(|v| silent(&v.name)).count() * 2 > record.roster.len()
    }

    /// A request has reached the API.
    pub(crate) fn execute(&mut self, request: Request) {
        let Request { life, from, id, call, answer_after, held, sent } = request;
        let names = names(&from.name);
        let wall = self.clock(&from.name).wall(self.now);
        let text = crate::kubernetes::ModelTime(wall).rfc3339_micro();
        let http = match encode(&names, &call, &text) {
            Ok(http) => planted::blind(self.options.planted, &call, http),
            Err(failure) => {
                self.hear(life, Event::Api { id, result: Err(failure) });
                return;
            }
        };
        let before = self.cluster.target(&http.path);
        let stamp_before = before.as_ref().map(|(_, stamp)| *stamp);
        let untouched = match &*call {
            Call::StampPod(target) | Call::EvictPod(target) => self.cluster.never_ran(target.name()),
            _ => false,
        };
        let held_by = self.cluster.lease().map(|l| l.holder);
        let revision = self.cluster.revision();
        let ordinal = from.name.ordinal().unwrap_or(0);
        let user = from.to_string();
        let response = match self.broken.fronts.answer(self.now, ordinal, &user, &call, &http) {
            Some(stale) if self.options.planted == Some(Planted::StaleAsFresh) => {
                let fresh = self.cluster.handle(self.now, &user, &http).value();
                Response { body: Body::Made(planted::as_if_fresh(stale.value(), &fresh)), ..stale }
            }
            Some(answer) => answer,
            None => self.cluster.handle(self.now, &user, &http),
        };
        let status = response.status;
        // A refused eviction has taken from its budget all the same.
        let committed = status < 300 && self.cluster.revision() != revision;
        if held {
            self.held_answers.push(status);
        }
        if call.is_write() {
            if !matches!(*call, Call::PostEvent(_) | Call::ReplaceLease { .. }) || status >= 300 {
                self.tell(format!("{from} {} -> {status}", word(&call)));
            }
            let lease = self.cluster.lease();
            let record = self.cluster.record();
            let (now, call) = (self.now, &*call);
            let failed = status >= 400;
            let commit = Commit { now, life, id, from: &from, call, http: &http, before, untouched, committed, failed };
            self.oracle.judge_write(&commit, lease.as_ref(), record.as_deref());
            self.judge_disturbance(&from, call, &sent, (status, committed));
            if committed && matches!(call, Call::CreateRecord(_)) {
                self.judge_founding(&from);
            }
            if let (true, Call::ReplaceRecord(..)) = (committed, call) {
                self.judge_replacement(&from);
            }
            if let (true, Call::ReplaceLease { content, .. }) = (committed, call)
                && content.holder.is_some()
                && let Some(holder) = held_by
            {
                self.judge_taking(&from, &holder);
            }
        }
        let mut result = match &response.body {
            Body::List { items, .. } if self.options.planted.is_none() && response.is_success() => {
                decode_items(&names, &call, items.iter().map(|item| &**item))
            }
            Body::Object(body) if self.options.planted.is_none() => decode(&names, &call, status, body),
            Body::List { .. } | Body::Object(_) | Body::Made(_) | Body::Watch(_) => {
                let body = self.as_planted(&call, &from, wall, response.value());
                decode(&names, &call, status, &body)
            }
        };
        let (founded, next) = self.cluster.record().map_or((false, 0), |record| (true, record.next_operation));
        if let Some(agent) = self.agents.get_mut(&life) {
            let mut reader = planted::Reader { kept: &mut agent.kept, founded, next };
            result = planted::misread(self.options.planted, &call, &mut reader, result);
        }
        if let Some(wait) = answer_after {
            self.after(wait, Happening::Hear(life, Box::new(Event::Api { id, result })));
        }
        if committed && let Some(step) = plan::Step::of(&call, stamp_before) {
            self.marks.mark(format!("step {step:?}"));
            self.step(life, step);
        }
    }

    /// The body as an adapter with the planted bug has it.
    fn as_planted(&self, call: &Call, from: &PilotId, wall: u64, body: Value) -> Value {
        let planted = self.options.planted;
        let silent = planted.is_some() && self.holder_is_held_silent();
        let body = planted::lease_misread(planted, call, &from.to_string(), wall, silent, body);
        let body = planted::stamp_unread(planted, call, body);
        let epoch = planted.and_then(|_| self.cluster.lease()).map_or(0, |lease| lease.epoch);
        planted::stamp_assumed(planted, call, epoch, body)
    }
}

pub(crate) fn word(call: &Call) -> String {
    match call {
        Call::GetLease => "reads the Lease".to_owned(),
        Call::CreateLease(content) => format!("makes the Lease at epoch {}", content.epoch),
        Call::ReplaceLease { content, .. } => match &content.holder {
            Some(holder) => format!("writes the Lease for {holder} at epoch {}", content.epoch),
            None => "gives the Lease back".to_owned(),
        },
        Call::GetRecord => "reads the record".to_owned(),
        Call::CreateRecord(record) => format!("makes the record of {}", record.cluster),
        Call::ReplaceRecord(_, record) => match &record.intent {
            Some(intent) => format!("writes the record with {}", intent.operation),
            None => format!("writes the record, {} members", record.members.len()),
        },
        Call::GetSet => "reads the set".to_owned(),
        Call::StampPod(target) => format!("stamps the pod {} with {}", target.name(), target.epoch()),
        Call::EvictPod(target) => format!("evicts {}", target.name()),
        Call::StampSet(target) => format!("stamps the set with {}", target.epoch()),
        Call::Scale(target, size) => format!("sets the size to {size} at epoch {}", target.epoch()),
        Call::ListPods => "lists pods".to_owned(),
        Call::ListClaims => "lists claims".to_owned(),
        Call::MarkClaim(target, _) => format!("marks {}", target.name()),
        Call::GetOwnPod => "reads its pod".to_owned(),
        Call::GetOwnClaim => "reads its claim".to_owned(),
        Call::PostEvent(event) => format!("posts {}", event.reason),
    }
}
