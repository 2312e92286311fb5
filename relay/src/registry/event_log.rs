//! Reads event logs, whole or from an offset.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use common::event_line::{EventLine, LineError, MAX_LINE, checked_id};

use crate::files::file_ref::FileRef;
use crate::files::refused::{RefusalReason, RefusedEntry};

/// Read buffer size, in bytes: a few hundred lines.
const READ_BUFFER_SIZE: usize = 64 * 1024;
/// Maximum number of bad lines that are listed one by one: enough to diagnose the damage.
pub const MAX_LISTED: usize = 100;

/// Maximum length of damage that is skipped in search of the next line, in bytes. A lost line break joins two lines,
/// and a power loss leaves some MiB of zeros. A file with longer damage is not a log, and is read only up to the
/// damage.
const MAX_SKIPPED: u64 = 8 * MAX_LINE as u64;
/// Maximum size of a log that is read regardless of its disk usage, in bytes.
const SMALL_FILE: u64 = 64 << 20;
/// Maximum ratio of a log's length to its disk usage. Compressing file systems reach about 20.
const MAX_COMPRESSION_RATIO: u64 = 100;

/// Content of an event log.
#[derive(Debug, Default, PartialEq)]
pub struct LogContent {
    /// Valid lines, in order.
    pub lines: Vec<EventLine>,
    /// Number of bytes up to and including the last valid line.
    pub valid_bytes: u64,
    /// Number of bytes after the last valid line: the beginning of a line whose writer died.
    pub torn_bytes: u64,
    /// Invalid lines before the last valid line, each with its line number, from 1.
    pub bad_lines: Vec<(usize, LineError)>,
}

/// Opens a log for reading.
///
/// # Errors
/// Same as [`FileRef::open`]; also fails for a file that consists mostly of holes, which could have many TiB.
pub(super) fn open_log(path: &FileRef) -> io::Result<File> {
    let file = path.open()?;
    let meta = file.metadata()?;
    let max_length = meta.blocks().saturating_mul(512).saturating_mul(MAX_COMPRESSION_RATIO);
    if meta.len() > SMALL_FILE && meta.len() > max_length {
        return Err(RefusedEntry::error(path.path(), RefusalReason::MostlyHoles));
    }
    Ok(file)
}

/// Reads a whole log. A bad last line counts as torn; bad lines in the middle are listed.
pub fn read_log(path: &FileRef) -> io::Result<LogContent> {
    let mut lines = Vec::new();
    let result = scan_log(path, |_, line| lines.push(line))?;
    let ScanResult { valid_bytes, torn_bytes, first_bad_lines: bad_lines, .. } = result;
    Ok(LogContent { lines, valid_bytes, torn_bytes, bad_lines })
}

/// Result of scanning a log, without its valid lines.
#[derive(Debug, Default, PartialEq)]
pub struct ScanResult {
    /// Number of bytes up to and including the last valid line.
    pub valid_bytes: u64,
    /// Number of bytes after the last valid line.
    pub torn_bytes: u64,
    /// The first invalid lines before the last valid line, at most [`MAX_LISTED`], each with its line number.
    pub first_bad_lines: Vec<(usize, LineError)>,
    /// Number of invalid lines before the last valid line.
    pub bad_line_count: usize,
    /// Format version of the first line that a newer relay has written. This program must not write such a log.
    pub newer_version: Option<u64>,
}

/// Reads a log and calls `visit` with each valid line and its bytes, so that memory use does not depend on the length.
pub fn scan_log(path: &FileRef, mut visit: impl FnMut(&[u8], EventLine)) -> io::Result<ScanResult> {
    let mut reader = BufReader::with_capacity(READ_BUFFER_SIZE, open_log(path)?);
    let mut result = ScanResult::default();
    let mut suspects = SuspectLines::default();
    let mut raw = Vec::new();
    for number in 1.. {
        raw.clear();
        let len = read_line(&mut reader, &mut raw, path)?;
        if len == 0 {
            break;
        }
        result.torn_bytes += len;
        match EventLine::parse(&raw) {
            // A line without its line break may be incomplete, and was never acknowledged.
            Ok(_) if !raw.ends_with(b"\n") => {}
            Ok(line) => {
                suspects.count_as_damage(&mut result);
                visit(&raw, line);
            }
            Err(error @ LineError::Newer(version)) => {
                result.newer_version.get_or_insert(version);
                suspects.add(number, error);
                suspects.count_as_damage(&mut result);
            }
            Err(error) => suspects.add(number, error),
        }
    }
    Ok(result)
}

