//! Log of one run: a file that uses the same offsets as the wire.
//!
//! Acknowledged parts are punched out, so the file never takes more space than [`MAX_UNACKED`], however long the log
//! gets.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use super::preallocate;

/// Maximum number of bytes that wait for the relay: enough for the output that a worker usually writes in a minute, and
/// too little for 50 jobs to fill a disk.
const MAX_UNACKED: u64 = 8 * 1024 * 1024;
/// Space that must be free before output is accepted again after a drop, in bytes. With less, every other line could be
/// a note about dropped output.
const MIN_FREE: u64 = 256 * 1024;
/// Number of bytes punched at once: a whole number of blocks on every file system.
const PUNCH_SIZE: u64 = 1024 * 1024;
/// Number of bytes reserved after the log's end for the note about dropped output.
const NOTE_RESERVE: u64 = 256;
/// Number of bytes kept of the end of dropped output: a few screens, and less than [`MIN_FREE`].
const MAX_TAIL: usize = 64 * 1024;
/// Time after an acknowledgement during which the relay counts as connected: as long as a connection may be silent.
const CONNECTED_PERIOD: Duration = common::wire::DEAD_AFTER;
/// Disk space reserved by one call, in bytes.
const RESERVE_STEP: u64 = 256 * 1024;

/// The log file.
#[derive(Debug)]
pub(super) struct OutputLog {
    path: PathBuf,
    file: File,
    end_offset: u64,
    /// End of the content in the file. The relay can hold a longer log.
    written_end: u64,
    acked_offset: u64,
    punched_offset: u64,
    /// Number of bytes dropped at the end of the log, without `dropped_tail`.
    dropped_bytes: u64,
    /// Last dropped bytes, which mostly show the cause of a failure.
    dropped_tail: VecDeque<u8>,
    /// True if the disk was full for some of the dropped bytes.
    was_disk_full: bool,
    /// Monotonic time at which the relay last acknowledged some of the log.
    last_ack: Option<Duration>,
    /// True if the relay was connected when the first byte was dropped.
    was_connected_at_drop: bool,
    /// Offset up to which disk space is reserved.
    reserved_offset: u64,
}

