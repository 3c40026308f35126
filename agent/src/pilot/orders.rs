//! Orders: announced, fetched with a nonce, valid from the sending of the nonce, obeyed once.

use super::durable::Obeyed;
use super::{FRESH_ORDER, Pilot};
use crate::effect::{Effect, LocalAct, StartAs};
use policies::plan::{Reason, Rule, Verdict};
use protocol::database::{DatabasePhase, VolumeState};
use protocol::epoch::Epoch;
use protocol::id::{ClusterId, DatabaseIdentity, OperationId, PilotId, PilotName, Uid};
use protocol::message::Message;
use protocol::order::{OldData, Order, OrderKind, Outcome};
use protocol::promise::{Promise, may_promise};
use protocol::time::{Millis, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// Both sides of orders.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    next_sequence: u64,
    next_nonce: u64,
    /// Given by this pilot as coordinator.
    given: BTreeMap<u64, Given>,
    /// Fetched by this pilot, by nonce.
    fetched: BTreeMap<u64, Fetched>,
}

#[derive(Debug, Clone)]
struct Given {
    to: PilotName,
    order: Order,
    announced: Timestamp,
    /// The nonce to answer, and the round whose majority must be there first.
    fetched: Option<(u64, u64)>,
}

#[derive(Debug, Clone)]
struct Fetched {
    from: PilotId,
    epoch: Epoch,
    sent: Timestamp,
}

impl Orders {
    pub(crate) fn new(nonce: u64) -> Self {
        Self { next_sequence: 0, next_nonce: nonce, given: BTreeMap::new(), fetched: BTreeMap::new() }
    }
}

impl Pilot {
    /// As coordinator: an order lies ready for its target.
    pub(crate) fn announce(
        &mut self,
        now: Timestamp,
        to: PilotName,
        pod: Uid,
        operation: OperationId,
        kind: OrderKind,
    ) {
        let Some(epoch) = self.leadership.as_ref().map(|l| l.epoch) else {
            return;
        };
        self.orders.next_sequence += 1;
        let sequence = self.orders.next_sequence;
        let order = Order { epoch, sequence, operation, pod, kind };
        if to == self.setup.id.name {
            // The coordinator's own member obeys by the same rule; the majority was fresh an instant ago.
            let id = self.setup.id.clone();
            self.obey(now, &id, order);
            return;
        }
        self.orders.given.retain(|_, g| now.since(g.announced) < Duration::from_secs(10) && g.order.epoch == epoch);
        self.orders.given.insert(sequence, Given { to: to.clone(), order, announced: now, fetched: None });
        self.out.push(Effect::Send(to, Message::Announce { epoch, sequence }));
    }

    /// As target: the order is fetched with a number never used before.
    pub(crate) fn announced(&mut self, now: Timestamp, from: &PilotId, epoch: Epoch, sequence: u64) {
        if self.durable.promise.as_ref().is_some_and(|p| p.epoch > epoch) {
            return;
        }
        self.orders.next_nonce = self.orders.next_nonce.wrapping_add(1);
        let nonce = self.orders.next_nonce;
        self.orders.fetched.retain(|_, f| now.since(f.sent) < Duration::from_secs(10));
        if self.orders.fetched.len() >= 64 {
            return;
        }
        self.orders.fetched.insert(nonce, Fetched { from: from.clone(), epoch, sent: now });
        self.out.push(Effect::Send(from.name.clone(), Message::Fetch { epoch, sequence, nonce }));
    }

    /// As coordinator: before the order goes out, a majority must promise once more.
    pub(crate) fn fetched(&mut self, now: Timestamp, from: &PilotId, epoch: Epoch, sequence: u64, nonce: u64) {
        if !self.leadership.as_ref().is_some_and(|l| l.epoch == epoch && l.is_valid(now)) {
            return;
        }
        let known = self.orders.given.get(&sequence).is_some_and(|g| g.to == from.name && g.fetched.is_none());
        if !known {
            return;
        }
        let round = self.ask(now);
        if let Some(given) = self.orders.given.get_mut(&sequence) {
            given.fetched = Some((nonce, round));
        }
        self.deliver_ready(now);
    }

