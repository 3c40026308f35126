//! Figures and foreign texts for people.

use std::time::Duration;

/// Bytes in the greatest unit that gives at least one.
#[allow(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// How long ago, in its two greatest units.
pub(super) fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s ago"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s ago"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min ago"),
        (days, hours, _, _) => format!("{days} d {hours} h ago"),
    }
}

/// A text from elsewhere: nothing in it moves a terminal's cursor.
pub(super) fn quiet(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1_288_490_189), "1.2 GiB");
        assert_eq!(ago(Duration::from_secs(59)), "59 s ago");
        assert_eq!(ago(Duration::from_secs(3_700)), "1 h 1 min ago");
        assert_eq!(ago(Duration::from_secs(90_000)), "1 d 1 h ago");
    }

    #[test]
    fn a_foreign_text_cannot_steer_the_terminal() {
        assert_eq!(quiet("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
