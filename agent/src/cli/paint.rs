//! Colour, only where a person looks.

use std::io::IsTerminal;

/// Whether words are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// As they are.
    Plain,
    /// With the terminal's colours.
    Colours,
}

/// What a word means for its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Nothing to say about it.
    Plain,
    /// As it should be.
    Good,
    /// On its way.
    Busy,
    /// Somebody should look.
    Bad,
    /// Of little weight.
    Dim,
}

impl Paint {
    /// For the standard output: none where it is no terminal, `NO_COLOR` is set or the terminal is a dumb one.
    pub(super) fn for_stdout() -> Self {
        Self::of(std::io::stdout().is_terminal())
    }

    /// The same for the standard error.
    pub(super) fn for_stderr() -> Self {
        Self::of(std::io::stderr().is_terminal())
    }

    fn of(terminal: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        if terminal && !dumb && set("NO_COLOR").is_none() { Self::Colours } else { Self::Plain }
    }

    /// Whether there are any.
    pub(super) fn colours(self) -> bool {
        self == Self::Colours
    }

    /// The text in its tone.
    pub(super) fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "1;31",
            Tone::Dim => "2",
        };
        if self.colours() && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
