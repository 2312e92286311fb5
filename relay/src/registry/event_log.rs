//! Reading event logs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use common::event_line::{EventLine, LineError, MAX_LINE, checked_id};

use crate::files::file_ref::FileRef;
use crate::files::refused::{Reason, Refused};

/// Read buffer size, in bytes: a few hundred lines.
const BUFFER: usize = 64 * 1024;
/// Maximum number of bad lines listed one by one: enough to diagnose the damage.
pub const MAX_LISTED: usize = 100;

/// Maximum length of damage that is skipped in search of the next line, in bytes. A lost line break joins two lines,
/// and a power loss leaves some MiB of zeros. A longer run was never a log: reading ends there.
const MAX_SKIPPED: u64 = 8 * MAX_LINE as u64;
/// Size up to which a log is read whatever its disk usage, in bytes.
const SMALL_FILE: u64 = 64 << 20;
/// Maximum ratio of a log's length to its disk usage. Compressing file systems reach about 20.
const MAX_COMPRESSION_RATIO: u64 = 100;

/// Content of a log.
#[derive(Debug, Default, PartialEq)]
pub struct Log {
    /// Good lines, in order.
    pub lines: Vec<EventLine>,
    /// Bytes up to and including the last whole line.
    pub good_bytes: u64,
    /// Bytes after that: a line that was being written when its writer died.
    pub torn_bytes: u64,
    /// Invalid lines in the middle, by number from 1.
    pub bad: Vec<(usize, LineError)>,
}

/// Opens a log for reading.
///
/// # Errors
/// As [`FileRef::open`], and for a file that is nearly all holes: one of some TiB takes no disk space, but costs its
/// readers.
pub(super) fn open(path: &FileRef) -> io::Result<File> {
    let file = path.open()?;
    let meta = file.metadata()?;
    let room = meta.blocks().saturating_mul(512).saturating_mul(MAX_COMPRESSION_RATIO);
    if meta.len() > SMALL_FILE && meta.len() > room {
        return Err(Refused::error(path.path(), Reason::Holes));
    }
    Ok(file)
}

/// Reads a whole log. A bad last line counts as torn; bad lines in the middle are listed.
pub fn read(path: &FileRef) -> io::Result<Log> {
    let mut lines = Vec::new();
    let found = scan(path, |_, line| lines.push(line))?;
    let ScanResult { good_bytes, torn_bytes, bad, .. } = found;
    Ok(Log { lines, good_bytes, torn_bytes, bad })
}

/// Contents of a log besides its good lines.
#[derive(Debug, Default, PartialEq)]
pub struct ScanResult {
    /// As in [`Log`].
    pub good_bytes: u64,
    /// As in [`Log`].
    pub torn_bytes: u64,
    /// As in [`Log`], but at most the first [`MAX_LISTED`].
    pub bad: Vec<(usize, LineError)>,
    /// Number of invalid lines in the middle.
    pub bad_lines: usize,
    /// Version of the first line written by a newer program. This program must not write such a log.
    pub newer: Option<u64>,
}

/// Reads a log and passes each good line with its bytes to `visit`, so that a long log needs no more memory than a
/// short one.
pub fn scan(path: &FileRef, mut visit: impl FnMut(&[u8], EventLine)) -> io::Result<ScanResult> {
    let mut reader = BufReader::with_capacity(BUFFER, open(path)?);
    let mut found = ScanResult::default();
    let mut suspects = Suspects::default();
    let mut raw = Vec::new();
    for number in 1.. {
        raw.clear();
        let len = read_line(&mut reader, &mut raw, path)?;
        if len == 0 {
            break;
        }
        found.torn_bytes += len;
        match EventLine::parse(&raw) {
            // A line without its break may be incomplete: its writer never got as far as an ack.
            Ok(_) if !raw.ends_with(b"\n") => {}
            Ok(line) => {
                suspects.convict(&mut found);
                visit(&raw, line);
            }
            Err(error @ LineError::Newer(version)) => {
                found.newer.get_or_insert(version);
                suspects.add(number, error);
                suspects.convict(&mut found);
            }
            Err(error) => suspects.add(number, error),
        }
    }
    Ok(found)
}

