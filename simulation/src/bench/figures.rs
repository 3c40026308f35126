//! Figures: samples of one thing, beside the aim.

use serde::Serialize;

/// The machine's load average over one minute.
pub(super) fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// The machine's load when a phase began and when it ended.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Load {
    /// When it began.
    pub(super) from: Option<f64>,
    /// When it ended.
    pub(super) to: Option<f64>,
}

impl Load {
    /// The load now, at the beginning of a phase.
    pub(super) fn begin() -> Self {
        Self { from: load(), to: None }
    }

    /// The phase has ended.
    pub(super) fn end(self) -> Self {
        Self { to: load(), ..self }
    }
}

/// Of what a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Subject {
    /// Our pilots.
    Pilots,
    /// Serf's agents, beside them.
    Serf,
}

/// How a figure stands to its aim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// Even the worst sample is within it.
    Met,
    /// The median is within it, the worst sample is not.
    MedianOnly,
    /// Not even the median is, or a sample is missing.
    Missed,
    /// There is no aim.
    NoAim,
}

/// Samples of one thing.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figure {
    /// Of whom.
    pub(super) subject: Subject,
    /// Pilots in the mesh.
    pub(super) pilots: usize,
    /// What was measured.
    pub(super) what: String,
    /// Its unit.
    pub(super) unit: &'static str,
    /// What was found, in the order of finding.
    pub(super) samples: Vec<f64>,
    /// Tries that were given up: what was waited for did not come in time.
    pub(super) given_up: usize,
    /// What it should be at most.
    pub(super) aim: Option<f64>,
    /// The machine's load meanwhile.
    pub(super) load: Load,
}

impl Figure {
    /// The middle sample; the mean of the two in the middle of an even number.
    pub(super) fn median(&self) -> Option<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let upper = sorted.get(sorted.len() / 2).copied()?;
        if sorted.len() % 2 == 1 {
            return Some(upper);
        }
        sorted.get(sorted.len() / 2 - 1).map(|lower| (lower + upper) / 2.0)
    }

    /// The highest sample.
    pub(super) fn worst(&self) -> Option<f64> {
        self.samples.iter().copied().max_by(f64::total_cmp)
    }

    /// How it stands to its aim.
    pub(super) fn verdict(&self) -> Verdict {
        let Some(aim) = self.aim else {
            return Verdict::NoAim;
        };
        match (self.median(), self.worst()) {
            (Some(_), Some(worst)) if worst <= aim && self.given_up == 0 => Verdict::Met,
            (Some(median), Some(_)) if median <= aim && self.given_up == 0 => Verdict::MedianOnly,
            (Some(_) | None, Some(_) | None) => Verdict::Missed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(samples: &[f64], given_up: usize) -> Figure {
        Figure {
            subject: Subject::Pilots,
            pilots: 3,
            what: "notice".into(),
            unit: "s",
            samples: samples.to_vec(),
            given_up,
            aim: Some(2.0),
            load: Load { from: None, to: None },
        }
    }

    #[test]
    fn one_bad_sample_is_not_hidden_by_a_good_median() {
        assert_eq!(figure(&[1.0, 1.5, 1.2], 0).verdict(), Verdict::Met);
        assert_eq!(figure(&[1.0, 9.0, 1.2], 0).verdict(), Verdict::MedianOnly);
        assert_eq!(figure(&[3.0, 9.0, 1.2], 0).verdict(), Verdict::Missed);
    }

    #[test]
    fn a_try_that_was_given_up_misses_the_aim_whatever_the_others_say() {
        assert_eq!(figure(&[1.0, 1.0], 1).verdict(), Verdict::Missed);
        assert_eq!(figure(&[], 1).verdict(), Verdict::Missed);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(figure(&[4.0, 1.0, 2.0, 3.0], 0).median(), Some(2.5));
        assert_eq!(figure(&[], 0).median(), None);
    }
}
