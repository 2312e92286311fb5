//! The value of a secret, read from stdin. At a terminal it is not shown.

use std::io::{self, IsTerminal, Read};

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};

use crate::exit::Failure;
use crate::host_secret::MAX_VALUE;
use crate::render::CommandOutput;

/// Maximum number of bytes that are read: one more than a value with its line break, so that a longer one is noticed.
const MAX_READ: usize = MAX_VALUE + 3;
/// Character of Ctrl-C.
const INTERRUPT: u8 = 3;

/// Reads the value: one line. At a terminal, `output` gets a question first.
///
/// # Errors
/// Exit code 2 for a value that can't be read or is not text, and for Ctrl-C.
pub(super) fn read_value(name: &str, output: &CommandOutput) -> Result<String, Failure> {
    let unreadable = |e: io::Error| Failure::usage(format!("the value can't be read from stdin: {e}"));
    let bytes = if io::stdin().is_terminal() {
        let _hidden = HiddenInput::start().map_err(unreadable)?;
        output.print_note(&format!("Value of {name}, which is not shown:"));
        read_line(io::stdin().lock()).map_err(unreadable)?
    } else {
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_READ).unwrap_or(u64::MAX);
        io::stdin().take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        bytes
    };
    if bytes.last() == Some(&INTERRUPT) {
        return Err(Failure::usage("cancelled: no secret was stored"));
    }
    parse_value(bytes).ok_or_else(|| Failure::usage("the value is not UTF-8 text"))
}

/// Returns the value without the line break at its end.
fn parse_value(bytes: Vec<u8>) -> Option<String> {
    let mut value = String::from_utf8(bytes).ok()?;
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    Some(value)
}

/// Reads up to a line break, Ctrl-C or Ctrl-D.
fn read_line(mut terminal: impl Read) -> io::Result<Vec<u8>> {
    let (mut line, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let length = terminal.read(&mut chunk)?;
        line.extend_from_slice(chunk.get(..length).unwrap_or_default());
        if length == 0 || matches!(line.last(), Some(b'\n' | &INTERRUPT)) || line.len() > MAX_READ {
            return Ok(line);
        }
    }
}

/// Terminal on stdin that shows no input. Dropping this value restores it. Ctrl-C is input meanwhile, because a process
/// that it ends could not restore the terminal.
struct HiddenInput {
    original: Termios,
}

impl HiddenInput {
    fn start() -> io::Result<Self> {
        let original = termios::tcgetattr(io::stdin())?;
        let mut hidden = original.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        hidden.local_modes.insert(LocalModes::ICANON | LocalModes::ECHONL);
        // Ends a line like Enter.
        hidden.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self { original })
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.original);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_at_the_end_is_not_part_of_the_value() {
        for (bytes, value) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("", "")]
        {
            assert_eq!(parse_value(bytes.into()).as_deref(), Some(value), "{bytes:?}");
        }
        assert_eq!(parse_value(vec![0xff]), None);
    }

    #[test]
    fn a_line_at_a_terminal_ends_with_enter_or_an_interrupt() {
        let read = |bytes: &[u8]| String::from_utf8(read_line(bytes).unwrap()).unwrap();
        assert_eq!(read(b"value\n"), "value\n");
        assert_eq!(read(b"val\x03"), "val\x03");
        assert_eq!(read(b"value"), "value");
        assert_eq!(read(b""), "");
    }
}
