//! Output streams: data goes to stdout, messages to stderr.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IsTerminal, Write};

use common::json;
use serde::Serialize;
use serde_json::Value;

use super::{ColorMode, Paint};
use crate::exit::Failure;

/// Captured output of a command that has no streams.
#[derive(Debug, Default)]
pub struct Captured {
    /// Text that it would have printed, messages included.
    pub text: String,
    /// Data for programs: see [`Output::fact`].
    pub facts: Vec<Value>,
}

/// Streams of one command, or a capture in their place.
///
/// A closed reader (`relay status | head -1`) is no error: further output is dropped, commands that only write end when
/// [`Output::is_closed`] returns true, and the others keep their exit code.
#[derive(Debug)]
pub struct Output {
    /// Color on stdout.
    pub paint: Paint,
    /// True if data is JSON.
    pub json: bool,
    broken: Cell<Option<ErrorKind>>,
    /// Capture that replaces the streams.
    kept: Option<RefCell<Captured>>,
}

impl Output {
    /// Creates the streams according to the flags.
    pub fn new(color: ColorMode, json: bool) -> Self {
        let paint = Paint::new(!json && color.resolve(io::stdout().is_terminal()));
        Self { paint, json, broken: Cell::new(None), kept: None }
    }

    /// Captures text and facts for a caller that is neither a terminal nor a pipe; see [`Output::into_captured`].
    pub fn captured() -> Self {
        let kept = Some(RefCell::default());
        Self { paint: Paint::new(false), json: false, broken: Cell::new(None), kept }
    }

    /// Returns the captured output; nothing if there were streams.
    pub fn into_captured(self) -> Captured {
        self.kept.map(RefCell::into_inner).unwrap_or_default()
    }

    /// Captures the data behind the text that is printed next, for a caller that needs both; with streams, `--json`
    /// serves that purpose.
    pub fn fact(&self, value: &impl Serialize) {
        if let (Some(kept), Ok(value)) = (&self.kept, serde_json::to_value(value)) {
            kept.borrow_mut().facts.push(value);
        }
    }

    /// Width of the terminal on stdout, in columns; `None` if stdout is not a terminal.
    pub fn columns(&self) -> Option<usize> {
        let stdout = io::stdout();
        if self.kept.is_some() || !stdout.is_terminal() {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(stdout).ok();
        // A terminal that does not report its width counts as an ordinary one.
        Some(size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80))
    }

    /// Writes text to stdout; adds a line break if the text ends without one.
    pub fn print(&self, text: &str) {
        if text.ends_with('\n') {
            self.raw(text.as_bytes());
        } else {
            self.raw(format!("{text}\n").as_bytes());
        }
    }

    /// Writes bytes to stdout unchanged.
    pub fn raw(&self, bytes: &[u8]) {
        if self.broken.get().is_some() {
            return;
        }
        if let Some(kept) = &self.kept {
            return kept.borrow_mut().text.push_str(&String::from_utf8_lossy(bytes));
        }
        let mut stdout = io::stdout().lock();
        if let Err(e) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            self.broken.set(Some(e.kind()));
        }
    }

    /// Writes one line of JSON to stdout.
    pub fn json(&self, value: &impl Serialize) {
        match json::to_vec(value) {
            Ok(mut line) => {
                line.push(b'\n');
                self.raw(&line);
            }
            Err(_) => self.broken.set(Some(ErrorKind::InvalidData)),
        }
    }

    /// Writes a message line to stderr.
    pub fn note(&self, text: &str) {
        match &self.kept {
            Some(_) => self.print(&common::text::printable(text)),
            None => say(text),
        }
    }

    /// Returns true if the reader of stdout has closed it.
    pub fn is_closed(&self) -> bool {
        self.broken.get().is_some()
    }

    /// Checks that all output was written, or that its reader closed the stream.
    ///
    /// # Errors
    /// Returns an error if stdout could not be written for another reason, such as a full disk.
    pub fn finish(&self) -> Result<(), Failure> {
        match self.broken.get() {
            None | Some(ErrorKind::BrokenPipe) => Ok(()),
            Some(kind) => Err(Failure::output(kind)),
        }
    }
}

/// Reports the failure of a command on stderr: as a line, or as `{"error": {"code", "message"}}` for programs.
pub fn failure(failure: &Failure, json: bool) {
    if json {
        write(&failure.json());
    } else {
        say(&failure.message);
    }
}

/// Prints clap's message: help to stdout, errors to stderr.
pub fn usage(error: &clap::Error, json: bool) {
    if json && error.use_stderr() {
        let text = error.to_string();
        // The rest is the usage, for people.
        let message: Vec<&str> = text.split("\n\n").next().unwrap_or_default().split_whitespace().collect();
        let message = message.join(" ");
        return failure(&Failure::usage(message.trim_start_matches("error: ")), json);
    }
    // A failure of this can't be reported anywhere.
    let _ = error.print();
}

fn say(text: &str) {
    write(format!("relay: {}", common::text::printable(text)).as_bytes());
}

/// Writes a line to stderr.
fn write(line: &[u8]) {
    // A failure of this can't be reported anywhere. A single write keeps the line together when other processes write
    // to the same stream.
    let _ = io::stderr().write_all(&[line, b"\n"].concat());
}
