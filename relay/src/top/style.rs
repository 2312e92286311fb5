//! Color with meaning, or none; no information is given by color alone.

use common::record::State;
use ratatui::style::{Color, Modifier, Style};

use crate::render::health::Word;

/// Styles of a terminal with or without color.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub(super) color: bool,
}

impl Theme {
    fn fg(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    pub(super) fn state(self, state: State) -> Style {
        match state {
            State::Completed => self.fg(Color::Green),
            State::Failed => self.fg(Color::Red),
            State::Cancelled | State::Stopping => self.fg(Color::Yellow),
            State::Starting | State::Running => self.fg(Color::Cyan),
            State::Queued => Style::new(),
        }
    }

    pub(super) fn health(self, word: Word) -> Style {
        match word {
            Word::Healthy => self.fg(Color::Green),
            Word::Slow | Word::Quiet | Word::Stale | Word::Stopping => self.fg(Color::Yellow),
            Word::Over => self.fg(Color::Red),
            Word::Queued | Word::Ended => Style::new(),
        }
    }

    pub(super) fn alarm(self) -> Style {
        self.fg(Color::Red)
    }
}

pub(super) fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

pub(super) fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// Style of the selected line. Reversed, so that it is visible without color too.
pub(super) fn selected() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}
