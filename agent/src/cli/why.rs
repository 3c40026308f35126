//! `pilot why`: the last decisions, newest first, each with its reasons.

use super::paint::{Paint, Tone};
use super::text::{ago, quiet};
use super::{Done, Output, WhyArgs, document, fetch, say, status};
use crate::pilot::decisions::Entry;
use crate::pilot::state::{DecisionsDocument, StateDocument};
use policies::plan::{Reason, Rule, Verdict};
use protocol::report::Brief;

pub(super) async fn run(args: WhyArgs) -> Done {
    let decisions = fetch::get(&args.ask, "/decisions").await?;
    match args.output {
        Output::Json | Output::Yaml => say(&document(&decisions, args.output)?),
        Output::Text | Output::Wide => {
            let state: StateDocument = fetch::read(&fetch::get(&args.ask, "/state").await?)?;
            let decisions: DecisionsDocument = fetch::read(&decisions)?;
            say(&render(&state, &decisions, args.subject.as_deref(), args.last, Paint::for_stdout()))?;
            Ok(status::code(&state))
        }
    }
}

/// One decision, whoever told it.
enum Told<'a> {
    Own(&'a Entry, Vec<&'a Reason>),
    Heard(&'a Brief),
}

impl Told<'_> {
    fn order(&self) -> (u64, u64) {
        match self {
            Self::Own(entry, _) => (entry.epoch.0, entry.number),
            Self::Heard(brief) => (brief.epoch.0, brief.number),
        }
    }
}

/// What was decided, newest first, about the subject if one is given.
pub(super) fn render(
    state: &StateDocument,
    decisions: &DecisionsDocument,
    subject: Option<&str>,
    last: usize,
    paint: Paint,
) -> String {
    let about = |text: &str| subject.is_none_or(|subject| text == subject);
    let own = decisions.own.iter().filter_map(|entry| {
        let reasons: Vec<&Reason> = entry.reasons.iter().filter(|reason| about(&reason.subject)).collect();
        (!reasons.is_empty()).then_some(Told::Own(entry, reasons))
    });
    let heard = decisions.heard.iter().filter(|brief| about(brief.text.split(' ').next().unwrap_or_default()));
    let mut told: Vec<Told<'_>> = own.chain(heard.map(Told::Heard)).collect();
    told.sort_by_key(|told| std::cmp::Reverse(told.order()));

    let mut out = String::new();
    if let Some(subject) = subject {
        out.push_str(&present(state, subject));
    }
    if told.is_empty() {
        out.push_str(&nothing(state, subject));
    }
    for told in told.iter().take(last) {
        match told {
            Told::Own(entry, reasons) => {
                let age = ago(state.me.now.since(entry.at));
                let heading = format!("epoch {} #{}, {age}, decided by {}", entry.epoch, entry.number, state.me.name);
                out.push_str(&format!("{}\n", paint.tone(Tone::Dim, &heading)));
                for reason in reasons {
                    out.push_str(&words(reason, paint));
                }
            }
            Told::Heard(brief) => {
                let heading =
                    format!("epoch {} #{}, heard from the coordinator of that time", brief.epoch, brief.number);
                out.push_str(&format!("{}\n  {}\n", paint.tone(Tone::Dim, &heading), quiet(&brief.text)));
            }
        }
    }
    out
}

/// How a member stands now, before what was decided about it.
fn present(state: &StateDocument, subject: &str) -> String {
    let Some(member) = state.members.iter().find(|m| m.name.as_str() == subject) else { return String::new() };
    let mut line = format!("{subject} now: {}", status::phase_word(member.database.as_ref()));
    for note in status::notes(state, member) {
        line.push_str("; ");
        line.push_str(&quiet(&note));
    }
    if let Some(operation) = state.operation.as_ref().filter(|o| o.subject == subject) {
        line.push_str(&quiet(&format!("; {}: {}", operation.kind, operation.step)));
    }
    line.push_str("\n\n");
    line
}

fn nothing(state: &StateDocument, subject: Option<&str>) -> String {
    let what = subject.map_or_else(String::new, |subject| format!(" about {}", quiet(subject)));
    let whom = match &state.coordinator {
        Some(c) if c.pilot == state.me.name => "it coordinates and remembers its own life only".to_owned(),
        Some(c) => {
            let report = state.members.iter().find(|m| m.name == c.pilot).and_then(|m| m.report.as_ref());
            let place = report.map_or_else(String::new, |r| format!(" at http://{}", r.about.http));
            format!("ask the coordinator, {}{place}, which remembers more", c.pilot)
        }
        None => "and nobody coordinates now, so nothing is decided".to_owned(),
    };
    format!("{} remembers no decision{what}: {whom}\n", state.me.name)
}

fn words(reason: &Reason, paint: Paint) -> String {
    let (verdict, tone) = match reason.verdict {
        Verdict::Act => ("acts", Tone::Good),
        Verdict::Wait => ("waits", Tone::Busy),
        Verdict::Refuse => ("refuses", Tone::Bad),
        Verdict::Done => ("done", Tone::Plain),
    };
    let verdict = paint.tone(tone, &format!("{verdict:<7}"));
    let rule = paint.tone(Tone::Dim, &format!("{}: {}", reason.rule.word(), meaning(reason.rule)));
    format!("  {verdict}  {}: {}\n           {rule}\n", quiet(&reason.subject), quiet(&reason.fact))
}

/// What a rule says.
fn meaning(rule: Rule) -> &'static str {
    match rule {
        Rule::FoundOnce => {
            "a cluster is founded once, when every declared member says its volume is empty and no claim has an identity"
        }
        Rule::OneAtATime => "one change of a cluster at a time",
        Rule::AllServing => "nothing changes while a member is not seen up and serving by all",
        Rule::SchemaAgreed => "nothing joins or leaves while members disagree about the schema",
        Rule::ReplicasKeepHomes => "a member may only leave where enough stay for every replica",
        Rule::Settle => "after a change some time passes before the next",
        Rule::RollInBudget => "pods follow their template one after the other, within what may be unavailable",
        Rule::RollStops => "a roll stops at members that do not come back",
        Rule::Bounds => "the size stays within the policy's bounds",
        Rule::LeaveByGrant => "a member leaves for good only by a grant, judged against the size wanted",
        Rule::ReturnOnClaim => "a pod that is still wanted drains and returns on its claim",
        Rule::UnfinishedLeave => "a leave that was cut off is carried on when its pod is back",
        Rule::JoinByGrant => "new members start one at a time, by grant",
        Rule::RetiredStaysOut => "data of a retired identity is never started, only moved aside",
        Rule::UnknownDataStays => "data that is nobody's is never overwritten",
        Rule::PeersDecide => "peers, not the member itself, say who is in the ring",
        Rule::OneOldLease => "what an earlier coordinator began may still run, so membership waits for one old lease",
        Rule::StampFirst => "every governed object carries the epoch before anything else is done",
        Rule::UnknownHolds => "what is not known is neither healthy nor gone",
        Rule::ReplaceByApproval => {
            "a member whose data is lost is replaced only where a person approves it, and all others hold their part"
        }
    }
}
