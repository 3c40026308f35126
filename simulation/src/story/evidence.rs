//! What a story leaves behind: a table that anybody can check.

use serde::Serialize;
use std::time::Duration;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was done.
    pub step: String,
    /// How long it took from the asking to the end as peers see it.
    pub took: Option<Duration>,
    /// How much of it was the database's own: starting, streaming, stopping.
    pub database: Option<Duration>,
    /// What was seen.
    pub seen: String,
    /// It is as it must be.
    pub good: bool,
}

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// In order.
    pub rows: Vec<Row>,
}

impl Evidence {
    /// A step that took time.
    pub fn step(&mut self, step: &str, took: Duration, database: Option<Duration>, seen: impl Into<String>) {
        self.rows.push(Row { step: step.to_owned(), took: Some(took), database, seen: seen.into(), good: true });
    }

    /// A fact and whether it is as it must be.
    pub fn fact(&mut self, what: &str, seen: impl Into<String>, good: bool) {
        self.rows.push(Row { step: what.to_owned(), took: None, database: None, seen: seen.into(), good });
    }

    /// Everything is as it must be.
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|r| r.good)
    }

    /// The table for people: no line is longer than 80 characters. Below each step stands what was seen.
    pub fn render(&self) -> String {
        let seconds = |d: Option<Duration>| d.map_or(String::new(), |d| format!("{:.1} s", d.as_secs_f64()));
        let mut out = format!("  {:<54} {:>10} {:>12}\n", "step", "took", "the database");
        out.push_str(&format!("{}\n", "-".repeat(WIDTH)));
        for row in &self.rows {
            let mark = if row.good { ' ' } else { '!' };
            let line = format!("{mark} {:<54} {:>10} {:>12}", row.step, seconds(row.took), seconds(row.database));
            out.push_str(line.trim_end());
            out.push('\n');
            for line in wrap(&row.seen, WIDTH - INDENT) {
                out.push_str(&format!("{:INDENT$}{line}\n", ""));
            }
        }
        out
    }
}

/// The widest line of the table.
const WIDTH: usize = 80;
/// Before what was seen.
const INDENT: usize = 6;

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_a_terminal_and_marks_what_is_wrong() {
        let mut evidence = Evidence::default();
        let long = "a sentence that does not end soon ".repeat(6);
        evidence.step("scale out 3 -> 4", Duration::from_millis(37_040), Some(Duration::from_secs(15)), long);
        evidence.fact("rows acknowledged at QUORUM and read back", "10 acknowledged, 2 missing", false);
        let table = evidence.render();
        assert!(table.lines().all(|l| l.chars().count() <= 80), "{table}");
        assert!(table.contains("scale out 3 -> 4") && table.contains("37.0 s") && table.contains("15.0 s"));
        assert!(table.contains("! rows acknowledged") && !evidence.is_good());
    }
}