    /// As coordinator: delivers what was fetched and has its majority.
    pub(crate) fn deliver_ready(&mut self, now: Timestamp) {
        let Some(leading) = &self.leadership else {
            self.orders.given.clear();
            return;
        };
        if !leading.is_valid(now) || leading.hears_nobody(&self.view) {
            return;
        }
        let left = leading.valid_until.since(now).min(FRESH_ORDER);
        let ready: Vec<u64> = self
            .orders
            .given
            .iter()
            .filter(|(_, g)| {
                g.fetched.is_some_and(|(_, round)| leading.has_majority_since(round)) && g.order.epoch == leading.epoch
            })
            .map(|(s, _)| *s)
            .collect();
        for sequence in ready {
            if let Some(Given { to, order, fetched: Some((nonce, _)), announced, .. }) =
                self.orders.given.remove(&sequence)
                && now.since(announced) < FRESH_ORDER
            {
                self.out.push(Effect::Send(to, Message::Deliver { nonce, valid_for: Millis::from(left), order }));
            }
        }
    }

    /// As target: an order arrives, for a nonce of ours, in time.
    pub(crate) fn delivered(&mut self, now: Timestamp, from: &PilotId, nonce: u64, valid_for: Millis, order: Order) {
        let Some(fetched) = self.orders.fetched.remove(&nonce) else {
            return;
        };
        let in_time = now < fetched.sent.plus(valid_for.into());
        if fetched.from != *from || fetched.epoch != order.epoch || !in_time {
            return;
        }
        self.obey(now, from, order);
    }

    /// Obeys an order, or says why not. What it obeys is on disk first.
    fn obey(&mut self, now: Timestamp, from: &PilotId, order: Order) {
        let (epoch, sequence) = (order.epoch, order.sequence);
        let answer = |outcome| Effect::Send(from.name.clone(), Message::Outcome { epoch, sequence, outcome });
        let asked = Promise { epoch, holder: from.clone() };
        let name = order.kind.name();
        let verdict =
            may_promise(&asked, self.durable.promise.as_ref(), self.floor_known.then_some(self.durable.floor))
                .map_err(|e| e.to_string())
                .and_then(|()| self.may_obey(&order));
        if let Err(why) = verdict {
            let subject = self.own().to_string();
            self.tell(
                now,
                epoch,
                vec![Reason {
                    verdict: Verdict::Refuse,
                    subject,
                    rule: Rule::UnknownHolds,
                    fact: format!("order {name} of {} refused: {why}", order.operation),
                }],
            );
            self.out.push(answer(Outcome::Refused(why)));
            return;
        }
        if self.durable.has_obeyed(&order.operation, name, &order.pod) && !self.is_to_be_done_again(now, &order.kind) {
            self.out.push(answer(Outcome::Obeyed));
            return;
        }
        self.durable.promise = Some(asked);
        self.raise_floor(epoch);
        self.durable.obey(Obeyed { operation: order.operation.clone(), order: name, pod: order.pod.clone(), epoch });
        let mut effects = vec![answer(Outcome::Obeyed)];
        match order.kind {
            OrderKind::Found { cluster } => {
                self.durable.cluster = Some(cluster);
                self.durable.begun_under = Some(order.operation);
                self.durable.replaces = None;
                effects.extend(self.start_effect(StartAs::Founder));
            }
            OrderKind::Join { cluster, move_aside } => {
                effects.extend(self.join(cluster, order.operation, move_aside, None));
            }
            OrderKind::Replace { cluster, identity, move_aside } => {
                effects.extend(self.join(cluster, order.operation, move_aside, Some(identity)));
            }
            OrderKind::Leave { .. } => {
                let operation = order.operation;
                effects.push(self.local_effect(LocalAct::Leave { operation }));
            }
            OrderKind::EndAfterLeave => {
                let operation = order.operation;
                self.durable.left = true;
                self.local.has_left();
                effects.push(self.local_effect(LocalAct::EndAfterLeave { operation }));
            }
            OrderKind::EndAndReturn => {
                self.local.return_in = self.launcher.as_ref().map(|s| s.life);
                effects.push(self.local_effect(LocalAct::DrainAndStop));
            }
        }
        self.local.forget_looks();
        self.keep_then(effects);
    }

    /// Starts as a new member, after what lies here has been moved aside.
    fn join(
        &mut self,
        cluster: ClusterId,
        operation: OperationId,
        move_aside: Option<OldData>,
        replaces: Option<DatabaseIdentity>,
    ) -> Vec<Effect> {
        self.durable.cluster = Some(cluster);
        self.durable.replaces = replaces;
        let begun = self.durable.begun_under.as_ref() == Some(&operation);
        match move_aside.filter(|_| !begun) {
            Some(data) => {
                self.local.then_join = Some(operation.clone());
                vec![self.local_effect(LocalAct::MoveAside { data, operation })]
            }
            None => {
                if !begun {
                    // Nothing lies here: whoever is remembered is not who will.
                    self.durable.identity = None;
                    self.durable.left = false;
                }
                self.durable.begun_under = Some(operation);
                self.start_effect(StartAs::Joiner)
            }
        }
    }

