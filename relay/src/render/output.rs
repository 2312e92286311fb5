//! Data goes to stdout, talk to stderr.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IsTerminal, Write};

use common::json;
use serde::Serialize;
use serde_json::Value;

use super::{ColorMode, Paint};
use crate::exit::Failure;

/// What a command said when nobody listened at its streams.
#[derive(Debug, Default)]
pub struct Kept {
    /// What it would have printed, its talk included.
    pub text: String,
    /// What programs read of it: see [`Output::fact`].
    pub facts: Vec<Value>,
}

/// The streams of one command, or what stands in for them.
///
/// A reader that has gone (`relay status | head -1`) is no error: what else would be written is dropped, commands that
/// only write end when [`Output::is_closed`] says so, and the others keep their exit code.
#[derive(Debug)]
pub struct Output {
    /// Colour on stdout.
    pub paint: Paint,
    /// Whether data is JSON.
    pub json: bool,
    broken: Cell<Option<ErrorKind>>,
    /// Where everything goes instead of the streams.
    kept: Option<RefCell<Kept>>,
}

impl Output {
    /// The streams, as the flags want them.
    pub fn new(color: ColorMode, json: bool) -> Self {
        let paint = Paint::new(!json && color.resolve(io::stdout().is_terminal()));
        Self { paint, json, broken: Cell::new(None), kept: None }
    }

    /// Keeps text and facts for a caller that is no terminal and no pipe; see [`Output::into_kept`].
    pub fn kept() -> Self {
        let kept = Some(RefCell::default());
        Self { paint: Paint::new(false), json: false, broken: Cell::new(None), kept }
    }

    /// What was kept: nothing where there were streams.
    pub fn into_kept(self) -> Kept {
        self.kept.map(RefCell::into_inner).unwrap_or_default()
    }

    /// Keeps what the text that is printed next is about, where both are wanted; streams have `--json` for it.
    pub fn fact(&self, value: &impl Serialize) {
        if let (Some(kept), Ok(value)) = (&self.kept, serde_json::to_value(value)) {
            kept.borrow_mut().facts.push(value);
        }
    }

    /// How wide the terminal is that stdout is; `None` where it is none.
    pub fn columns(&self) -> Option<usize> {
        let stdout = io::stdout();
        if self.kept.is_some() || !stdout.is_terminal() {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(stdout).ok();
        // A terminal that does not know its width is taken for an ordinary one.
        Some(size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80))
    }

    /// Writes text to stdout; a line break is added where it ends without one.
    pub fn print(&self, text: &str) {
        if text.ends_with('\n') {
            self.raw(text.as_bytes());
        } else {
            self.raw(format!("{text}\n").as_bytes());
        }
    }

    /// Writes bytes to stdout as they are.
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

    /// Says a line on stderr.
    pub fn note(&self, text: &str) {
        match &self.kept {
            Some(_) => self.print(&common::text::printable(text)),
            None => say(text),
        }
    }

    /// Whether nobody reads stdout any more.
    pub fn is_closed(&self) -> bool {
        self.broken.get().is_some()
    }

    /// Whether all that was written has arrived, or its reader did not want the rest.
    ///
    /// # Errors
    /// When stdout could not be written for another reason, such as a full disk.
    pub fn finish(&self) -> Result<(), Failure> {
        match self.broken.get() {
            None | Some(ErrorKind::BrokenPipe) => Ok(()),
            Some(kind) => Err(Failure::output(kind)),
        }
    }
}

/// Says on stderr why a command failed: in a line, or as `{"error": {"code", "message"}}` for programs.
pub fn failure(failure: &Failure, json: bool) {
    if json {
        write(&failure.json());
    } else {
        say(&failure.message);
    }
}

/// Prints clap's message: help to stdout, mistakes to stderr.
pub fn usage(error: &clap::Error, json: bool) {
    if json && error.use_stderr() {
        let text = error.to_string();
        // What follows is the usage, for people.
        let message: Vec<&str> = text.split("\n\n").next().unwrap_or_default().split_whitespace().collect();
        let message = message.join(" ");
        return failure(&Failure::usage(message.trim_start_matches("error: ")), json);
    }
    // Nobody is left to be told when this fails.
    let _ = error.print();
}

fn say(text: &str) {
    write(format!("relay: {}", common::text::printable(text)).as_bytes());
}

/// Writes a line to stderr.
fn write(line: &[u8]) {
    // Nobody is left to be told when this fails.
    // One write: in pieces, what others write to the same place at the same time would come between.
    let _ = io::stderr().write_all(&[line, b"\n"].concat());
}
