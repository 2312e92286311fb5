//! The streamed log of a job: bounded, with head and tail kept.
//!
//! ```text
//! ┌── HEAD bytes ──┬── marker (fixed length, says how much is left out) ──┬── tail, TAIL to 2 × TAIL bytes ──┐
//! ```
//!
//! Offsets count the bytes that the worker printed. The length of the file and its marker give the number of bytes
//! received, so no other state is needed. A worker can't print a marker: if its text would form one, the last line
//! break of it is written as a blank.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use crate::files::atomic::Durability;
use crate::files::file_ref::FileRef;
use crate::files::refused::Refused;

/// Bytes kept from the beginning of a log.
pub const HEAD: u64 = 4 * 1024 * 1024;
/// Minimum number of bytes kept from the end of a log.
pub const TAIL: u64 = 4 * 1024 * 1024;
/// Upper bound of a log's length, in bytes: a log is shortened before it reaches this.
const MAX_SIZE: u64 = HEAD + 3 * TAIL;
/// Length of `\n[… at most 20 digits bytes left out …]\n`, in bytes. Blanks in front of the last line break make all
/// markers equally long.
const MARKER: usize = 47;

fn marker(left_out: u64) -> String {
    let text = format!("\n[… {left_out} bytes left out …]");
    // A blank is one byte; the text before the blanks contains two characters of three bytes.
    format!("{text:width$}\n", width = MARKER - 1 - 4)
}

/// Number of bytes left out according to the marker at [`HEAD`]; 0 without a marker.
fn left_out(file: &File, len: u64) -> io::Result<u64> {
    if len < HEAD + MARKER as u64 {
        return Ok(0);
    }
    let mut bytes = [0; MARKER];
    file.read_exact_at(&mut bytes, HEAD)?;
    Ok(marked(&bytes).unwrap_or(0))
}

/// Parses the number in a marker.
fn marked(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.strip_prefix("\n[… ")?
        .strip_suffix('\n')?
        .trim_end_matches(' ')
        .strip_suffix(" bytes left out …]")?
        .parse()
        .ok()
}

/// Text to write at `at` of a log that has no marker, changed so that the log still has none afterwards.
fn unmarked<'a>(file: &File, at: u64, text: &'a [u8]) -> io::Result<Cow<'a, [u8]>> {
    let last = HEAD + MARKER as u64 - 1;
    let place = last.checked_sub(at).and_then(|place| usize::try_from(place).ok());
    let Some(place) = place.filter(|place| text.get(*place) == Some(&b'\n')) else { return Ok(text.into()) };
    let mut bytes = [0; MARKER];
    let own = MARKER - 1 - place.min(MARKER - 1);
    file.read_exact_at(&mut bytes[..own], HEAD)?;
    bytes[own..].copy_from_slice(&text[place + 1 - (MARKER - own)..=place]);
    if marked(&bytes).is_none() {
        return Ok(text.into());
    }
    let mut text = text.to_vec();
    text[place] = b' ';
    Ok(text.into())
}

/// Writer of a log. It holds no descriptor, so a thousand jobs may have one each.
pub struct LogWriter {
    path: FileRef,
    len: u64,
    left_out: u64,
    /// Newest output that could not be written.
    gap: Option<Gap>,
    /// True if appended bytes are not synced yet.
    unsynced: bool,
}

/// Missing output: a hole in the file, which needs no disk space and keeps the offsets right.
struct Gap {
    at: u64,
    len: u64,
}

