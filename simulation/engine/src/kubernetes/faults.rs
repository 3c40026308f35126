//! What may go wrong between a client and the API, as data: whoever carries the requests applies it.
//!
//! The model itself always answers. The HTTP server and the simulator ask [`Faults::verdict`] for each
//! request first, and hold, drop or refuse it as told.

use std::collections::BTreeSet;

use super::request::{Method, Request};

/// Which requests a rule is about; an absent part matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matcher {
    /// The exact user.
    pub user: Option<String>,
    /// The method.
    pub method: Option<Method>,
    /// A part of the path; empty matches all.
    pub path_contains: String,
}

impl Matcher {
    /// Requests of `user` with `method` whose path contains `path`.
    #[must_use]
    pub fn new(user: &str, method: Method, path: &str) -> Self {
        Self { user: Some(user.to_owned()), method: Some(method), path_contains: path.to_owned() }
    }

    /// Whether the rule is about this request.
    #[must_use]
    pub fn matches(&self, request: &Request) -> bool {
        self.user.as_ref().is_none_or(|user| *user == request.user)
            && self.method.is_none_or(|method| method == request.method)
            && request.path.contains(&self.path_contains)
    }
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It waits inside the API until the rule is released, and is executed then.
    Hold,
    /// It is executed, and the answer never arrives.
    LoseReply,
    /// It is not executed, and no answer arrives.
    LoseRequest,
    /// It is not executed and answered with this status.
    Answer(u16),
}

/// Names one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u64);

#[derive(Debug, Clone)]
struct Rule {
    id: RuleId,
    matcher: Matcher,
    fate: Fate,
    /// How many more requests it takes; `None` for all.
    remaining: Option<u32>,
    caught: u64,
}

/// How one request is to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Execute and answer.
    Answer,
    /// Close the connection without a word: the server is away.
    Refuse,
    /// Never answer and do not execute: the user's network is cut.
    TimeOut,
    /// A rule decides.
    Fate(Fate, RuleId),
}

/// The faults in force.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    outage: bool,
    cut: BTreeSet<String>,
    rules: Vec<Rule>,
    next: u64,
}

impl Faults {
    /// The server is away for everybody, or back.
    pub fn set_outage(&mut self, outage: bool) {
        self.outage = outage;
    }

    /// Whether the server is away.
    #[must_use]
    pub fn outage(&self) -> bool {
        self.outage
    }

    /// Cuts a user off: their requests are neither executed nor answered.
    pub fn cut(&mut self, user: &str) {
        self.cut.insert(user.to_owned());
    }

    /// Reconnects a user.
    pub fn heal(&mut self, user: &str) {
        self.cut.remove(user);
    }

    /// Whether a user is cut off.
    #[must_use]
    pub fn is_cut(&self, user: &str) -> bool {
        self.cut.contains(user)
    }

    /// Adds a rule for the next `count` matching requests, or for all. Earlier rules go first.
    pub fn add(&mut self, matcher: Matcher, fate: Fate, count: Option<u32>) -> RuleId {
        let id = RuleId(self.next);
        self.next += 1;
        self.rules.push(Rule { id, matcher, fate, remaining: count, caught: 0 });
        id
    }

    /// Ends a rule. Requests it holds are executed now.
    pub fn release(&mut self, id: RuleId) {
        self.rules.retain(|rule| rule.id != id);
    }

    /// Whether a rule is still in force: held requests wait for it to end.
    #[must_use]
    pub fn is_active(&self, id: RuleId) -> bool {
        self.rules.iter().any(|rule| rule.id == id)
    }

    /// How many requests a rule has caught; 0 for one that ended.
    #[must_use]
    pub fn caught(&self, id: RuleId) -> u64 {
        self.rules.iter().find(|rule| rule.id == id).map_or(0, |rule| rule.caught)
    }

    /// Decides about one request; a rule with a count uses one up.
    pub fn verdict(&mut self, request: &Request) -> Verdict {
        if self.outage {
            return Verdict::Refuse;
        }
        if self.cut.contains(&request.user) {
            return Verdict::TimeOut;
        }
        let found = self.rules.iter_mut().find(|rule| rule.remaining != Some(0) && rule.matcher.matches(request));
        match found {
            Some(rule) => {
                rule.remaining = rule.remaining.map(|count| count - 1);
                rule.caught += 1;
                Verdict::Fate(rule.fate, rule.id)
            }
            None => Verdict::Answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_takes_only_its_count_and_only_what_matches() {
        let mut faults = Faults::default();
        let rule = faults.add(Matcher::new("a", Method::Put, "/leases/"), Fate::Hold, Some(1));
        let put = Request::put("a", "/apis/coordination.k8s.io/v1/namespaces/d/leases/x", serde_json::Value::Null);
        assert_eq!(faults.verdict(&Request::get("a", &put.path)), Verdict::Answer);
        assert_eq!(faults.verdict(&put), Verdict::Fate(Fate::Hold, rule));
        assert_eq!(faults.verdict(&put), Verdict::Answer);
        assert!(faults.is_active(rule), "a used-up rule still holds what it caught");
        faults.release(rule);
        assert!(!faults.is_active(rule));
    }

    #[test]
    fn an_outage_refuses_all_and_a_cut_only_its_user() {
        let mut faults = Faults::default();
        let get = |user: &str| Request::get(user, "/api");
        faults.cut("a");
        assert_eq!(faults.verdict(&get("a")), Verdict::TimeOut);
        assert_eq!(faults.verdict(&get("b")), Verdict::Answer);
        faults.set_outage(true);
        assert_eq!(faults.verdict(&get("b")), Verdict::Refuse);
        faults.set_outage(false);
        faults.heal("a");
        assert_eq!(faults.verdict(&get("a")), Verdict::Answer);
    }
}