    /// Whether an order that was obeyed before means another try. A start may have failed, and a container may end more
    /// than once in the life of a pod. The others are kept at by this pilot itself, see `keep_at_orders`.
    fn is_to_be_done_again(&self, now: Timestamp, kind: &OrderKind) -> bool {
        match kind {
            OrderKind::Found { .. } | OrderKind::Join { .. } | OrderKind::Replace { .. } => self.may_try_to_start(now),
            OrderKind::EndAndReturn => self.may_try_to_drain(now),
            OrderKind::Leave { .. } | OrderKind::EndAfterLeave => false,
        }
    }

    fn may_obey(&self, order: &Order) -> Result<(), String> {
        if order.pod != self.setup.pod {
            return Err(format!("it is for pod {}, this is {}", order.pod, self.setup.pod));
        }
        let begun = self.durable.begun_under.as_ref() == Some(&order.operation);
        let held = self.is_held();
        match &order.kind {
            OrderKind::Found { cluster } => {
                if self.durable.cluster.as_ref().is_some_and(|c| c != cluster) {
                    return Err("this volume belongs to another cluster".to_owned());
                }
                match &self.volume {
                    Some(VolumeState::Empty) if held => Ok(()),
                    Some(VolumeState::Empty | VolumeState::Holds(_) | VolumeState::HoldsUnknown) if begun => Ok(()),
                    Some(_) if !held => Err("the database runs already".to_owned()),
                    Some(_) | None => Err("the volume is not known to be empty".to_owned()),
                }
            }
            OrderKind::Join { cluster, move_aside } | OrderKind::Replace { cluster, move_aside, .. } => {
                if self.durable.cluster.as_ref().is_some_and(|c| c != cluster) {
                    return Err("this volume belongs to another cluster".to_owned());
                }
                if !held {
                    return Err("the database runs already".to_owned());
                }
                match &self.volume {
                    Some(VolumeState::Empty) => Ok(()),
                    Some(VolumeState::Holds(_) | VolumeState::HoldsUnknown) if begun => Ok(()),
                    Some(VolumeState::Holds(identity)) if matches!(move_aside, Some(OldData::Of(old)) if old == identity) => {
                        Ok(())
                    }
                    // Who has lost its memory takes the coordinator's word for what this very operation began.
                    Some(VolumeState::HoldsUnknown)
                        if matches!(move_aside, Some(OldData::BegunUnder(old))
                            if self.durable.begun_under.as_ref() == Some(old) || *old == order.operation) =>
                    {
                        Ok(())
                    }
                    Some(_) | None => Err("the volume holds what the order does not name".to_owned()),
                }
            }
            OrderKind::Leave { identity } => {
                if self.durable.identity.as_ref() == Some(identity) {
                    Ok(())
                } else {
                    Err(format!("this member is not {identity}"))
                }
            }
            // Who has left runs and says so, or does not run. One that was killed while it announced that it had left comes up
            // as a member: that it is a full one again is for its peers to hear, and then it leaves anew.
            OrderKind::EndAfterLeave if self.runs() && !self.durable.left => match self.database.phase {
                DatabasePhase::Held
                | DatabasePhase::Starting
                | DatabasePhase::Joining
                | DatabasePhase::Serving
                | DatabasePhase::Restarting
                | DatabasePhase::CrashLooping
                | DatabasePhase::Stopped
                | DatabasePhase::JoinFailed => Err("its database runs, and may come up as a member".to_owned()),
                DatabasePhase::Unknown
                | DatabasePhase::Leaving
                | DatabasePhase::Left
                | DatabasePhase::Draining
                | DatabasePhase::Unresponsive => Ok(()),
            },
            OrderKind::EndAfterLeave | OrderKind::EndAndReturn => Ok(()),
        }
    }

    /// As coordinator: what became of an order is read from the reports; this only makes it look at once.
    pub(crate) fn outcome(&mut self, now: Timestamp, epoch: Epoch, sequence: u64, outcome: &Outcome) {
        self.orders.given.remove(&sequence);
        if let Some(leading) = self.leadership.as_mut().filter(|l| l.epoch == epoch) {
            leading.order_came_to(outcome);
            if let Outcome::Refused(why) = outcome {
                self.tell(
                    now,
                    epoch,
                    vec![Reason {
                        verdict: Verdict::Refuse,
                        subject: format!("order {sequence}"),
                        rule: Rule::UnknownHolds,
                        fact: format!("its target refused it: {why}"),
                    }],
                );
            }
        }
        self.poke(now);
    }
}