/// Bad lines that may still turn out to be a torn tail.
#[derive(Default)]
struct SuspectLines {
    first_lines: Vec<(usize, LineError)>,
    count: usize,
}

impl SuspectLines {
    fn add(&mut self, number: usize, error: LineError) {
        self.count += 1;
        if self.first_lines.len() < MAX_LISTED {
            self.first_lines.push((number, error));
        }
    }

    /// Counts the suspect lines as damage: a valid line follows, so they are not a torn tail.
    fn count_as_damage(&mut self, result: &mut ScanResult) {
        result.valid_bytes += std::mem::take(&mut result.torn_bytes);
        result.bad_line_count += std::mem::take(&mut self.count);
        let max_added = MAX_LISTED - result.first_bad_lines.len().min(MAX_LISTED);
        result.first_bad_lines.extend(self.first_lines.drain(..).take(max_added));
    }
}

/// Reads up to and including the next `\n`. Puts at most one byte more than [`MAX_LINE`] into `line`; the returned
/// length counts all bytes.
///
/// # Errors
/// Returns an error if the file can't be read and for a line beyond [`MAX_SKIPPED`].
pub(super) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>, path: &FileRef) -> io::Result<u64> {
    let max_bytes = MAX_LINE as u64 + 1;
    let len = reader.by_ref().take(max_bytes).read_until(b'\n', line)? as u64;
    if len < max_bytes || line.ends_with(b"\n") {
        return Ok(len);
    }
    let skipped = reader.take(MAX_SKIPPED).skip_until(b'\n')? as u64;
    if skipped == MAX_SKIPPED {
        return Err(RefusedEntry::error(path.path(), RefusalReason::OverlongLine));
    }
    Ok(len + skipped)
}

/// Reader of the lines that are added to a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFollower {
    offset: u64,
    /// Id of the newest event that was returned, or that [`LogFollower::starting_after`] excluded.
    newest_id: u64,
    /// Device and inode of the file that `offset` refers to.
    file_id: Option<(u64, u64)>,
}

impl LogFollower {
    /// Starts at the beginning of the log.
    pub fn new() -> Self {
        Self::starting_after(0)
    }

    /// Starts after the event with this id.
    pub fn starting_after(id: u64) -> Self {
        Self { offset: 0, newest_id: id, file_id: None }
    }

    /// Calls `visit` with each line that was added since the last call. An absent file has no lines, and invalid lines
    /// are skipped.
    pub fn visit_lines(&mut self, path: &FileRef, mut visit: impl FnMut(&[u8], EventLine)) -> io::Result<()> {
        self.advance(path, |newest, raw| {
            if let Ok(line) = EventLine::parse(raw)
                && line.id > *newest
            {
                *newest = line.id;
                visit(raw, line);
            }
        })
    }

    /// Returns all lines that were added since the last call.
    pub fn next_lines(&mut self, path: &FileRef) -> io::Result<Vec<(Vec<u8>, EventLine)>> {
        let mut result = Vec::new();
        self.visit_lines(path, |raw, line| result.push((raw.to_vec(), line)))?;
        Ok(result)
    }

    /// Calls `visit` like [`LogFollower::visit_lines`], but only with the bytes and the id of each line.
    pub fn visit_raw_lines(&mut self, path: &FileRef, mut visit: impl FnMut(&[u8], u64)) -> io::Result<()> {
        self.advance(path, |newest, raw| {
            if let Ok(id) = checked_id(raw)
                && id > *newest
            {
                *newest = id;
                visit(raw, id);
            }
        })
    }

    fn advance(&mut self, path: &FileRef, mut visit: impl FnMut(&mut u64, &[u8])) -> io::Result<()> {
        let mut file = match open_log(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let meta = file.metadata()?;
        let new_file_id = (meta.dev(), meta.ino());
        if self.file_id != Some(new_file_id) || meta.len() < self.offset {
            // The file was replaced by a repair. Lines that were already returned are recognized by their ids.
            self.file_id = Some(new_file_id);
            self.offset = 0;
        }
        if meta.len() == self.offset {
            return Ok(());
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::with_capacity(READ_BUFFER_SIZE, file);
        let mut raw = Vec::new();
        loop {
            raw.clear();
            let len = read_line(&mut reader, &mut raw, path)?;
            if !raw.ends_with(b"\n") && len <= MAX_LINE as u64 {
                return Ok(());
            }
            self.offset += len;
            visit(&mut self.newest_id, &raw);
        }
    }
}

#[cfg(test)]
#[path = "event_log_tests.rs"]
mod tests;
