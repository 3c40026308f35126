//! Amounts as Kubernetes writes them: `10Gi`, `500m`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::fmt;

/// An amount with its text kept: Kubernetes gets what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    thousandths: u128,
}

/// Suffixes and what they stand for, in thousandths of one.
const UNITS: [(&str, u128); 14] = [
    ("Ki", 1000 << 10),
    ("Mi", 1000 << 20),
    ("Gi", 1000 << 30),
    ("Ti", 1000 << 40),
    ("Pi", 1000 << 50),
    ("Ei", 1000 << 60),
    ("m", 1),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000),
    ("", 1000),
];

impl Quantity {
    /// Reads an amount; none where it is no number with a known suffix, is negative, or is beyond all that there is.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let (_, unit) = UNITS.iter().find(|(suffix, _)| *suffix == &text[number.len()..])?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit()) && text.len() <= 9;
        if (whole.is_empty() && part.is_empty()) || !digits(whole) || !digits(part) {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let parts: u128 = if part.is_empty() { 0 } else { part.parse().ok()? };
        let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
        let thousandths = whole.checked_mul(*unit)?.checked_add(parts.checked_mul(*unit)? / scale)?;
        Some(Self { text: text.to_owned(), thousandths })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whole units, rounded down: bytes for memory and storage.
    pub fn units(&self) -> u128 {
        self.thousandths / 1000
    }

    /// Whether it is more than another.
    pub fn exceeds(&self, other: &Self) -> bool {
        self.thousandths > other.thousandths
    }

    /// It is nothing.
    pub fn is_zero(&self) -> bool {
        self.thousandths == 0
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An amount as Kubernetes writes it: a number, and perhaps one of m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei.",
            "type": ["string", "number"],
            "pattern": r"^([0-9]+\.?[0-9]*|\.[0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        for (text, units) in [
            ("10Gi", Some(10 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("500m", Some(0)),
            ("2", Some(2)),
            ("1G", Some(1_000_000_000)),
            (".5k", Some(500)),
        ] {
            assert_eq!(Quantity::parse(text).map(|q| q.units()), units, "{text}");
        }
        for wrong in ["", "Gi", "10GB", "-1", "1e3", "1.2.3", "10 Gi", "9999999999", "."] {
            assert_eq!(Quantity::parse(wrong), None, "{wrong}");
        }
        let more = |a: &str, b: &str| Quantity::parse(a).unwrap().exceeds(&Quantity::parse(b).unwrap());
        assert!(more("1Gi", "1G") && more("501m", "0.5") && !more("500m", "0.5"));
    }
}
