//! Output streams of a command: data goes to stdout, messages to stderr.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IsTerminal, Write};

use common::json;
use serde::Serialize;
use serde_json::Value;

use super::{ColorMode, Paint};
use crate::exit::Failure;

/// Output of a command that was captured instead of printed.
#[derive(Debug, Default)]
pub struct CapturedOutput {
    /// Text that the command would have printed, including messages.
    pub text: String,
    /// Data for programs: see [`CommandOutput::capture_data`].
    pub data: Vec<Value>,
}

/// Output streams of one command, or a capture instead of them.
///
/// A closed reader (`relay status | head -1`) is not an error: further output is dropped. Commands that only print
/// should end when [`CommandOutput::is_closed`] returns true.
#[derive(Debug)]
pub struct CommandOutput {
    /// Painter of text on stdout.
    pub paint: Paint,
    /// True if data is printed as JSON.
    pub json: bool,
    /// First error of a write to stdout.
    write_error: Cell<Option<ErrorKind>>,
    /// Capture that replaces the streams.
    capture: Option<RefCell<CapturedOutput>>,
}

impl CommandOutput {
    /// Creates the streams according to the flags.
    pub fn new(color: ColorMode, json: bool) -> Self {
        let paint = Paint::new(!json && color.is_enabled(io::stdout().is_terminal()));
        Self { paint, json, write_error: Cell::new(None), capture: None }
    }

    /// Captures text and data for a caller that is neither a terminal nor a pipe; see [`CommandOutput::into_captured`].
    pub fn captured() -> Self {
        let captured = Some(RefCell::default());
        Self { paint: Paint::new(false), json: false, write_error: Cell::new(None), capture: captured }
    }

    /// Returns the captured output; empty if the output went to the streams.
    pub fn into_captured(self) -> CapturedOutput {
        self.capture.map(RefCell::into_inner).unwrap_or_default()
    }

    /// Captures the data of the text that is printed next, for a caller that needs both. Without a capture this does
    /// nothing.
    pub fn capture_data(&self, value: &impl Serialize) {
        if let (Some(captured), Ok(value)) = (&self.capture, serde_json::to_value(value)) {
            captured.borrow_mut().data.push(value);
        }
    }

    /// Returns the width of the terminal on stdout, in columns; `None` if stdout is not a terminal.
    pub fn columns(&self) -> Option<usize> {
        let stdout = io::stdout();
        if self.capture.is_some() || !stdout.is_terminal() {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(stdout).ok();
        // A terminal that does not report its width counts as 80 columns wide.
        Some(size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80))
    }

    /// Writes text to stdout; adds a line break if the text ends without one.
    pub fn print(&self, text: &str) {
        if text.ends_with('\n') {
            self.print_raw(text.as_bytes());
        } else {
            self.print_raw(format!("{text}\n").as_bytes());
        }
    }

    /// Writes bytes to stdout unchanged.
    pub fn print_raw(&self, bytes: &[u8]) {
        if self.write_error.get().is_some() {
            return;
        }
        if let Some(captured) = &self.capture {
            return captured.borrow_mut().text.push_str(&String::from_utf8_lossy(bytes));
        }
        let mut stdout = io::stdout().lock();
        if let Err(e) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            self.write_error.set(Some(e.kind()));
        }
    }

    /// Writes one line of JSON to stdout.
    pub fn print_json(&self, value: &impl Serialize) {
        match json::to_vec(value) {
            Ok(mut line) => {
                line.push(b'\n');
                self.print_raw(&line);
            }
            Err(_) => self.write_error.set(Some(ErrorKind::InvalidData)),
        }
    }

    /// Writes a message line to stderr.
    pub fn print_note(&self, text: &str) {
        match &self.capture {
            Some(_) => self.print(&common::text_format::to_printable(text)),
            None => print_message(text),
        }
    }

    /// Returns true if stdout can't be written any more, mostly because its reader has closed it.
    pub fn is_closed(&self) -> bool {
        self.write_error.get().is_some()
    }

    /// Checks that all output was written, or that its reader closed the stream.
    ///
    /// # Errors
    /// Returns an error if stdout could not be written for another reason, such as a full disk.
    pub fn check_written(&self) -> Result<(), Failure> {
        match self.write_error.get() {
            None | Some(ErrorKind::BrokenPipe) => Ok(()),
            Some(kind) => Err(Failure::stdout_failed(kind)),
        }
    }
}

/// Reports the failure of a command on stderr: as a line, or as `{"error": {"code", "message"}}` for programs.
pub fn report_failure(failure: &Failure, json: bool) {
    if json {
        write_stderr(&failure.to_json());
    } else {
        print_message(&failure.message);
    }
}

/// Prints clap's message: help to stdout, errors to stderr.
pub fn print_clap_message(error: &clap::Error, json: bool) {
    if json && error.use_stderr() {
        let text = error.to_string();
        // The rest of the message is the usage, for people.
        let message: Vec<&str> = text.split("\n\n").next().unwrap_or_default().split_whitespace().collect();
        let message = message.join(" ");
        return report_failure(&Failure::usage(message.trim_start_matches("error: ")), json);
    }
    // A failure here can't be reported.
    let _ = error.print();
}

fn print_message(text: &str) {
    write_stderr(format!("relay: {}", common::text_format::to_printable(text)).as_bytes());
}

fn write_stderr(line: &[u8]) {
    // A failure here can't be reported. A single write keeps the line together when other processes write to the same
    // stream.
    let _ = io::stderr().write_all(&[line, b"\n"].concat());
}
