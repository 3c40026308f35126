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

    /// The table for people.
    pub fn render(&self) -> String {
        let seconds = |d: Option<Duration>| d.map_or(String::new(), |d| format!("{:.1} s", d.as_secs_f64()));
        let width = self.rows.iter().map(|r| r.step.chars().count()).max().unwrap_or(4).max(4);
        let mut out = format!("{:<width$}  {:>8}  {:>12}  evidence\n", "step", "took", "of it the db");
        out.push_str(&format!("{}\n", "-".repeat(width + 36)));
        for row in &self.rows {
            let mark = if row.good { ' ' } else { '!' };
            out.push_str(&format!(
                "{:<width$}  {:>8}  {:>12} {mark}{}\n",
                row.step,
                seconds(row.took),
                seconds(row.database),
                row.seen
            ));
        }
        out
    }
}
