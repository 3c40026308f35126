//! What a story is going to do, what it does, and what it did.

use std::time::{Duration, Instant};

/// One step as it is announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chapter {
    /// A few words.
    pub title: String,
    /// Where it stands.
    pub state: ChapterState,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChapterState {
    /// Not begun.
    Next,
    /// Under way.
    Now {
        /// Since.
        since: Instant,
    },
    /// Done.
    Done {
        /// In this time.
        took: Duration,
    },
    /// It did not come to what it must.
    Failed {
        /// After this time.
        took: Duration,
    },
}

/// The steps of a story in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tale {
    /// They.
    pub chapters: Vec<Chapter>,
}

impl Tale {
    /// A story that has not begun.
    pub fn new(titles: &[&str]) -> Self {
        let chapter = |title: &&str| Chapter { title: (*title).to_owned(), state: ChapterState::Next };
        Self { chapters: titles.iter().map(chapter).collect() }
    }

    /// The step under way, or the next one, or the last one.
    pub fn position(&self) -> usize {
        let unfinished = |c: &Chapter| matches!(c.state, ChapterState::Next | ChapterState::Now { .. });
        self.chapters.iter().position(unfinished).unwrap_or(self.chapters.len().saturating_sub(1))
    }

    /// Begins the next step.
    pub fn begin(&mut self) {
        if let Some(chapter) = self.chapters.iter_mut().find(|c| c.state == ChapterState::Next) {
            chapter.state = ChapterState::Now { since: Instant::now() };
        }
    }

    /// Ends the step under way.
    pub fn end(&mut self, good: bool) {
        for chapter in &mut self.chapters {
            if let ChapterState::Now { since } = chapter.state {
                let took = since.elapsed();
                chapter.state = if good { ChapterState::Done { took } } else { ChapterState::Failed { took } };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tale_goes_on_step_by_step_and_remembers_where_it_failed() {
        let mut tale = Tale::new(&["a", "b", "c"]);
        tale.begin();
        assert_eq!(tale.position(), 0);
        tale.end(true);
        tale.begin();
        tale.end(false);
        assert!(matches!(tale.chapters[0].state, ChapterState::Done { .. }));
        assert!(matches!(tale.chapters[1].state, ChapterState::Failed { .. }));
        assert_eq!((tale.chapters[2].state, tale.position()), (ChapterState::Next, 2));
    }
}
