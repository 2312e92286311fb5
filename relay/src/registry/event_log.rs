//! Reading event logs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use common::event_line::{EventLine, LineError, MAX_LINE};

/// A log as it was found.
#[derive(Debug, Default, PartialEq)]
pub struct Log {
    /// Its good lines, in order.
    pub lines: Vec<EventLine>,
    /// Bytes up to and with the last whole line.
    pub good_bytes: u64,
    /// Bytes behind that: a line that was being written when its writer died.
    pub torn_bytes: u64,
    /// Lines in the middle that can't be believed, by number from 1.
    pub bad: Vec<(usize, LineError)>,
}

/// Reads a whole log. A bad last line counts as torn; one in the middle is listed.
///
/// # Errors
/// When the file can't be read.
pub fn read(path: &Path) -> io::Result<Log> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut log = Log::default();
    let mut suspects = Vec::new();
    let mut raw = Vec::new();
    for number in 1.. {
        raw.clear();
        let len = read_line(&mut reader, &mut raw)?;
        if len == 0 {
            break;
        }
        log.torn_bytes += len;
        match EventLine::parse(&raw) {
            // A line without its break may be half of what was meant: its writer never got as far as an ack.
            Ok(_) if !raw.ends_with(b"\n") => {}
            Ok(line) => {
                log.bad.append(&mut suspects);
                log.good_bytes += std::mem::take(&mut log.torn_bytes);
                log.lines.push(line);
            }
            Err(error @ LineError::Newer(_)) => {
                log.bad.append(&mut suspects);
                log.bad.push((number, error));
                log.good_bytes += std::mem::take(&mut log.torn_bytes);
            }
            Err(error) => suspects.push((number, error)),
        }
    }
    Ok(log)
}

/// Reads up to and with the next `\n`, keeping at most [`MAX_LINE`] bytes; the length counts all of them.
pub(super) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    let mut total = 0;
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(total);
        }
        let end = chunk.iter().position(|b| *b == b'\n').map(|at| at + 1);
        let used = end.unwrap_or(chunk.len());
        let room = (MAX_LINE + 1).saturating_sub(line.len());
        line.extend_from_slice(&chunk[..used.min(room)]);
        reader.consume(used);
        total += used as u64;
        if end.is_some() {
            return Ok(total);
        }
    }
}

/// Follows a log from a place in it.
pub struct Follower {
    offset: u64,
}

impl Follower {
    /// Begins at the log's start.
    pub fn new() -> Self {
        Self { offset: 0 }
    }

    /// The raw whole lines that were added since the last call; an absent file has none. Lines that can't be believed
    /// are left out.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn next_lines(&mut self, path: &Path) -> io::Result<Vec<(Vec<u8>, EventLine)>> {
        let mut file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::new(file);
        let mut found = Vec::new();
        loop {
            let mut raw = Vec::new();
            let len = read_line(&mut reader, &mut raw)?;
            if !raw.ends_with(b"\n") && len <= MAX_LINE as u64 {
                return Ok(found);
            }
            self.offset += len;
            if let Ok(line) = EventLine::parse(&raw) {
                found.push((raw, line));
            }
        }
    }
}

#[cfg(test)]
#[path = "event_log_tests.rs"]
mod tests;