impl OutputLog {
    /// Opens or creates the file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let end = file.metadata()?.len();
        let path = path.to_owned();
        let mut output = Self {
            path,
            file,
            end_offset: end,
            written_end: end,
            acked_offset: 0,
            punched_offset: 0,
            dropped_bytes: 0,
            dropped_tail: VecDeque::new(),
            was_disk_full: false,
            last_ack: None,
            was_connected_at_drop: false,
            reserved_offset: end,
        };
        // A new run does not start if there is no space for the note about dropped output. A recovered run is opened
        // anyway, to report its end.
        match output.reserve_space(0) {
            Err(error) if end == 0 => Err(error),
            _ => Ok(output),
        }
    }

    /// Returns the offset of the log's end.
    pub(super) fn end_offset(&self) -> u64 {
        self.end_offset
    }

    /// Returns true if the relay has all of the log.
    pub(super) fn is_all_acked(&self) -> bool {
        self.acked_offset >= self.end_offset
    }

    /// Appends output, or drops it and counts the bytes. Keeps the end of dropped output, to write it with the note.
    /// `now` is monotonic time.
    pub(super) fn append(&mut self, bytes: &[u8], now: Duration) {
        let free = MAX_UNACKED.saturating_sub(self.end_offset - self.acked_offset);
        let needed = bytes.len() as u64 + if self.is_dropping() { MIN_FREE } else { 0 };
        if free < needed {
            self.drop_newest(bytes, now);
        } else if self.reserve_space(bytes.len() as u64 + NOTE_RESERVE).is_err()
            || !self.write_dropped_note()
            || !self.write(bytes)
        {
            self.drop_newest(bytes, now);
            self.was_disk_full = true;
        }
    }

    fn is_dropping(&self) -> bool {
        self.dropped_bytes > 0 || !self.dropped_tail.is_empty()
    }

    fn drop_newest(&mut self, bytes: &[u8], now: Duration) {
        if !self.is_dropping() {
            self.was_connected_at_drop =
                self.last_ack.is_some_and(|acked_at| now.saturating_sub(acked_at) < CONNECTED_PERIOD);
        }
        let (dropped, kept) = bytes.split_at(bytes.len().saturating_sub(MAX_TAIL));
        let excess = (self.dropped_tail.len() + kept.len()).saturating_sub(MAX_TAIL);
        self.dropped_tail.drain(..excess);
        self.dropped_tail.extend(kept);
        self.dropped_bytes += (dropped.len() + excess) as u64;
    }

    /// Reserves disk space for `bytes` and a note after them.
    fn reserve_space(&mut self, bytes: u64) -> io::Result<()> {
        let needed = self.end_offset + bytes + NOTE_RESERVE;
        if needed > self.reserved_offset {
            preallocate::reserve_if_supported(&self.file, self.reserved_offset, needed + RESERVE_STEP)?;
            self.reserved_offset = needed + RESERVE_STEP;
        }
        Ok(())
    }

    /// Closes the log: adds the note about output missing at its end, and frees the space after it.
    pub(super) fn close(&mut self) {
        self.write_dropped_note();
        // If this fails, the space is freed with the file.
        let _ = self.file.set_len(self.written_end);
        self.reserved_offset = self.written_end;
    }

    /// Writes a note about dropped output, if there is any, and the end of that output. Returns true if nothing is left
    /// to write.
    fn write_dropped_note(&mut self) -> bool {
        if !self.is_dropping() {
            return true;
        }
        let reason = match (self.was_disk_full, self.was_connected_at_drop) {
            (true, _) => "the agent's disk was full",
            (false, true) => "it came faster than the relay took it",
            (false, false) => "the relay was out of reach",
        };
        let reason = format!("dropped: {reason}");
        let mut text = if self.dropped_bytes > 0 {
            dropped_note(self.dropped_bytes, &reason).into_bytes()
        } else {
            Vec::new()
        };
        text.extend(&self.dropped_tail);
        // The note has reserved space; the end of the dropped output may have none.
        let total_bytes = self.dropped_bytes + self.dropped_tail.len() as u64;
        let is_written = self.reserve_space(text.len() as u64).is_ok() && self.write(&text)
            || self.write(dropped_note(total_bytes, &reason).as_bytes());
        if is_written {
            self.dropped_bytes = 0;
            self.dropped_tail = VecDeque::new();
            self.was_disk_full = false;
        }
        is_written
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        // A failed write may leave bytes after the end, which the next write overwrites.
        let is_written = self.file.write_all_at(bytes, self.end_offset).is_ok();
        if is_written {
            if self.end_offset > self.written_end {
                // The bytes before this offset are not in this file.
                self.punched_offset = self.end_offset;
            }
            self.end_offset += bytes.len() as u64;
            self.written_end = self.end_offset;
        }
        is_written
    }

    /// Continues the log at `offset`, where the relay's copy of it ends.
    ///
    /// The relay can hold more than the file: a power failure loses data that was not synced. It can also lack bytes
    /// that were punched out here; then a note replaces these bytes.
    pub(super) fn continue_after(&mut self, offset: u64) -> io::Result<()> {
        let first_kept = self.first_unpunched_offset()?;
        if offset < first_kept {
            self.rewrite(offset, first_kept)?;
        }
        self.end_offset = self.written_end.max(offset);
        self.acked_offset = offset;
        Ok(())
    }

    /// Returns the offset of the first byte that was not punched out.
    fn first_unpunched_offset(&self) -> io::Result<u64> {
        if self.punched_offset > 0 || self.end_offset == 0 {
            return Ok(self.punched_offset);
        }
        // An earlier process may have punched holes. Without support for holes, all bytes are there.
        match seek(&self.file, SeekFrom::Data(0)) {
            Ok(begin) => Ok(begin.min(self.end_offset) / PUNCH_SIZE * PUNCH_SIZE),
            Err(Errno::NXIO) => Ok(self.end_offset / PUNCH_SIZE * PUNCH_SIZE),
            Err(error) => Err(error.into()),
        }
    }

    /// Rewrites the file, with a note at `offset` for the bytes lost before `first_kept`, followed by the rest.
    fn rewrite(&mut self, offset: u64, first_kept: u64) -> io::Result<()> {
        let rest = self.read(first_kept, usize::MAX)?;
        let new_path = self.path.with_extension("anew");
        let _ = fs::remove_file(&new_path);
        let mut output = Self::open(&new_path)?;
        output.end_offset = offset;
        let reason = "lost: the relay no longer has them, and the agent has deleted its copy";
        let note = dropped_note(first_kept - offset, reason);
        if !output.write(note.as_bytes()) || !output.write(&rest) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        output.file.sync_all()?;
        fs::rename(&new_path, &self.path)?;
        (output.dropped_bytes, output.was_disk_full, output.acked_offset) =
            (self.dropped_bytes, self.was_disk_full, offset);
        output.dropped_tail = std::mem::take(&mut self.dropped_tail);
        output.path.clone_from(&self.path);
        *self = output;
        Ok(())
    }

    /// Repairs a file that can't be read, or is too short. The relay may have the log up to `sent_offset`. Returns the
    /// number of lost bytes, which the log reports too.
    pub(super) fn repair(&mut self, sent_offset: u64) -> u64 {
        let length = self.file.metadata().map_or(0, |meta| meta.len());
        let is_readable = self.read(sent_offset, usize::MAX).is_ok();
        if is_readable {
            return 0;
        }
        let valid_end = if length < self.end_offset { length.max(sent_offset) } else { sent_offset };
        let lost = self.end_offset - valid_end.min(self.end_offset);
        self.end_offset = valid_end;
        self.written_end = valid_end.min(length);
        self.reserved_offset = 0;
        self.write(dropped_note(lost, "lost: the agent's spool was damaged").as_bytes());
        lost
    }

    /// Reads at most `max_bytes` bytes from `offset` on.
    pub(super) fn read(&self, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
        let len =
            usize::try_from(self.end_offset.saturating_sub(offset)).unwrap_or(usize::MAX).min(max_bytes);
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Acknowledges everything up to `offset`; `now` is monotonic time.
    pub(super) fn ack(&mut self, offset: u64, now: Duration) {
        self.acked_offset = self.acked_offset.max(offset.min(self.end_offset));
        self.last_ack = Some(now);
        let punchable_end = self.acked_offset / PUNCH_SIZE * PUNCH_SIZE;
        if punchable_end > self.punched_offset {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Without support for holes, the space is freed with the folder.
            let _ = fallocate(&self.file, flags, self.punched_offset, punchable_end - self.punched_offset);
            self.punched_offset = punchable_end;
        }
    }
}

