//! The events of one run: an append-only file and an index of where each begins.
//!
//! Of the events only their offsets stay in memory (8 bytes each). When the disk is full, events wait in memory and
//! are written with the next one: none is ever dropped for that.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use common::event::Event;
use common::wire::{self, MAX_MESSAGE};

/// Length and checksum in front of each event.
const HEAD: usize = 8;
/// Most events that wait for a full disk: at the usual 300 bytes these are 1.2 MiB.
const MAX_WAITING: usize = 4096;

/// The file and its index.
#[derive(Debug)]
pub(super) struct EventLog {
    file: File,
    /// Where each record begins, and behind the last one the end: always one longer than there are records.
    offsets: Vec<u64>,
    /// Records that could not be written yet.
    waiting: VecDeque<Vec<u8>>,
    /// What is added to a place in the file to get its sequence; see [`EventLog::renumber_last`].
    shift: u64,
}

impl EventLog {
    /// Makes the file; there must be none.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        Ok(Self { file, offsets: vec![0], waiting: VecDeque::new(), shift: 0 })
    }

    /// Opens the file and cuts off whatever stands behind its last whole record. Gives the last event too.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<Event>)> {
        let file = File::options().read(true).write(true).open(path)?;
        let mut offsets = vec![0];
        let mut last = None;
        let mut reader = BufReader::new(&file);
        while let Some((event, size)) = read_record(&mut reader)? {
            offsets.push(end(&offsets) + size);
            last = Some(event);
        }
        file.set_len(end(&offsets))?;
        Ok((Self { file, offsets, waiting: VecDeque::new(), shift: 0 }, last))
    }

    /// Sequence of the newest event; 0 for none.
    pub(super) fn last_seq(&self) -> u64 {
        self.shift + (self.offsets.len() - 1 + self.waiting.len()) as u64
    }

    /// Appends an event; gives whether it is in the file by now.
    ///
    /// # Errors
    /// It has no bytes, or too many events wait for the disk already.
    pub(super) fn append(&mut self, event: &Event) -> io::Result<bool> {
        let payload = wire::encode(event).map_err(io::Error::other)?;
        if self.waiting.len() >= MAX_WAITING {
            return Err(io::Error::other("the spool's disk is full"));
        }
        let mut record = Vec::with_capacity(HEAD + payload.len());
        record.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        record.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
        record.extend_from_slice(&payload);
        self.waiting.push_back(record);
        Ok(self.write_waiting())
    }

    /// Writing at the index's end makes a retry overwrite whatever a failed write left.
    fn write_waiting(&mut self) -> bool {
        while let Some(record) = self.waiting.front() {
            let at = end(&self.offsets);
            if self.file.write_all_at(record, at).is_err() {
                return false;
            }
            self.offsets.push(at + record.len() as u64);
            self.waiting.pop_front();
        }
        true
    }

    /// Events from `first` on: at most `most`, and at most `bytes` of them unless the first alone is longer.
    ///
    /// # Errors
    /// The file can't be read, or holds other bytes than were written.
    pub(super) fn read(&self, first: u64, most: usize, bytes: usize) -> io::Result<Vec<Event>> {
        let place = |seq: u64| usize::try_from(seq).map_err(io::Error::other);
        let Some(from) = first.checked_sub(self.shift + 1) else { return Ok(Vec::new()) };
        let from = place(from)?;
        let written = self.offsets.len() - 1;
        if from >= written {
            let waiting = self.waiting.iter().skip(from - written).take(1);
            return waiting.map(|record| decode(record).map(|(event, _)| event)).collect();
        }
        let begin = self.offsets[from];
        let mut to = from + 1;
        while to < written && to - from < most && self.offsets[to + 1] - begin <= bytes as u64 {
            to += 1;
        }
        let mut buffer = vec![0; place(self.offsets[to] - begin)?];
        self.file.read_exact_at(&mut buffer, begin)?;
        let mut rest = buffer.as_slice();
        let mut events = Vec::with_capacity(to - from);
        while !rest.is_empty() {
            let (event, size) = decode(rest)?;
            events.push(event);
            rest = &rest[size..];
        }
        Ok(events)
    }

    /// Gives the last event the sequence behind `durable`.
    ///
    /// For a machine that lost power: the relay then holds more of a run than the file does, and would take the end
    /// of the run for a duplicate of something else.
    pub(super) fn renumber_last(&mut self, durable: u64) {
        self.shift += (durable + 1).saturating_sub(self.last_seq());
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn end(offsets: &[u64]) -> u64 {
    offsets.last().copied().unwrap_or(0)
}

/// The next whole record and its size; `None` at the end and at anything that is not whole.
fn read_record(reader: &mut impl Read) -> io::Result<Option<(Event, u64)>> {
    let mut record = vec![0; HEAD];
    if !fill(reader, &mut record)? {
        return Ok(None);
    }
    let len = u32::from_le_bytes([record[0], record[1], record[2], record[3]]) as usize;
    if len == 0 || len > MAX_MESSAGE {
        return Ok(None);
    }
    record.resize(HEAD + len, 0);
    if !fill(reader, &mut record[HEAD..])? {
        return Ok(None);
    }
    Ok(decode(&record).ok().map(|(event, size)| (event, size as u64)))
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The event at the front of `bytes` and the size of its record.
fn decode(bytes: &[u8]) -> io::Result<(Event, usize)> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the spool holds a damaged event");
    let (head, rest) = bytes.split_at_checked(HEAD).ok_or_else(damaged)?;
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let sum = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let payload = rest.get(..len).filter(|payload| crc32c::crc32c(payload) == sum).ok_or_else(damaged)?;
    Ok((wire::decode(payload).map_err(|_| damaged())?, HEAD + len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::event::EventBody;

    fn event(n: usize) -> Event {
        let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
        Event { at, body: EventBody::Message { text: "x".repeat(n) } }
    }

    fn filled(path: &Path, sizes: &[usize]) -> EventLog {
        let mut log = EventLog::create(path).unwrap();
        for n in sizes {
            assert!(log.append(&event(*n)).unwrap());
        }
        log
    }

    #[test]
    fn any_range_is_read_within_its_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let log = filled(&dir.path().join("events"), &[1, 2, 3, 400, 5]);
        assert_eq!(log.last_seq(), 5);
        assert_eq!(log.read(2, 2, 9999).unwrap(), [event(2), event(3)]);
        assert_eq!(log.read(3, 9, 100).unwrap(), [event(3)]);
        assert_eq!(log.read(4, 9, 1).unwrap(), [event(400)]);
        assert_eq!(log.read(6, 9, 9999).unwrap(), []);
    }

    #[test]
    fn every_truncation_recovers_exactly_the_whole_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let log = filled(&path, &[3, 30, 7]);
        let offsets = log.offsets.clone();
        let whole = std::fs::read(&path).unwrap();
        for len in 0..=whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            let (log, last) = EventLog::open(&path).unwrap();
            let expected = offsets.iter().filter(|offset| **offset <= len as u64).count() - 1;
            assert_eq!(log.last_seq(), expected as u64, "length {len}");
            assert_eq!(last.is_some(), expected > 0);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), offsets[expected]);
        }
    }

    #[test]
    fn flipped_bits_and_zeroes_behind_the_end_are_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        filled(&path, &[20]);
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(EventLog::open(&path).unwrap().0.last_seq(), 0, "bit {bit}");
        }
        std::fs::write(&path, [whole.as_slice(), &[0; 4096]].concat()).unwrap();
        let (mut log, last) = EventLog::open(&path).unwrap();
        assert_eq!((log.last_seq(), last), (1, Some(event(20))));
        log.append(&event(4)).unwrap();
        assert_eq!(EventLog::open(&path).unwrap().0.last_seq(), 2);
    }

    #[test]
    fn the_end_of_a_run_can_follow_events_that_only_the_relay_still_has() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = filled(&dir.path().join("events"), &[1, 2]);
        log.renumber_last(50);
        assert_eq!(log.last_seq(), 51);
        assert_eq!(log.read(51, 9, 9999).unwrap(), [event(2)]);
    }
}
