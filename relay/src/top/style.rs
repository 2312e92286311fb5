//! Colour with meaning, or none; nothing is told by colour alone.

use common::record::State;
use ratatui::style::{Color, Modifier, Style};

use crate::render::health::Word;

/// The styles of a terminal that has colour, or is asked to have none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) color: bool,
}

impl Look {
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

/// The line that keys are for. Reversed, so that it is seen without colour too.
pub(super) fn selected() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}
