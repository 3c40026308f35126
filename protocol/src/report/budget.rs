//! What of a report fits gossip: values have a longest length, pilots a most of bytes, and a report must never be held
//! back as a whole because one part of it has grown.

use super::{MeshReport, OperationReport, ReportError, Role, put};
use crate::database::{RingMember, RingStatus};
use crate::id::DatabaseIdentity;
use crate::keys;
use serde::Serialize;
use std::collections::BTreeMap;

/// Kept for the number of ring lines.
const NUMBER: usize = 8;

/// Puts a value, shortened step by step until it fits.
pub(super) fn put_shortened<T: Serialize>(
    values: &mut BTreeMap<String, String>,
    key: &str,
    mut value: T,
    shorten: impl Fn(&mut T) -> bool,
) -> Result<(), ReportError> {
    loop {
        match put(values, key, &value) {
            Err(ReportError::TooLong { .. }) if shorten(&mut value) => {}
            result => return result,
        }
    }
}

/// Takes the least relevant thing out; false where nothing is left that may be missing.
pub(super) fn shorten_mesh(mesh: &mut MeshReport) -> bool {
    // The coordinator heard last comes first: the others wait for evidence of nobody else.
    if let Some(promise) = &mesh.promise {
        let holder = promise.holder.clone();
        mesh.ended.sort_by_key(|id| *id != holder);
        mesh.silent.sort_by_key(|id| *id != holder);
    }
    let longer = if mesh.silent.len() >= mesh.ended.len() { &mut mesh.silent } else { &mut mesh.ended };
    if longer.len() > 1 {
        return longer.pop().is_some();
    }
    if let Role::Coordinator { degraded: Some(why), .. } = &mut mesh.role
        && halve(why)
    {
        return true;
    }
    // Without the order obeyed last, a coordinator gives it again; repeating it changes nothing.
    mesh.keys.pop().is_some()
        || mesh.obeyed.take().is_some()
        || mesh.silent.pop().is_some()
        || mesh.ended.pop().is_some()
}

/// Halves what the operation waits for.
pub(super) fn shorten_operation(operation: &mut Option<OperationReport>) -> bool {
    operation.as_mut().is_some_and(|o| halve(&mut o.step))
}

/// Takes the oldest out.
pub(super) fn shorten_list<T>(list: &mut Vec<T>) -> bool {
    if list.is_empty() {
        return false;
    }
    list.remove(0);
    true
}

fn halve(text: &mut String) -> bool {
    let keep = text.chars().count() / 2;
    let cut = text.char_indices().nth(keep).map_or(0, |(at, _)| at);
    let any = !text.is_empty();
    text.truncate(cut);
    any
}

/// What these take of the most bytes of a pilot.
pub(super) fn bytes(values: &BTreeMap<String, String>) -> usize {
    values.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Puts the ring where all of it fits beside what is there already. One that does not fit is not told: its database
/// counts as one that cannot be asked, which holds whatever would need its word.
pub(super) fn put_ring(values: &mut BTreeMap<String, String>, ring: Option<&[RingMember]>) -> Result<(), ReportError> {
    let room = keys::MOST_BYTES.saturating_sub(bytes(values) + keys::RING.len() + NUMBER);
    let most = keys::MOST_KEYS.saturating_sub(values.len() + 1);
    let mut told: Option<usize> = None;
    if let Some(ring) = ring
        && let Some(chunks) = chunks(ring)?
    {
        let bytes: usize = chunks.iter().map(|(key, text)| key.len() + text.len()).sum();
        if bytes <= room && chunks.len() <= most {
            told = Some(ring.len());
            values.extend(chunks);
        }
    }
    put(values, keys::RING, &told)
}

/// The lines, as many in each value as it takes; `None` where one line is too long for any.
fn chunks(ring: &[RingMember]) -> Result<Option<Vec<(String, String)>>, ReportError> {
    let mut chunks: Vec<(String, String)> = Vec::new();
    let mut rest = ring;
    while !rest.is_empty() {
        let key = format!("{}.{}", keys::RING, chunks.len());
        let Some((text, taken)) = chunk(&key, rest)? else {
            return Ok(None);
        };
        rest = rest.split_at(taken).1;
        chunks.push((key, text));
    }
    Ok(Some(chunks))
}

/// As many lines as one value takes, and their number; `None` where it takes not even one.
fn chunk(key: &str, lines: &[RingMember]) -> Result<Option<(String, usize)>, ReportError> {
    let mut texts: Vec<String> = Vec::new();
    let mut length = key.len() + 2;
    for line in lines {
        let text = write_line(line);
        let quoted =
            serde_json::to_string(&text).map_err(|e| ReportError::Value { key: key.to_owned(), why: e.to_string() })?;
        length += quoted.len() + 1;
        if length > keys::LONGEST_VALUE {
            if texts.is_empty() {
                return Ok(None);
            }
            break;
        }
        texts.push(text);
    }
    let taken = texts.len();
    serde_json::to_string(&texts)
        .map(|text| Some((text, taken)))
        .map_err(|e| ReportError::Value { key: key.to_owned(), why: e.to_string() })
}

/// One ring line in as few bytes as people can still read: status, liveness, identity.
pub(super) fn write_line(line: &RingMember) -> String {
    let status = match line.status {
        RingStatus::Joining => 'J',
        RingStatus::Normal => 'N',
        RingStatus::Leaving => 'L',
        RingStatus::Left => 'G',
        RingStatus::Shutdown => 'S',
        RingStatus::Unknown => 'U',
    };
    let up = match line.up {
        Some(true) => '+',
        Some(false) => '-',
        None => '?',
    };
    format!("{status}{up}{}", line.identity)
}

/// Reads what [`write_line`] wrote. A letter that is not known is a status that is not known.
pub(super) fn read_line(text: &str) -> Option<RingMember> {
    let mut letters = text.chars();
    let status = match letters.next()? {
        'J' => RingStatus::Joining,
        'N' => RingStatus::Normal,
        'L' => RingStatus::Leaving,
        'G' => RingStatus::Left,
        'S' => RingStatus::Shutdown,
        _ => RingStatus::Unknown,
    };
    let up = match letters.next()? {
        '+' => Some(true),
        '-' => Some(false),
        _ => None,
    };
    Some(RingMember { identity: DatabaseIdentity::new(letters.as_str()), status, up })
}
