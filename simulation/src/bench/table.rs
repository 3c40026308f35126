//! The figures as a table.

use super::figures::{Figure, Subject, Verdict};
use std::fmt::Write;

/// One line a figure: median and worst beside the aim, and the machine's load.
pub(super) fn table(figures: &[Figure]) -> String {
    let mut out = format!(
        "{:<6} {:>2}  {:<40} {:>9} {:>9} {:>7}  {:<12} {:<12} {}\n",
        "who", "N", "what", "median", "worst", "aim", "unit", "verdict", "load"
    );
    for figure in figures {
        let who = match figure.subject {
            Subject::Pilots => "pilots",
            Subject::Serf => "serf",
        };
        let mut verdict = match figure.verdict() {
            Verdict::Met => "met".to_owned(),
            Verdict::MedianOnly => "median only".to_owned(),
            Verdict::Missed => "MISSED".to_owned(),
            Verdict::NoAim => "-".to_owned(),
        };
        if figure.given_up > 0 {
            // Nothing else can be told of a try that was given up.
            let _ = write!(verdict, " ({} given up)", figure.given_up);
        }
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
        let load = |value: Option<f64>| value.map_or("?".to_owned(), |v| format!("{v:.1}"));
        let _ = writeln!(
            out,
            "{who:<6} {:>2}  {:<40} {:>9} {:>9} {:>7}  {:<12} {verdict:<12} {} to {}",
            figure.pilots,
            figure.what,
            number(figure.median()),
            number(figure.worst()),
            number(figure.aim),
            figure.unit,
            load(figure.load.from),
            load(figure.load.to),
        );
    }
    out
}