fn dropped_note(bytes: u64, reason: &str) -> String {
    format!("\n[… {bytes} bytes of output {reason} …]\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(900);

    #[test]
    fn output_without_a_relay_is_bounded_and_a_note_counts_the_dropped_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = OutputLog::open(&dir.path().join("output")).unwrap();
        let chunk = vec![b'x'; 1024 * 1024];
        for _ in 0..10 {
            output.append(&chunk, NOW);
        }
        assert_eq!(output.end_offset(), MAX_UNACKED);
        output.ack(1024 * 1024, NOW);
        output.append(b"again\n", NOW);
        let text = output.read(MAX_UNACKED, 99_999).unwrap();
        let note = "\n[… 2031616 bytes of output dropped: the relay was out of reach …]\n";
        assert_eq!(String::from_utf8(text).unwrap(), format!("{note}{}again\n", "x".repeat(MAX_TAIL)));
    }

    #[test]
    fn short_output_that_was_dropped_last_is_written_at_the_close() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = OutputLog::open(&dir.path().join("output")).unwrap();
        let length = usize::try_from(MAX_UNACKED).unwrap();
        output.append(&vec![b'x'; length], NOW);
        output.append(b"lost", NOW);
        output.close();
        let text = String::from_utf8(output.read(MAX_UNACKED, 9999).unwrap()).unwrap();
        assert_eq!(text, "lost", "what is short enough is not dropped at all");
    }

    #[test]
    fn output_that_a_slow_relay_drops_gets_a_note_and_keeps_its_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = OutputLog::open(&dir.path().join("output")).unwrap();
        output.append(b"begin\n", NOW);
        output.ack(6, NOW);
        let length = usize::try_from(MAX_UNACKED).unwrap();
        for _ in 0..7 {
            output.append(&vec![b'x'; length], NOW);
        }
        output.append(b"error: the cause\n", NOW);
        output.close();
        let end = output.end_offset();
        let text = String::from_utf8(output.read(end - MAX_TAIL as u64 - 100, 9_999_999).unwrap()).unwrap();
        let note = format!(
            "[… {} bytes of output dropped: it came faster than the relay took it …]",
            6 * length + 17 - MAX_TAIL
        );
        assert!(text.ends_with("xerror: the cause\n") && text.contains(&note), "{}", &text[..200]);
    }

    #[test]
    fn output_that_only_the_relay_had_is_never_sent_as_zeroes() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = OutputLog::open(&dir.path().join("output")).unwrap();
        output.append(b"kept", NOW);
        // The machine has lost ten bytes that the relay has, and then the relay loses six of these ten.
        output.continue_after(14).unwrap();
        assert_eq!(output.end_offset(), 14);
        output.continue_after(8).unwrap();
        assert_eq!((output.end_offset(), output.is_all_acked()), (8, true));
        output.continue_after(14).unwrap();
        output.append(b"new", NOW);
        output.close();
        assert_eq!((output.end_offset(), output.read(14, 99).unwrap()), (17, b"new".to_vec()));
        output.continue_after(8).unwrap();
        let text = String::from_utf8(output.read(8, 999).unwrap()).unwrap();
        let reason = "the relay no longer has them, and the agent has deleted its copy";
        assert_eq!(text, format!("\n[… 6 bytes of output lost: {reason} …]\nnew"));
    }

    #[test]
    fn offsets_stay_those_of_the_wire_after_acknowledgements_and_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        let mut output = OutputLog::open(&path).unwrap();
        output.append(&vec![b'x'; 3 * 1024 * 1024], NOW);
        output.append(b"tail", NOW);
        output.ack(3 * 1024 * 1024, NOW);
        assert!(!output.is_all_acked());
        let output = OutputLog::open(&path).unwrap();
        assert_eq!(output.read(3 * 1024 * 1024, 99).unwrap(), b"tail");
    }
}
