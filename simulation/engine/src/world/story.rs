//! What happened, for people; and a hash of it, so that the same seed is seen to give the same run.

use std::collections::VecDeque;

/// Lines kept.
const KEPT: usize = 400;

/// The account of one run.
#[derive(Debug, Clone)]
pub struct Story {
    lines: VecDeque<(u64, String)>,
    hash: u64,
    aloud: bool,
}

impl Story {
    /// A story; told to standard error as it happens if `aloud`.
    pub fn new(aloud: bool) -> Self {
        Self { lines: VecDeque::new(), hash: 0xcbf2_9ce4_8422_2325, aloud }
    }

    /// Something worth telling happened.
    pub fn tell(&mut self, now: u64, text: String) {
        for byte in text.bytes() {
            self.mix(u64::from(byte));
        }
        self.mix(now);
        if self.aloud {
            eprintln!("{}", line(now, &text));
        }
        self.lines.push_back((now, text));
        if self.lines.len() > KEPT {
            self.lines.pop_front();
        }
    }

    /// Something happened that nobody would tell, but that must happen again.
    pub fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01b3);
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub fn last(&self, count: usize) -> Vec<String> {
        let skip = self.lines.len().saturating_sub(count);
        self.lines.iter().skip(skip).map(|(at, text)| line(*at, text)).collect()
    }
}

fn line(at: u64, text: &str) -> String {
    format!("{:>4}.{:03}s  {text}", at / 1000, at % 1000)
}
