//! Finds the first event after a cursor in one event log. Ids increase within a log, so a long log is searched by
//! bisection.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use common::event_line::LineHead;

use super::event_log::{self, read_line};
use crate::files::file_ref::FileRef;

/// Size of the read buffer of an open log, in bytes. A typical line has 200 bytes.
const READ_BUFFER_SIZE: usize = 8 * 1024;
/// Length of the part of a log, in bytes, that is not bisected any more but read line by line.
const LINEAR_SCAN_SIZE: u64 = 4 * READ_BUFFER_SIZE as u64;

/// An event log, open at a valid line.
#[derive(Debug)]
pub struct LogCursor {
    path: FileRef,
    reader: BufReader<File>,
    line: Vec<u8>,
    /// Id of the event in `line`.
    id: u64,
}

impl LogCursor {
    /// Opens a log at the first line with an id above `since`; returns `None` if the log has no such line.
    pub fn open_after(path: &FileRef, since: u64) -> io::Result<Option<Self>> {
        let mut file = event_log::open_log(path)?;
        let len = file.metadata()?.len();
        if read_last_id(&mut file, len)?.is_some_and(|last| last <= since) {
            return Ok(None);
        }
        let reader = BufReader::with_capacity(READ_BUFFER_SIZE, file);
        let mut cursor = Self { path: path.clone(), reader, line: Vec::new(), id: 0 };
        let start = cursor.bisect(len, since)?;
        cursor.reader.seek(SeekFrom::Start(start))?;
        while cursor.advance()? {
            if cursor.id > since {
                return Ok(Some(cursor));
            }
        }
        Ok(None)
    }

    /// Returns the current line, with its line break.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Returns the id of the event in the current line.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Advances to the next valid line; returns false at the end of the log.
    pub fn advance(&mut self) -> io::Result<bool> {
        loop {
            self.line.clear();
            if read_line(&mut self.reader, &mut self.line, &self.path)? == 0 {
                return Ok(false);
            }
            // A line without a line break is still being written.
            if self.line.ends_with(b"\n")
                && let Ok(head) = LineHead::parse(&self.line)
            {
                self.id = head.id;
                return Ok(true);
            }
        }
    }

    /// Returns the offset of a line before which every id is at most `since`. The line is close to the last line for
    /// which that is true.
    fn bisect(&mut self, len: u64, since: u64) -> io::Result<u64> {
        let (mut low, mut high) = (0, len);
        while high - low > LINEAR_SCAN_SIZE {
            let middle = low + (high - low) / 2;
            self.reader.seek(SeekFrom::Start(middle))?;
            // The offset is almost always in the middle of a line, so the next line is the first complete one.
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

/// Returns the id in the last line; `None` if the line is incomplete or longer than [`READ_BUFFER_SIZE`].
fn read_last_id(file: &mut File, len: u64) -> io::Result<Option<u64>> {
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(len.saturating_sub(READ_BUFFER_SIZE as u64)))?;
    file.take(READ_BUFFER_SIZE as u64).read_to_end(&mut tail)?;
    let Some(body) = tail.strip_suffix(b"\n") else { return Ok(None) };
    let start = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok(LineHead::parse(&body[start..]).ok().map(|head| head.id))
}
