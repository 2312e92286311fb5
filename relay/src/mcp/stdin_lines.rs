//! Reader of the lines of stdin, on a separate thread, because a blocked read can't be cancelled.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::sync::mpsc::{Receiver, channel};

/// Maximum length of a message, in bytes: the longest prompt (512 KiB) with each byte as a six-byte escape, and some
/// space for the rest of a call.
pub(super) const MAX_MESSAGE_SIZE: usize = 4 * 1024 * 1024;
/// Size of the kept beginning of a longer message, in bytes. The message's id is near its beginning.
const KEPT_HEAD_SIZE: usize = 4 * 1024;
/// Maximum number of queued lines. Further lines stay in the pipe.
const QUEUE_CAPACITY: usize = 4;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum InputLine {
    /// A whole line, without its line break.
    Whole(Vec<u8>),
    /// First bytes of a line longer than [`MAX_MESSAGE_SIZE`], which are searched for the message's id.
    TooLong(Vec<u8>),
}

/// Starts a thread that reads lines from `input`. At the end of the input, the channel of lines closes and `is_over`
/// becomes true.
pub(super) fn spawn_reader(
    input: impl Read + Send + 'static,
    is_over: Arc<AtomicBool>,
) -> io::Result<Receiver<InputLine>> {
    let (sender, lines) = channel(QUEUE_CAPACITY);
    thread::Builder::new().name("mcp-stdin".to_owned()).spawn(move || {
        let mut input = io::BufReader::new(input);
        while let Ok(Some(line)) = read_line(&mut input, MAX_MESSAGE_SIZE) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
        is_over.store(true, Ordering::Release);
    })?;
    Ok(lines)
}

/// Returns the next line without its line break, which the last line may lack; `None` at the end of the input.
fn read_line(input: &mut impl BufRead, max_bytes: usize) -> io::Result<Option<InputLine>> {
    let mut line = Vec::new();
    input.by_ref().take(max_bytes as u64 + 1).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > max_bytes {
        input.skip_until(b'\n')?;
        line.truncate(KEPT_HEAD_SIZE);
        return Ok(Some(InputLine::TooLong(line)));
    } else if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(InputLine::Whole(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_line_is_whole() {
        let mut input = &b"four\n\nfives\n12345678\nlast"[..];
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input, 4).unwrap() {
            lines.push(line);
        }
        let whole = |text: &str| InputLine::Whole(text.as_bytes().to_vec());
        let long = |text: &str| InputLine::TooLong(text.as_bytes().to_vec());
        assert_eq!(lines, [whole("four"), whole(""), long("fives"), long("12345"), whole("last")]);
    }

    #[tokio::test]
    async fn the_end_of_the_input_ends_the_lines() {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut lines = spawn_reader(&b"a\nb"[..], is_over.clone()).unwrap();
        assert_eq!(lines.recv().await, Some(InputLine::Whole(b"a".to_vec())));
        assert_eq!(lines.recv().await, Some(InputLine::Whole(b"b".to_vec())));
        assert_eq!(lines.recv().await, None);
        assert!(is_over.load(Ordering::Acquire));
    }
}
