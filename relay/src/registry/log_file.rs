//! Log with the output of a job's worker. The length is bounded: only the head and the tail of a long log are kept.
//!
//! ```text
//! ┌── HEAD bytes ──┬── marker (fixed length, says how much is left out) ──┬── tail, TAIL to 2 × TAIL bytes ──┐
//! ```
//!
//! Offsets count the bytes that the worker printed. The number of received bytes follows from the file's length and the
//! marker, so no other state is needed. A worker can't forge a marker: if its output contains one, the last line break
//! of that text is replaced by a blank.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use crate::files::atomic::Durability;
use crate::files::file_ref::FileRef;
use crate::files::refused::RefusedEntry;

/// Number of bytes that are kept from the beginning of a log.
pub const HEAD_BYTES: u64 = 4 * 1024 * 1024;
/// Minimum number of bytes that are kept from the end of a log.
pub const MIN_TAIL_BYTES: u64 = 4 * 1024 * 1024;
/// Maximum length of a log, in bytes. A log is shortened before it reaches this length.
const MAX_SIZE: u64 = HEAD_BYTES + 3 * MIN_TAIL_BYTES;
/// Length of a marker, `\n[… NUMBER bytes left out …]\n`, in bytes. The number has at most 20 digits; blanks in front
/// of the last line break make all markers equally long.
const MARKER_LENGTH: usize = 47;

fn omission_marker(omitted_bytes: u64) -> String {
    let text = format!("\n[… {omitted_bytes} bytes left out …]");
    // The width counts characters. Two of them (`…`) have three bytes each, so there are 4 bytes more than characters.
    format!("{text:width$}\n", width = MARKER_LENGTH - 1 - 4)
}

/// Returns the number of omitted bytes in the marker at [`HEAD_BYTES`]; 0 without a marker.
fn read_omitted_bytes(file: &File, len: u64) -> io::Result<u64> {
    if len < HEAD_BYTES + MARKER_LENGTH as u64 {
        return Ok(0);
    }
    let mut bytes = [0; MARKER_LENGTH];
    file.read_exact_at(&mut bytes, HEAD_BYTES)?;
    Ok(parse_marker(&bytes).unwrap_or(0))
}

fn parse_marker(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.strip_prefix("\n[… ")?
        .strip_suffix('\n')?
        .trim_end_matches(' ')
        .strip_suffix(" bytes left out …]")?
        .parse()
        .ok()
}

/// Returns `text`, changed if it would form a marker when written at `offset`. The log has no marker yet.
fn break_marker<'a>(file: &File, offset: u64, text: &'a [u8]) -> io::Result<Cow<'a, [u8]>> {
    let marker_end = HEAD_BYTES + MARKER_LENGTH as u64 - 1;
    let index = marker_end.checked_sub(offset).and_then(|index| usize::try_from(index).ok());
    let Some(index) = index.filter(|index| text.get(*index) == Some(&b'\n')) else { return Ok(text.into()) };
    let mut bytes = [0; MARKER_LENGTH];
    let stored_len = MARKER_LENGTH - 1 - index.min(MARKER_LENGTH - 1);
    file.read_exact_at(&mut bytes[..stored_len], HEAD_BYTES)?;
    bytes[stored_len..].copy_from_slice(&text[index + 1 - (MARKER_LENGTH - stored_len)..=index]);
    if parse_marker(&bytes).is_none() {
        return Ok(text.into());
    }
    let mut text = text.to_vec();
    text[index] = b' ';
    Ok(text.into())
}

/// Writer of a log. It keeps no descriptor open, because there may be a thousand jobs.
pub struct LogWriter {
    path: FileRef,
    file_length: u64,
    omitted_bytes: u64,
    /// Newest output that could not be written.
    pending_gap: Option<OutputGap>,
    /// True if appended bytes are not synced yet.
    has_unsynced_bytes: bool,
}

/// Missing output. The file has a hole there, which needs no disk space and keeps later offsets valid.
struct OutputGap {
    offset: u64,
    length: u64,
}

