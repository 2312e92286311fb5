//! Log of one run: a file with the same offsets as on the wire.
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

/// Maximum number of bytes that wait for the relay. During a minute without the relay nothing of a worker's usual
/// output is lost, and 50 jobs can't fill a disk.
const MAX_UNACKED: u64 = 8 * 1024 * 1024;
/// Space that must be free before output is accepted again after some was dropped, in bytes: otherwise every other
/// line would be a note about the one between.
const MIN_FREE: u64 = 256 * 1024;
/// Bytes between two punches, and their granularity: a whole number of blocks on every file system.
const PUNCH_SIZE: u64 = 1024 * 1024;
/// Bytes after the end that are reserved for the note about dropped output.
const NOTE_RESERVE: u64 = 256;
/// Bytes kept of the end of dropped output: some screens of it, and a fraction of the space that has to be free
/// before output is accepted again.
const MAX_TAIL: usize = 64 * 1024;
/// Time after an acknowledgement during which the relay counts as connected: as long as a connection may be silent.
const CONNECTED_FOR: Duration = common::wire::DEAD_AFTER;
/// Step in which disk space is reserved, one call each, in bytes.
const RESERVE_STEP: u64 = 256 * 1024;

/// The log file.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    file: File,
    end: u64,
    /// End of the content of the file. The relay can hold more than that.
    written: u64,
    acked: u64,
    punched: u64,
    /// Number of bytes missing at the end of the log, without the `tail` of them.
    dropped: u64,
    /// The last of the dropped bytes, which mostly show the cause of a failure.
    tail: VecDeque<u8>,
    /// True if the disk was full for some of the dropped bytes.
    full: bool,
    /// Monotonic time at which the relay last acknowledged some of the log.
    last_ack: Option<Duration>,
    /// True if the relay was connected when the first of the dropped bytes came.
    connected: bool,
    /// Offset up to which disk space is reserved.
    reserved: u64,
}

