//! Finding the first event behind a cursor in one log: ids grow within a log, so a long one is halved and not read.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use common::event_line::LineHead;

use super::event_log::{self, read_line};
use super::file_ref::FileRef;

/// Bytes that one open log has in memory. The usual line has 200.
const BUFFER: usize = 8 * 1024;
/// What is left of a log after halving is read through.
const NEAR: u64 = 4 * BUFFER as u64;

/// A log, open at a line that can be believed.
#[derive(Debug)]
pub struct LogPlace {
    path: FileRef,
    reader: BufReader<File>,
    line: Vec<u8>,
    /// The line's id.
    id: u64,
}

impl LogPlace {
    /// Opens a log at the first line with an id above `since`; `None` when it has none.
    ///
    /// # Errors
    /// When the file can't be opened or read.
    pub fn behind(path: &FileRef, since: u64) -> io::Result<Option<Self>> {
        let mut file = event_log::open(path)?;
        let len = file.metadata()?.len();
        if last_id(&mut file, len)?.is_some_and(|last| last <= since) {
            return Ok(None);
        }
        let reader = BufReader::with_capacity(BUFFER, file);
        let mut place = Self { path: path.clone(), reader, line: Vec::new(), id: 0 };
        let start = place.halve(len, since)?;
        place.reader.seek(SeekFrom::Start(start))?;
        while place.advance()? {
            if place.id > since {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// The line, with its line break.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// The line's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Goes on to the next line that can be believed. Returns whether there is one.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn advance(&mut self) -> io::Result<bool> {
        loop {
            self.line.clear();
            if read_line(&mut self.reader, &mut self.line, &self.path)? == 0 {
                return Ok(false);
            }
            // A line without its break is being written.
            if self.line.ends_with(b"\n")
                && let Ok(head) = LineHead::of(&self.line)
            {
                self.id = head.id;
                return Ok(true);
            }
        }
    }

    /// A line's start in front of which every id is at most `since`, near the last such one.
    fn halve(&mut self, len: u64, since: u64) -> io::Result<u64> {
        let (mut low, mut high) = (0, len);
        while high - low > NEAR {
            let middle = low + (high - low) / 2;
            self.reader.seek(SeekFrom::Start(middle))?;
            // Almost always in the middle of a line, so that the next one is looked at.
            let mut skipped = Vec::new();
            let start = middle + read_line(&mut self.reader, &mut skipped, &self.path)?;
            if start < high && self.advance()? && self.id <= since {
                low = start;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

/// The last line's id; `None` where the last bytes don't tell it.
fn last_id(file: &mut File, len: u64) -> io::Result<Option<u64>> {
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(len.saturating_sub(BUFFER as u64)))?;
    file.take(BUFFER as u64).read_to_end(&mut tail)?;
    let Some(body) = tail.strip_suffix(b"\n") else { return Ok(None) };
    let start = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok(LineHead::of(&body[start..]).ok().map(|head| head.id))
}