impl LogWriter {
    /// Creates a writer for the log at `path`. The first output creates the file, and sets aside any other entry there.
    pub fn open(path: &FileRef) -> io::Result<Self> {
        let (len, omitted_bytes) = match path.open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound || RefusedEntry::from_error(&e).is_some() => (0, 0),
            file => {
                let file = file?;
                let len = file.metadata()?.len();
                (len, read_omitted_bytes(&file, len)?)
            }
        };
        Ok(Self {
            path: path.clone(),
            file_length: len,
            omitted_bytes,
            pending_gap: None,
            has_unsynced_bytes: false,
        })
    }

    /// Syncs the appended output.
    pub fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.has_unsynced_bytes) {
            self.path.open_to_append()?.sync_data()
        } else {
            Ok(())
        }
    }

    /// Returns the number of bytes of the worker's output that were received so far.
    pub fn offset(&self) -> u64 {
        if self.omitted_bytes == 0 {
            self.file_length
        } else {
            self.file_length - MARKER_LENGTH as u64 + self.omitted_bytes
        }
    }

    /// Appends output that begins at `offset`; bytes received before are dropped.
    ///
    /// # Errors
    /// `InvalidInput` when bytes between the end of the log and `offset` are missing; otherwise the error of the
    /// failing call. Nothing was appended then.
    pub fn append(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let new_bytes = self.new_bytes(offset, bytes)?;
        if new_bytes.is_empty() {
            return Ok(());
        }
        let mut file = self.path.open_to_append()?;
        let text = self.text_without_marker(self.file_length, new_bytes)?;
        if let Err(e) = file.write_all(&text) {
            // A partial write would make every later offset wrong.
            file.set_len(self.file_length)?;
            return Err(e);
        }
        self.file_length += text.len() as u64;
        self.has_unsynced_bytes = true;
        if self.write_gap_note() {
            self.pending_gap = None;
        }
        if self.file_length > HEAD_BYTES + MARKER_LENGTH as u64 + 2 * MIN_TAIL_BYTES
            && let Err(e) = self.compact()
        {
            // The log is longer than intended, but complete.
            tracing::warn!("{} can't be shortened: {e}", self.path.display());
        }
        Ok(())
    }

    /// Skips output that could not be appended. The log gets a note about the gap as soon as there is space.
    pub fn skip_output(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let length = self.new_bytes(offset, bytes)?.len() as u64;
        if length == 0 {
            return Ok(());
        }
        let file = self.path.open_to_append()?;
        file.set_len(self.file_length + length)?;
        match &mut self.pending_gap {
            Some(gap) if gap.offset + gap.length == self.file_length => gap.length += length,
            gap => *gap = Some(OutputGap { offset: self.file_length, length }),
        }
        self.file_length += length;
        self.has_unsynced_bytes = true;
        self.write_gap_note();
        Ok(())
    }

    /// Returns `text`, changed if necessary so that it forms no marker when it is written at `offset`.
    fn text_without_marker<'a>(&self, offset: u64, text: &'a [u8]) -> io::Result<Cow<'a, [u8]>> {
        let ends_after_marker = offset + text.len() as u64 >= HEAD_BYTES + MARKER_LENGTH as u64;
        if self.omitted_bytes > 0 || offset >= HEAD_BYTES + MARKER_LENGTH as u64 || !ends_after_marker {
            return Ok(text.into());
        }
        break_marker(&self.path.open()?, offset, text)
    }

    /// Returns the part of `bytes` that was not received before.
    fn new_bytes<'a>(&self, offset: u64, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let received = self
            .offset()
            .checked_sub(offset)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "output in between is missing"))?;
        Ok(usize::try_from(received).ok().and_then(|received| bytes.get(received..)).unwrap_or_default())
    }

    /// Writes the note about a gap into the log. Returns true if the note was written, or if there is no gap.
    fn write_gap_note(&self) -> bool {
        let Some(OutputGap { offset, length }) = self.pending_gap else { return true };
        let mut text = format!("\n[… {length} bytes left out: the relay's disk was full …]\n").into_bytes();
        // A short gap gets only the part of the text that fits.
        text.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        let result = self
            .text_without_marker(offset, &text)
            .and_then(|text| self.path.open_to_write()?.write_all_at(&text, offset));
        result.is_ok()
    }

    /// Rewrites the log with its head and its newest [`MIN_TAIL_BYTES`] bytes.
    fn compact(&mut self) -> io::Result<()> {
        let file = self.path.open()?;
        let received = self.offset();
        let omitted_bytes = received - HEAD_BYTES - MIN_TAIL_BYTES;
        let mut content = vec![0; usize::try_from(HEAD_BYTES).unwrap_or(0)];
        file.read_exact_at(&mut content, 0)?;
        content.extend_from_slice(omission_marker(omitted_bytes).as_bytes());
        let mut tail = vec![0; usize::try_from(MIN_TAIL_BYTES).unwrap_or(0)];
        file.read_exact_at(&mut tail, self.file_length - MIN_TAIL_BYTES)?;
        content.extend_from_slice(&tail);
        self.path.replace(&content, Durability::Cached)?;
        *self = Self { has_unsynced_bytes: true, ..Self::open(&self.path)? };
        Ok(())
    }
}