/// Bad lines that may still turn out to be a torn tail.
#[derive(Default)]
struct Suspects {
    first: Vec<(usize, LineError)>,
    count: usize,
}

impl Suspects {
    fn add(&mut self, number: usize, error: LineError) {
        self.count += 1;
        if self.first.len() < MAX_LISTED {
            self.first.push((number, error));
        }
    }

    /// Counts the suspects as damage: a good line follows, so they are not a torn tail.
    fn convict(&mut self, found: &mut ScanResult) {
        found.good_bytes += std::mem::take(&mut found.torn_bytes);
        found.bad_lines += std::mem::take(&mut self.count);
        let room = MAX_LISTED - found.bad.len().min(MAX_LISTED);
        found.bad.extend(self.first.drain(..).take(room));
    }
}

/// Reads up to and including the next `\n`, keeping at most one byte more than [`MAX_LINE`]; the returned length counts
/// all bytes.
///
/// # Errors
/// Returns an error if the file can't be read and for a line beyond [`MAX_SKIPPED`].
pub(super) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>, path: &FileRef) -> io::Result<u64> {
    let most = MAX_LINE as u64 + 1;
    let len = reader.by_ref().take(most).read_until(b'\n', line)? as u64;
    if len < most || line.ends_with(b"\n") {
        return Ok(len);
    }
    let passed = reader.take(MAX_SKIPPED).skip_until(b'\n')? as u64;
    if passed == MAX_SKIPPED {
        return Err(Refused::error(path.path(), Reason::Endless));
    }
    Ok(len + passed)
}

/// Follows a log from an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    offset: u64,
    /// Newest id that was returned, or that [`Follower::since`] excluded.
    newest: u64,
    /// Device and inode of the file that `offset` refers to.
    file: Option<(u64, u64)>,
}

impl Follower {
    /// Starts at the beginning of the log.
    pub fn new() -> Self {
        Self::since(0)
    }

    /// Starts after the event with this id.
    pub fn since(id: u64) -> Self {
        Self { offset: 0, newest: id, file: None }
    }

    /// Passes the lines added since the last call to `visit`. An absent file has none, and invalid lines are skipped.
    pub fn lines(&mut self, path: &FileRef, mut visit: impl FnMut(&[u8], EventLine)) -> io::Result<()> {
        self.advance(path, |newest, raw| {
            if let Ok(line) = EventLine::parse(raw)
                && line.id > *newest
            {
                *newest = line.id;
                visit(raw, line);
            }
        })
    }

    /// Returns the lines added since the last call, all at once.
    pub fn next_lines(&mut self, path: &FileRef) -> io::Result<Vec<(Vec<u8>, EventLine)>> {
        let mut found = Vec::new();
        self.lines(path, |raw, line| found.push((raw.to_vec(), line)))?;
        Ok(found)
    }

    /// Like [`Follower::lines`], but passes only a line's bytes and its id.
    pub fn raw_lines(&mut self, path: &FileRef, mut visit: impl FnMut(&[u8], u64)) -> io::Result<()> {
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
        let mut file = match open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let meta = file.metadata()?;
        let place = (meta.dev(), meta.ino());
        if self.file != Some(place) || meta.len() < self.offset {
            // The file was replaced, as by a repair: lines that were already returned are recognized by their ids.
            self.file = Some(place);
            self.offset = 0;
        }
        if meta.len() == self.offset {
            return Ok(());
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::with_capacity(BUFFER, file);
        let mut raw = Vec::new();
        loop {
            raw.clear();
            let len = read_line(&mut reader, &mut raw, path)?;
            if !raw.ends_with(b"\n") && len <= MAX_LINE as u64 {
                return Ok(());
            }
            self.offset += len;
            visit(&mut self.newest, &raw);
        }
    }
}

#[cfg(test)]
#[path = "event_log_tests.rs"]
mod tests;
