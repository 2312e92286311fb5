//! Styles with or without color. No information depends on color alone.

use common::record::State;
use ratatui::style::{Color, Modifier, Style};

use crate::render::health::HealthWord;

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

    pub(super) fn health(self, word: HealthWord) -> Style {
        match word {
            HealthWord::Healthy => self.fg(Color::Green),
            HealthWord::Slow | HealthWord::Quiet | HealthWord::Stale | HealthWord::Stopping => {
                self.fg(Color::Yellow)
            }
            HealthWord::Over => self.fg(Color::Red),
            HealthWord::Queued | HealthWord::Ended => Style::new(),
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

/// Returns the style of the selected line: reversed, so that it is also visible without color.
pub(super) fn selected() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}