/// Reader of a log that returns the output added since the last call.
#[derive(Default)]
pub struct LogReader {
    offset: u64,
}

impl LogReader {
    /// Starts with the last `lines` lines of the log.
    ///
    /// # Errors
    /// Returns an error if the file can't be read. An absent file is empty.
    pub fn from_last_lines(path: &FileRef, lines: usize) -> io::Result<(Self, Vec<u8>)> {
        let len = path.size().unwrap_or(0);
        // If the file is longer than its writer allows, only its end is read.
        let mut reader = Self { offset: len.saturating_sub(MAX_SIZE) };
        let mut text = Vec::new();
        while let Some(chunk) = reader.read(path)? {
            text.extend_from_slice(&chunk);
        }
        let lines_text = text.strip_suffix(b"\n").unwrap_or(&text);
        let line_breaks = lines_text.iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
        let start = match lines {
            0 => text.len(),
            lines => line_breaks.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0),
        };
        Ok((reader, text.split_off(start)))
    }

    /// Returns the next bytes (at most 1 MiB), or `None` if there are none.
    ///
    /// # Errors
    /// Returns an error if the file can't be read. An absent file is empty.
    pub fn read(&mut self, path: &FileRef) -> io::Result<Option<Vec<u8>>> {
        let mut file = match path.open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let len = file.metadata()?.len();
        let omitted_bytes = read_omitted_bytes(&file, len)?;
        let index = match (omitted_bytes, self.offset) {
            (0, offset) => offset,
            (_, offset) if offset <= HEAD_BYTES => offset,
            // The output that a slow reader missed is gone, so the reader continues at the marker.
            (omitted_bytes, offset) if offset < HEAD_BYTES + omitted_bytes => HEAD_BYTES,
            (omitted_bytes, offset) => offset - omitted_bytes + MARKER_LENGTH as u64,
        };
        if index >= len {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(index))?;
        let mut chunk = Vec::new();
        file.take(1024 * 1024).read_to_end(&mut chunk)?;
        let end = index + chunk.len() as u64;
        self.offset = match omitted_bytes {
            0 => end,
            _ if end <= HEAD_BYTES => end,
            // The marker is read completely or not at all.
            _ if end < HEAD_BYTES + MARKER_LENGTH as u64 => {
                chunk.truncate(usize::try_from(HEAD_BYTES - index).unwrap_or(0));
                HEAD_BYTES
            }
            omitted_bytes => end - MARKER_LENGTH as u64 + omitted_bytes,
        };
        Ok(Some(chunk))
    }
}

#[cfg(test)]
#[path = "log_file_tests.rs"]
mod tests;