impl LogWriter {
    /// Inspects the log. The first output creates it and sets aside an entry that is not a log.
    pub fn open(path: &FileRef) -> io::Result<Self> {
        let (len, left_out) = match path.open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound || Refused::from_error(&e).is_some() => (0, 0),
            file => {
                let file = file?;
                let len = file.metadata()?.len();
                (len, left_out(&file, len)?)
            }
        };
        Ok(Self { path: path.clone(), len, left_out, gap: None, unsynced: false })
    }

    /// Makes the appended output survive a power loss.
    pub fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.unsynced) { self.path.open_to_append()?.sync_data() } else { Ok(()) }
    }

    /// Number of bytes of the worker's output received so far.
    pub fn offset(&self) -> u64 {
        if self.left_out == 0 { self.len } else { self.len - MARKER as u64 + self.left_out }
    }

    /// Appends output that begins at `offset`; bytes received before are dropped.
    ///
    /// # Errors
    /// `InvalidInput` when bytes in between are missing; otherwise the failing call, and nothing was appended.
    pub fn append(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let new = self.news(offset, bytes)?;
        if new.is_empty() {
            return Ok(());
        }
        let mut file = self.path.open_to_append()?;
        let new = self.harmless(self.len, new)?;
        if let Err(e) = file.write_all(&new) {
            // A partial write would make every later offset wrong.
            file.set_len(self.len)?;
            return Err(e);
        }
        self.len += new.len() as u64;
        self.unsynced = true;
        if self.mark() {
            self.gap = None;
        }
        if self.len > HEAD + MARKER as u64 + 2 * TAIL
            && let Err(e) = self.compact()
        {
            // The log is longer than intended, but complete.
            tracing::warn!("{} can't be shortened: {e}", self.path.display());
        }
        Ok(())
    }

    /// Skips output that could not be appended. The log mentions the gap as soon as there is space for the note.
    pub fn leave_out(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let new = self.news(offset, bytes)?.len() as u64;
        if new == 0 {
            return Ok(());
        }
        let file = self.path.open_to_append()?;
        file.set_len(self.len + new)?;
        match &mut self.gap {
            Some(gap) if gap.at + gap.len == self.len => gap.len += new,
            gap => *gap = Some(Gap { at: self.len, len: new }),
        }
        self.len += new;
        self.unsynced = true;
        self.mark();
        Ok(())
    }

    /// Text to write at `at`, changed so that it contains no marker.
    fn harmless<'a>(&self, at: u64, text: &'a [u8]) -> io::Result<Cow<'a, [u8]>> {
        let ends_behind = at + text.len() as u64 >= HEAD + MARKER as u64;
        if self.left_out > 0 || at >= HEAD + MARKER as u64 || !ends_behind {
            return Ok(text.into());
        }
        unmarked(&self.path.open()?, at, text)
    }

    /// Part of `bytes` that was not received before.
    fn news<'a>(&self, offset: u64, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let seen = self
            .offset()
            .checked_sub(offset)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "output in between is missing"))?;
        Ok(usize::try_from(seen).ok().and_then(|seen| bytes.get(seen..)).unwrap_or_default())
    }

    /// Writes the note about a gap into the log; returns true if no gap is left to mention.
    fn mark(&self) -> bool {
        let Some(Gap { at, len }) = self.gap else { return true };
        let mut text = format!("\n[… {len} bytes left out: the relay's disk was full …]\n").into_bytes();
        // A gap too short for the text gets only as much of it as fits.
        text.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        let written =
            self.harmless(at, &text).and_then(|text| self.path.open_to_write()?.write_all_at(&text, at));
        written.is_ok()
    }

    /// Rewrites the log with its head and its newest [`TAIL`] bytes.
    fn compact(&mut self) -> io::Result<()> {
        let file = self.path.open()?;
        let seen = self.offset();
        let left_out = seen - HEAD - TAIL;
        let mut kept = vec![0; usize::try_from(HEAD).unwrap_or(0)];
        file.read_exact_at(&mut kept, 0)?;
        kept.extend_from_slice(marker(left_out).as_bytes());
        let mut tail = vec![0; usize::try_from(TAIL).unwrap_or(0)];
        file.read_exact_at(&mut tail, self.len - TAIL)?;
        kept.extend_from_slice(&tail);
        self.path.replace(&kept, Durability::Cached)?;
        *self = Self { unsynced: true, ..Self::open(&self.path)? };
        Ok(())
    }
}

/// Reads the output added to a log since the last call.
#[derive(Default)]
pub struct LogReader {
    offset: u64,
}

impl LogReader {
    /// Starts with the last `lines` lines of the log.
    ///
    /// # Errors
    /// Returns an error if the file can't be read. An absent file is empty.
    pub fn tail(path: &FileRef, lines: usize) -> io::Result<(Self, Vec<u8>)> {
        let len = path.size().unwrap_or(0);
        // A file longer than any writer leaves it: only its end is read.
        let mut reader = Self { offset: len.saturating_sub(MAX_SIZE) };
        let mut text = Vec::new();
        while let Some(piece) = reader.read(path)? {
            text.extend_from_slice(&piece);
        }
        let ended = text.strip_suffix(b"\n").unwrap_or(&text);
        let breaks = ended.iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
        let start = match lines {
            0 => text.len(),
            lines => breaks.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0),
        };
        Ok((reader, text.split_off(start)))
    }

    /// Returns the next piece (at most 1 MiB), or `None` when there is nothing new.
    ///
    /// # Errors
    /// Returns an error if the file can't be read. An absent file is empty.
    pub fn read(&mut self, path: &FileRef) -> io::Result<Option<Vec<u8>>> {
        let mut file = match path.open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let len = file.metadata()?.len();
        let left_out = left_out(&file, len)?;
        let place = match (left_out, self.offset) {
            (0, offset) => offset,
            (_, offset) if offset <= HEAD => offset,
            // Output that a slow reader missed is gone: it continues at the marker.
            (left_out, offset) if offset < HEAD + left_out => HEAD,
            (left_out, offset) => offset - left_out + MARKER as u64,
        };
        if place >= len {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(place))?;
        let mut piece = Vec::new();
        file.take(1024 * 1024).read_to_end(&mut piece)?;
        let end = place + piece.len() as u64;
        self.offset = match left_out {
            0 => end,
            _ if end <= HEAD => end,
            // The marker is read whole or not at all.
            _ if end < HEAD + MARKER as u64 => {
                piece.truncate(usize::try_from(HEAD - place).unwrap_or(0));
                HEAD
            }
            left_out => end - MARKER as u64 + left_out,
        };
        Ok(Some(piece))
    }
}

#[cfg(test)]
#[path = "log_file_tests.rs"]
mod tests;
