//! What is wrong with a policy file: every fault at once, each with its place, what was found, the rule and the remedy.

use serde::Serialize;
use std::fmt;

/// How many faults one report carries at most; what is beyond is counted, so that a wrong file never floods a log.
pub const MAX_FAULTS: usize = 100;

/// How much of a found value a report repeats.
const MAX_FOUND_CHARS: usize = 60;

/// A place in a file. Lines and columns begin at 1; a column is a character, not a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl Position {
    /// The beginning of a file: where the fault lies in what the file does not have.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What sort of rule a fault breaks; stable, for programs that read reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The text is not YAML, is more than one document, or is larger than a policy may be.
    Syntax,
    /// A value of another type than the setting's.
    WrongType,
    /// A value beyond the setting's bounds.
    OutOfBounds,
    /// Two settings that contradict each other.
    Conflict,
    /// A name that means nothing here.
    Unknown,
    /// A name that will mean something, but not to this version.
    Unsupported,
    /// A name given more than once.
    Duplicate,
    /// A name that must be given and is not.
    Missing,
}

/// One thing wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where in the file.
    pub at: Position,
    /// Which setting or section: `spec.election.lease`. Empty for the file as a whole.
    pub path: String,
    /// Which sort of rule it breaks.
    pub kind: FaultKind,
    /// What was found: completes "`path` is …".
    pub found: String,
    /// The rule: completes "`path` must …".
    pub rule: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = if self.path.is_empty() { "the file" } else { &self.path };
        let joint = match self.kind {
            FaultKind::Unsupported => "and",
            FaultKind::Syntax
            | FaultKind::WrongType
            | FaultKind::OutOfBounds
            | FaultKind::Conflict
            | FaultKind::Unknown
            | FaultKind::Duplicate
            | FaultKind::Missing => "but",
        };
        write!(f, "{subject} is {} {joint} must {}: {}", self.found, self.rule, self.remedy)
    }
}

/// All faults of one file, in the order of their places. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// The file as the reader knows it.
    pub source: String,
    /// The faults, by place; no more than [`MAX_FAULTS`].
    pub faults: Vec<Fault>,
    /// How many more there are.
    pub omitted: usize,
}

impl Faults {
    /// Sorts what was collected; none where nothing was.
    pub fn collect(source: &str, mut faults: Vec<Fault>) -> Option<Self> {
        if faults.is_empty() {
            return None;
        }
        faults.sort_by(|a, b| (a.at, &a.path, a.kind).cmp(&(b.at, &b.path, b.kind)));
        let omitted = faults.len().saturating_sub(MAX_FAULTS);
        faults.truncate(MAX_FAULTS);
        Some(Self { source: quiet(source), faults, omitted })
    }

    /// How many there are, those left out of the report included.
    pub fn count(&self) -> usize {
        self.faults.len().saturating_add(self.omitted)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.count() == 1 { "fault" } else { "faults" };
        write!(f, "{} {noun} in {}", self.count(), self.source)?;
        for fault in &self.faults {
            write!(f, "\n{}:{}: {fault}", self.source, fault.at)?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A found text in quotes, for any document's faults: no longer than a line, and nothing in it that would move a terminal's cursor.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", quiet(text))
}

/// A found text without control characters, cut where it becomes long.
pub fn quiet(text: &str) -> String {
    quiet_up_to(MAX_FOUND_CHARS, text)
}

/// As [`quiet`], but cut after so many characters.
pub(crate) fn quiet_up_to(most: usize, text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(most) {
        match c {
            '\'' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: u64, path: &str) -> Fault {
        Fault {
            at: Position { line, column: 3 },
            path: path.into(),
            kind: FaultKind::Unknown,
            found: "unknown".into(),
            rule: "be one of a, b".into(),
            remedy: "write a".into(),
        }
    }

    #[test]
    fn a_report_is_in_the_order_of_the_file() {
        let report = Faults::collect("p.yaml", vec![fault(9, "x"), fault(2, "y"), fault(9, "a")]).unwrap();
        let lines: Vec<u64> = report.faults.iter().map(|f| f.at.line).collect();
        assert_eq!(lines, [2, 9, 9]);
        assert_eq!(report.faults[1].path, "a");
    }

    #[test]
    fn no_fault_is_no_report() {
        assert_eq!(Faults::collect("p.yaml", Vec::new()), None);
    }

    #[test]
    fn a_flood_is_counted_and_not_printed() {
        let many = (0..250).map(|line| fault(line, "x")).collect();
        let report = Faults::collect("p.yaml", many).unwrap();
        assert_eq!((report.faults.len(), report.omitted, report.count()), (100, 150, 250));
        assert!(report.to_string().ends_with("\nand 150 more"));
    }

    #[test]
    fn a_found_text_cannot_move_the_cursor() {
        assert_eq!(quoted("a\u{1b}[2Jb\nc"), "\"a\\u{1b}[2Jb\\nc\"");
        assert_eq!(quoted("it's \u{202e}é"), "\"it's \\u{202e}é\"");
        assert_eq!(quiet(&"é".repeat(70)).chars().count(), MAX_FOUND_CHARS + 1);
    }
}