impl Output {
    /// Opens or creates the file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let end = file.metadata()?.len();
        let path = path.to_owned();
        let mut output = Self {
            path,
            file,
            end,
            written: end,
            acked: 0,
            punched: 0,
            dropped: 0,
            tail: VecDeque::new(),
            full: false,
            last_ack: None,
            connected: false,
            reserved: end,
        };
        // Without space for a note a run would not begin; a recovered run has its end to report in any case.
        match output.reserve_space(0) {
            Err(error) if end == 0 => Err(error),
            _ => Ok(output),
        }
    }

    /// Returns the offset of the log's end.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Returns true if the relay has all of the log.
    pub(super) fn all_acked(&self) -> bool {
        self.acked >= self.end
    }

    /// Appends output, or drops and counts it: the newest output is dropped, but for its end, which follows with the
    /// note. `now` is a reading of the monotonic clock.
    pub(super) fn append(&mut self, bytes: &[u8], now: Duration) {
        let free = MAX_UNACKED.saturating_sub(self.end - self.acked);
        let needed = bytes.len() as u64 + if self.is_dropping() { MIN_FREE } else { 0 };
        if free < needed {
            self.drop_newest(bytes, now);
        } else if self.reserve_space(bytes.len() as u64 + NOTE_RESERVE).is_err()
            || !self.write_note()
            || !self.write(bytes)
        {
            self.drop_newest(bytes, now);
            self.full = true;
        }
    }

    fn is_dropping(&self) -> bool {
        self.dropped > 0 || !self.tail.is_empty()
    }

    fn drop_newest(&mut self, bytes: &[u8], now: Duration) {
        if !self.is_dropping() {
            self.connected = self.last_ack.is_some_and(|heard| now.saturating_sub(heard) < CONNECTED_FOR);
        }
        let (gone, kept) = bytes.split_at(bytes.len().saturating_sub(MAX_TAIL));
        let over = (self.tail.len() + kept.len()).saturating_sub(MAX_TAIL);
        self.tail.drain(..over);
        self.tail.extend(kept);
        self.dropped += (gone.len() + over) as u64;
    }

    /// Reserves disk space for that many bytes and a note after them.
    fn reserve_space(&mut self, bytes: u64) -> io::Result<()> {
        let needed = self.end + bytes + NOTE_RESERVE;
        if needed > self.reserved {
            preallocate::reserve_exact(&self.file, self.reserved, needed + RESERVE_STEP)?;
            self.reserved = needed + RESERVE_STEP;
        }
        Ok(())
    }

    /// Closes the log: adds the note about output missing at its end, and frees the space after it.
    pub(super) fn close(&mut self) {
        self.write_note();
        // If this fails, the space is freed with the file.
        let _ = self.file.set_len(self.written);
        self.reserved = self.written;
    }

    /// Writes one line about dropped output, if there is any, and the end of that output. Returns true if the log is
    /// complete up to here.
    fn write_note(&mut self) -> bool {
        if !self.is_dropping() {
            return true;
        }
        let reason = match (self.full, self.connected) {
            (true, _) => "the agent's disk was full",
            (false, true) => "it came faster than the relay took it",
            (false, false) => "the relay was out of reach",
        };
        let reason = format!("dropped: {reason}");
        let mut text =
            if self.dropped > 0 { note_line(self.dropped, &reason).into_bytes() } else { Vec::new() };
        text.extend(&self.tail);
        // If there is no space for the end of the output, there is some for the note.
        let all = self.dropped + self.tail.len() as u64;
        let written = self.reserve_space(text.len() as u64).is_ok() && self.write(&text)
            || self.write(note_line(all, &reason).as_bytes());
        if written {
            self.dropped = 0;
            self.tail = VecDeque::new();
            self.full = false;
        }
        written
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        // A failed write leaves bytes after the end, which the next one overwrites.
        let written = self.file.write_all_at(bytes, self.end).is_ok();
        if written {
            if self.end > self.written {
                // The bytes between them are nowhere in this file.
                self.punched = self.end;
            }
            self.end += bytes.len() as u64;
            self.written = self.end;
        }
        written
    }

    /// Continues the log at `offset`: the relay holds the log up to there, whatever it has acknowledged before.
    ///
    /// The relay can hold more than the file, because a machine that lost power lost what was not on its disk. It can
    /// also hold less than was punched out here; then a note replaces what is gone.
    pub(super) fn continue_after(&mut self, offset: u64) -> io::Result<()> {
        let gone = self.first_unpunched()?;
        if offset < gone {
            self.rewrite(offset, gone)?;
        }
        self.end = self.written.max(offset);
        self.acked = offset;
        Ok(())
    }

    /// Returns the offset of the first byte that was not punched out.
    fn first_unpunched(&self) -> io::Result<u64> {
        if self.punched > 0 || self.end == 0 {
            return Ok(self.punched);
        }
        // An earlier process may have punched. If the file system does not support holes, all of it is there.
        match seek(&self.file, SeekFrom::Data(0)) {
            Ok(begin) => Ok(begin.min(self.end) / PUNCH_SIZE * PUNCH_SIZE),
            Err(Errno::NXIO) => Ok(self.end / PUNCH_SIZE * PUNCH_SIZE),
            Err(error) => Err(error.into()),
        }
    }

    /// Rewrites the file, with a note at `offset` for the bytes lost before `begin`, followed by the rest.
    fn rewrite(&mut self, offset: u64, begin: u64) -> io::Result<()> {
        let rest = self.read(begin, usize::MAX)?;
        let new = self.path.with_extension("anew");
        let _ = fs::remove_file(&new);
        let mut output = Self::open(&new)?;
        output.end = offset;
        let note = note_line(begin - offset, "lost: the relay has forgotten them");
        if !output.write(note.as_bytes()) || !output.write(&rest) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        output.file.sync_all()?;
        fs::rename(&new, &self.path)?;
        (output.dropped, output.full, output.acked) = (self.dropped, self.full, offset);
        output.tail = std::mem::take(&mut self.tail);
        output.path.clone_from(&self.path);
        *self = output;
        Ok(())
    }

    /// Continues with a file that can't be read, or is shorter than it should be. The relay may hold it up to `sent`.
    /// Returns the number of lost bytes, which the log reports too.
    pub(super) fn repair(&mut self, sent: u64) -> u64 {
        let length = self.file.metadata().map_or(0, |meta| meta.len());
        let readable = self.read(sent, usize::MAX).is_ok();
        if readable {
            return 0;
        }
        let good = if length < self.end { length.max(sent) } else { sent };
        let lost = self.end - good.min(self.end);
        self.end = good;
        self.written = good.min(length);
        self.reserved = 0;
        self.write(note_line(lost, "lost: the agent's spool was damaged").as_bytes());
        lost
    }

    /// Reads at most `most` bytes from `offset` on.
    pub(super) fn read(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX).min(most);
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Acknowledges everything up to `offset`; `now` is a reading of the monotonic clock.
    pub(super) fn ack(&mut self, offset: u64, now: Duration) {
        self.acked = self.acked.max(offset.min(self.end));
        self.last_ack = Some(now);
        let whole = self.acked / PUNCH_SIZE * PUNCH_SIZE;
        if whole > self.punched {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // If the file system can't punch, the space is freed with the folder.
            let _ = fallocate(&self.file, flags, self.punched, whole - self.punched);
            self.punched = whole;
        }
    }
}

