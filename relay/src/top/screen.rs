//! Control of the terminal: `relay top` takes it over and restores it in every case.

use std::io::{self, Write};

use crossterm::cursor::Show;
use crossterm::execute;
use crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::draw::draw;
use super::model::Model;

/// A terminal in raw mode that shows its alternate screen. Dropping it restores the terminal. A panic hook restores it
/// before the panic message is printed, because a release build aborts without dropping.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
}

impl Screen {
    /// Takes over the terminal.
    ///
    /// # Errors
    /// Returns an error if the terminal can't be put into raw mode or written.
    pub(super) fn enter() -> io::Result<Self> {
        let previous_hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore_terminal();
            previous_hook(panic);
        }));
        enter_alternate_screen()?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))? })
    }

    /// Draws a model; only differences from the last frame are written.
    ///
    /// # Errors
    /// Returns an error if the terminal can't be written.
    pub(super) fn show(&mut self, model: &Model) -> io::Result<()> {
        self.terminal.draw(|frame| draw(model, frame)).map(drop)
    }

    /// Discards the known screen content, so that the next frame is drawn completely.
    pub(super) fn discard_known_content(&mut self) -> io::Result<()> {
        // `clear` would query the cursor position and never receive the answer while keys are being read.
        let area = self.terminal.size()?.into();
        self.terminal.resize(area)
    }

    /// Takes over the terminal again, after the shell had it.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        // Raw mode starts from the shell's current settings, not from earlier ones.
        terminal::disable_raw_mode()?;
        enter_alternate_screen()?;
        self.discard_known_content()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore_terminal();
    }
}

/// Returns the terminal to the shell and stops this process until it is continued.
pub(super) fn suspend_process() {
    restore_terminal();
    // A failure is harmless, because the screen is taken over again at once.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
}

fn enter_alternate_screen() -> io::Result<()> {
    terminal::enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)
}

/// Restores the terminal. A failure can't be reported.
fn restore_terminal() {
    let _ = terminal::disable_raw_mode();
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = io::stdout().flush();
}
