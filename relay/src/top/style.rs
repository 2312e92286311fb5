//! Styles of text, with or without color. No information depends on color alone.

use common::record::State;
use ratatui::style::{Color, Modifier, Style};

use crate::render::health::HealthWord;

/// Styles for a terminal with or without color.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub(super) has_color: bool,
}

impl Theme {
    fn foreground(self, color: Color) -> Style {
        if self.has_color { Style::new().fg(color) } else { Style::new() }
    }

    pub(super) fn state_style(self, state: State) -> Style {
        match state {
            State::Completed => self.foreground(Color::Green),
            State::Failed => self.foreground(Color::Red),
            State::Cancelled | State::Stopping => self.foreground(Color::Yellow),
            State::Starting | State::Running => self.foreground(Color::Cyan),
            State::Queued => Style::new(),
        }
    }

    pub(super) fn health_style(self, word: HealthWord) -> Style {
        match word {
            HealthWord::Healthy => self.foreground(Color::Green),
            HealthWord::Slow | HealthWord::Quiet | HealthWord::Stale | HealthWord::Stopping => {
                self.foreground(Color::Yellow)
            }
            HealthWord::Over => self.foreground(Color::Red),
            HealthWord::Queued | HealthWord::Held | HealthWord::Ended => Style::new(),
        }
    }

    pub(super) fn alarm_style(self) -> Style {
        self.foreground(Color::Red)
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