fn note_line(bytes: u64, reason: &str) -> String {
    format!("\n[… {bytes} bytes of output {reason} …]\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(900);

    #[test]
    fn a_flood_without_a_relay_is_bounded_and_says_how_much_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::open(&dir.path().join("output")).unwrap();
        let chunk = vec![b'x'; 1024 * 1024];
        for _ in 0..10 {
            output.append(&chunk, NOW);
        }
        assert_eq!(output.end(), MAX_UNACKED);
        output.ack(1024 * 1024, NOW);
        output.append(b"again\n", NOW);
        let seen = output.read(MAX_UNACKED, 99_999).unwrap();
        let note = "\n[… 2031616 bytes of output dropped: the relay was out of reach …]\n";
        assert_eq!(String::from_utf8(seen).unwrap(), format!("{note}{}again\n", "x".repeat(MAX_TAIL)));
    }

    #[test]
    fn a_drop_at_the_very_end_is_noted_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::open(&dir.path().join("output")).unwrap();
        let length = usize::try_from(MAX_UNACKED).unwrap();
        output.append(&vec![b'x'; length], NOW);
        output.append(b"lost", NOW);
        output.close();
        let seen = String::from_utf8(output.read(MAX_UNACKED, 9999).unwrap()).unwrap();
        assert_eq!(seen, "lost", "what is short enough is not dropped at all");
    }

    #[test]
    fn a_flood_that_a_relay_is_too_slow_for_is_called_that_and_keeps_its_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::open(&dir.path().join("output")).unwrap();
        output.append(b"begin\n", NOW);
        output.ack(6, NOW);
        let length = usize::try_from(MAX_UNACKED).unwrap();
        for _ in 0..7 {
            output.append(&vec![b'x'; length], NOW);
        }
        output.append(b"error: the cause\n", NOW);
        output.close();
        let end = output.end();
        let seen = String::from_utf8(output.read(end - MAX_TAIL as u64 - 100, 9_999_999).unwrap()).unwrap();
        let note = format!(
            "[… {} bytes of output dropped: it came faster than the relay took it …]",
            6 * length + 17 - MAX_TAIL
        );
        assert!(seen.ends_with("xerror: the cause\n") && seen.contains(&note), "{}", &seen[..200]);
    }

    #[test]
    fn output_that_only_the_relay_held_is_never_told_as_zeroes() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::open(&dir.path().join("output")).unwrap();
        output.append(b"kept", NOW);
        // The machine lost ten bytes that the relay holds, and then the relay loses six of them.
        output.continue_after(14).unwrap();
        assert_eq!(output.end(), 14);
        output.continue_after(8).unwrap();
        assert_eq!((output.end(), output.all_acked()), (8, true));
        output.continue_after(14).unwrap();
        output.append(b"new", NOW);
        output.close();
        assert_eq!((output.end(), output.read(14, 99).unwrap()), (17, b"new".to_vec()));
        output.continue_after(8).unwrap();
        let seen = String::from_utf8(output.read(8, 999).unwrap()).unwrap();
        assert_eq!(seen, "\n[… 6 bytes of output lost: the relay has forgotten them …]\nnew");
    }

    #[test]
    fn offsets_stay_those_of_the_wire_when_the_front_is_gone_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        let mut output = Output::open(&path).unwrap();
        output.append(&vec![b'x'; 3 * 1024 * 1024], NOW);
        output.append(b"tail", NOW);
        output.ack(3 * 1024 * 1024, NOW);
        assert!(!output.all_acked());
        let output = Output::open(&path).unwrap();
        assert_eq!(output.read(3 * 1024 * 1024, 99).unwrap(), b"tail");
    }
}
