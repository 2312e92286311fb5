//! The log of one run: a file whose offsets are those of the wire.
//!
//! Acknowledged parts are punched out, so the file never takes more room than [`CAP`] however long the log gets.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use super::room;

/// Most bytes that wait for the relay. A relay that is away for a minute loses nothing of a worker's usual output,
/// and 50 jobs can't fill a disk.
const CAP: u64 = 8 * 1024 * 1024;
/// Room that must be free again before output is taken after some was dropped: otherwise every other line would be a
/// note about the one between.
const ROOM: u64 = 256 * 1024;
/// Between two punches, and their grain: a whole number of blocks on every file system.
const PUNCH: u64 = 1024 * 1024;
/// Room behind the end that only the note about what was dropped may use.
const NOTE: u64 = 256;
/// Room is taken in such steps, one call each.
const STEP: u64 = 256 * 1024;

/// The file.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    end: u64,
    acked: u64,
    punched: u64,
    /// Bytes that the log lacks at its end.
    dropped: u64,
    /// Whether the disk was full for some of them.
    full: bool,
    /// Up to here the disk has room for it.
    room: u64,
}

impl Output {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let end = file.metadata()?.len();
        let mut output = Self { file, end, acked: 0, punched: 0, dropped: 0, full: false, room: end };
        // Without room for a note a run would not begin; one that is found again has its end to tell in any case.
        match output.make_room(0) {
            Err(error) if end == 0 => Err(error),
            _ => Ok(output),
        }
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether the relay has all of it.
    pub(super) fn all_acked(&self) -> bool {
        self.acked >= self.end
    }

    /// Appends, or drops and counts: the newest output is what is dropped while the relay is out of reach.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let free = CAP.saturating_sub(self.end - self.acked);
        let needed = bytes.len() as u64 + if self.dropped > 0 { ROOM } else { 0 };
        if free < needed {
            self.dropped += bytes.len() as u64;
        } else if self.make_room(bytes.len() as u64 + NOTE).is_err() || !self.note() || !self.write(bytes) {
            self.dropped += bytes.len() as u64;
            self.full = true;
        }
    }

    /// Makes sure that so many bytes and a note behind them find room.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let needed = self.end + bytes + NOTE;
        if needed > self.room {
            room::reserve(&self.file, self.room, needed + STEP)?;
            self.room = needed + STEP;
        }
        Ok(())
    }

    /// The log is complete: says what is missing at its end, and gives the room behind it back.
    pub(super) fn close(&mut self) {
        self.note();
        // Where that fails, the room is freed with the file.
        let _ = self.file.set_len(self.end);
        self.room = self.end;
    }

    /// Writes one line about what was dropped, if anything was. Gives whether the log is whole up to here.
    fn note(&mut self) -> bool {
        if self.dropped == 0 {
            return true;
        }
        let reason = if self.full { "the agent's disk was full" } else { "the relay was out of reach" };
        let line = format!("\n[… {} bytes of output dropped: {reason} …]\n", self.dropped);
        let written = self.write(line.as_bytes());
        if written {
            self.dropped = 0;
            self.full = false;
        }
        written
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        // A failed write leaves bytes behind the end, which the next one overwrites.
        let written = self.file.write_all_at(bytes, self.end).is_ok();
        if written {
            self.end += bytes.len() as u64;
        }
        written
    }

    /// At most `most` bytes from `offset` on.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn read(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX).min(most);
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// The relay has everything up to `offset`.
    pub(super) fn ack(&mut self, offset: u64) {
        self.acked = self.acked.max(offset.min(self.end));
        let whole = self.acked / PUNCH * PUNCH;
        if whole > self.punched {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Where the file system can't, the room is freed with the folder.
            let _ = fallocate(&self.file, flags, self.punched, whole - self.punched);
            self.punched = whole;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_without_a_relay_is_bounded_and_says_how_much_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::open(&dir.path().join("output")).unwrap();
        let chunk = vec![b'x'; 1024 * 1024];
        for _ in 0..10 {
            output.append(&chunk);
        }
        assert_eq!(output.end(), CAP);
        output.ack(1024 * 1024);
        output.append(b"again\n");
        let seen = output.read(CAP, 9999).unwrap();
        assert_eq!(
            String::from_utf8(seen).unwrap(),
            "\n[… 2097152 bytes of output dropped: the relay was out of reach …]\nagain\n"
        );
    }

    #[test]
    fn a_drop_at_the_very_end_is_noted_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::open(&dir.path().join("output")).unwrap();
        let length = usize::try_from(CAP).unwrap();
        output.append(&vec![b'x'; length]);
        output.append(b"lost");
        output.close();
        let seen = String::from_utf8(output.read(CAP, 9999).unwrap()).unwrap();
        assert!(seen.contains("4 bytes"), "{seen}");
    }

    #[test]
    fn offsets_stay_those_of_the_wire_when_the_front_is_gone_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        let mut output = Output::open(&path).unwrap();
        output.append(&vec![b'x'; 3 * 1024 * 1024]);
        output.append(b"tail");
        output.ack(3 * 1024 * 1024);
        assert!(!output.all_acked());
        let output = Output::open(&path).unwrap();
        assert_eq!(output.read(3 * 1024 * 1024, 99).unwrap(), b"tail");
    }
}
