//! Color, used only for meaning: the state of a job.

use clap::builder::styling::{AnsiColor, Style};
use common::record::State;

/// Value of `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorMode {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

impl ColorMode {
    /// Returns true if an output gets color. `is_terminal` is true for a terminal.
    pub fn is_enabled(self, is_terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                is_terminal && !is_refused && !is_dumb
            }
        }
    }
}

/// Painter of text that applies ANSI styles when enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    is_enabled: bool,
}

impl Paint {
    /// Creates a painter, with styles if `is_enabled`.
    pub fn new(is_enabled: bool) -> Self {
        Self { is_enabled }
    }

    /// Returns true if styles are enabled.
    pub fn is_enabled(self) -> bool {
        self.is_enabled
    }

    /// Styles text about a job in this state: red for failure, green for success, yellow for a requested end.
    pub fn state(self, state: State, text: &str) -> String {
        let color = match state {
            State::Completed => AnsiColor::Green,
            State::Failed => AnsiColor::Red,
            State::Cancelled | State::Stopping => AnsiColor::Yellow,
            State::Starting | State::Running => AnsiColor::Cyan,
            State::Queued => return text.to_owned(),
        };
        self.styled(color.on_default(), text)
    }

    /// Makes the main word of a line bold, such as the name of a job.
    pub fn bold(self, text: &str) -> String {
        self.styled(Style::new().bold(), text)
    }

    /// Styles text that asks for attention.
    pub fn alarm(self, text: &str) -> String {
        self.styled(AnsiColor::Red.on_default(), text)
    }

    /// Styles secondary text.
    pub fn dim(self, text: &str) -> String {
        self.styled(Style::new().dimmed(), text)
    }

    pub(super) fn styled(self, style: Style, text: &str) -> String {
        if self.is_enabled { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn color_is_used_only_where_it_was_requested() {
        assert_eq!(Paint::new(false).state(State::Failed, "x"), "x");
        assert_eq!(Paint::new(true).state(State::Failed, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert!(ColorMode::Always.is_enabled(false));
        assert!(!ColorMode::Never.is_enabled(true) && !ColorMode::Auto.is_enabled(false));
    }
}
