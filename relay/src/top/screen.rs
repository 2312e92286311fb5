//! The terminal: taken, and given back as it was, whatever happens.

use std::io::{self, Write};

use crossterm::cursor::Show;
use crossterm::execute;
use crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::draw::draw;
use super::model::Model;

/// A terminal in raw mode that shows its other screen. Dropping it gives the terminal back; a panic does so before its
/// message, since a release build ends without dropping anything.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When it can't be put into raw mode or written.
    pub(super) fn take() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        enter()?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))? })
    }

    /// Shows a model; only what differs from the last frame is written.
    ///
    /// # Errors
    /// When the terminal can't be written: it is gone.
    pub(super) fn show(&mut self, model: &Model) -> io::Result<()> {
        self.terminal.draw(|frame| draw(model, frame)).map(drop)
    }

    /// Forgets what is on the screen, so that the next frame is drawn whole.
    ///
    /// # Errors
    /// As [`Screen::show`].
    pub(super) fn forget(&mut self) -> io::Result<()> {
        // `clear` would ask the terminal where its cursor is, and never hear the answer while the keys are waited for.
        let area = self.terminal.size()?.into();
        self.terminal.resize(area)
    }

    /// Takes the terminal again, after the shell had it.
    ///
    /// # Errors
    /// As [`Screen::take`].
    pub(super) fn resume(&mut self) -> io::Result<()> {
        // Raw mode is taken from what the shell has left, not from what was there before it.
        terminal::disable_raw_mode()?;
        enter()?;
        self.forget()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal to the shell and stops this process until it is continued.
pub(super) fn stop() {
    give_back();
    // Nothing is lost when this fails: the screen is taken again at once.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
}

fn enter() -> io::Result<()> {
    terminal::enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)
}

/// Nobody is left to be told when this fails.
fn give_back() {
    let _ = terminal::disable_raw_mode();
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = io::stdout().flush();
}
