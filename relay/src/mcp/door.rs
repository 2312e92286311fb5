//! Lines of stdin, read by a thread of its own: a read that waits can't be given up, and nothing else may wait for it.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::sync::mpsc::{Receiver, channel};

/// Longest message, in bytes: the longest prompt (512 KiB), each byte of it written as an escape of six, with room for the
/// rest of a call.
pub(super) const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// What is kept of a longer one, in bytes: its id stands near its beginning.
const HEAD: usize = 4 * 1024;
/// Lines that wait to be looked at: further ones stay in the pipe.
const WAITING: usize = 4;

/// A line as it came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Its bytes.
    Whole(Vec<u8>),
    /// It was longer than [`MAX_MESSAGE`]: its first bytes, in which its id is looked for.
    TooLong(Vec<u8>),
}

/// Begins to read. The lines end, and `over` becomes true, when nothing more can come.
///
/// # Errors
/// When there can be no thread.
pub(super) fn open(input: impl Read + Send + 'static, over: Arc<AtomicBool>) -> io::Result<Receiver<Line>> {
    let (sender, lines) = channel(WAITING);
    thread::Builder::new().name("mcp-stdin".to_owned()).spawn(move || {
        let mut input = io::BufReader::new(input);
        while let Ok(Some(line)) = next(&mut input, MAX_MESSAGE) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
        over.store(true, Ordering::Release);
    })?;
    Ok(lines)
}

/// The next line without its line break; a last one needs none. `None` at the end.
fn next(input: &mut impl BufRead, most: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    input.by_ref().take(most as u64 + 1).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > most {
        input.skip_until(b'\n')?;
        line.truncate(HEAD);
        return Ok(Some(Line::TooLong(line)));
    } else if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(Line::Whole(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_the_next_one_is_whole() {
        let mut input = &b"four\n\nfives\n12345678\nlast"[..];
        let mut lines = Vec::new();
        while let Some(line) = next(&mut input, 4).unwrap() {
            lines.push(line);
        }
        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        let long = |text: &str| Line::TooLong(text.as_bytes().to_vec());
        assert_eq!(lines, [whole("four"), whole(""), long("fives"), long("12345"), whole("last")]);
    }

    #[tokio::test]
    async fn the_end_of_the_input_ends_the_lines() {
        let over = Arc::new(AtomicBool::new(false));
        let mut lines = open(&b"a\nb"[..], over.clone()).unwrap();
        assert_eq!(lines.recv().await, Some(Line::Whole(b"a".to_vec())));
        assert_eq!(lines.recv().await, Some(Line::Whole(b"b".to_vec())));
        assert_eq!(lines.recv().await, None);
        assert!(over.load(Ordering::Acquire));
    }
}
