//! One line of the talk, read with patience for words of a later version.

use protocol::launcher::{Ask, Line, Reply};
use serde_json::Value;

/// What a line was.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// Understood.
    Ask {
        /// The number that the reply repeats.
        id: u64,
        /// What is asked.
        ask: Ask,
    },
    /// Not understood, but it can be answered.
    Answer {
        /// The request's number.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// No request at all: the connection is not worth keeping.
    Garbage(String),
}

/// Every word of [`Ask`] as it is spoken; one that is not among them is of a later version.
const WORDS: [&str; 10] =
    ["watch", "care", "start", "stop", "drain-and-stop", "leave", "end-after-leave", "deadline", "tool", "restart"];

/// Reads one line: its number first, so that what is not known can still be answered.
pub fn hear(line: &[u8]) -> Heard {
    let mut value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(error) => return Heard::Garbage(error.to_string()),
    };
    let Some(id) = value.get("id").and_then(Value::as_u64) else {
        return Heard::Garbage("a request needs a number `id`".to_owned());
    };
    let ask = value.get_mut("ask").map_or(Value::Null, Value::take);
    let word = match &ask {
        Value::String(word) => Some(word.clone()),
        Value::Object(fields) if fields.len() == 1 => fields.keys().next().cloned(),
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    };
    match word {
        None => Heard::Garbage("a request needs one word in `ask`".to_owned()),
        Some(word) if !WORDS.contains(&word.as_str()) => Heard::Answer { id, reply: Reply::Unsupported },
        Some(word) => match serde_json::from_value(ask) {
            Ok(ask) => Heard::Ask { id, ask },
            Err(error) => Heard::Answer {
                id,
                reply: Reply::Refused(format!("`{word}` is not as this launcher knows it: {error}")),
            },
        },
    }
}

/// One line to be sent, its end included.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn say(line: &Line) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::OperationId;
    use protocol::launcher::{Care, DatabaseProgram, Program, Request, StartPermission};
    use protocol::time::Millis;

    fn heard(text: &str) -> Heard {
        hear(text.as_bytes())
    }

    #[test]
    fn every_request_is_understood_as_it_was_meant() {
        let program = || Program { argv: vec!["true".to_owned()], env: Default::default() };
        let operation = OperationId::new("o1");
        let all = [
            Ask::Watch,
            Ask::Care(Care {
                backoff_from: Millis(1),
                backoff_to: Millis(2),
                crash_exits: 3,
                crash_within: Millis(4),
                stop_timeout: Millis(5),
                time_to_drain: Millis(6),
            }),
            Ask::Start {
                program: DatabaseProgram {
                    files: Default::default(),
                    run: program(),
                    drain: program(),
                    leave: program(),
                },
                permission: StartPermission { pod: protocol::id::Uid::new("p"), identity: None },
            },
            Ask::Stop,
            Ask::DrainAndStop,
            Ask::Leave { operation: operation.clone() },
            Ask::EndAfterLeave { operation },
            Ask::Deadline { left: Millis(1) },
            Ask::Tool { program: program(), timeout: Millis(1) },
            Ask::Restart,
        ];
        assert_eq!(all.len(), WORDS.len());
        for (id, ask) in (1..).zip(all) {
            let line = serde_json::to_vec(&Request { id, ask: ask.clone() }).unwrap();
            assert_eq!(hear(&line), Heard::Ask { id, ask });
        }
    }

    #[test]
    fn a_word_of_a_later_version_is_answered_and_not_an_offence() {
        for line in [r#"{"id":7,"ask":"dance"}"#, r#"{"id":7,"ask":{"dance":{"with":1}},"more":2}"#] {
            assert_eq!(heard(line), Heard::Answer { id: 7, reply: Reply::Unsupported });
        }
    }

    #[test]
    fn fields_of_a_later_version_are_ignored() {
        let line = r#"{"id":7,"ask":{"deadline":{"left":5,"because":"x"}},"priority":1}"#;
        assert_eq!(heard(line), Heard::Ask { id: 7, ask: Ask::Deadline { left: Millis(5) } });
    }

    #[test]
    fn a_known_word_with_a_wrong_meaning_is_refused_by_name() {
        let Heard::Answer { id: 7, reply: Reply::Refused(why) } = heard(r#"{"id":7,"ask":{"leave":{}}}"#) else {
            panic!("not refused");
        };
        assert!(why.contains("`leave`") && why.contains("operation"), "{why}");
    }

    #[test]
    fn what_is_no_request_is_garbage() {
        for line in ["", "{", "[]", "7", r#"{"ask":"watch"}"#, r#"{"id":1}"#, r#"{"id":-1,"ask":"watch"}"#, "\u{0}"] {
            assert!(matches!(heard(line), Heard::Garbage(_)), "{line}");
        }
    }
}
