//! Events of one run: segments on disk, and the events that wait to be written to them.
//!
//! ```text
//!  push ──► waiting ──flush──► newest segment ──1 MiB──► older segments ──ack──► deleted
//!              │ the disk is full: up to Sizes::waiting, then the worker has to wait
//!              └──last flush──► the space that was reserved when the run was created
//! ```
//!
//! In memory a segment is one [`Span`], so a run of a million events takes as little as one of ten. On disk a run
//! takes the space of what the relay has not acknowledged, and at most two segments and the reserve on top.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use common::event::Event;

use super::header::Header;
use super::limits::Sizes;
use super::pending::Waiting;
use super::preallocate::is_full;
use super::reader::{Batch, Reader};
use super::record;
use super::recovery::{Found, recover};
use super::run_id::RunId;
use super::segment::{self, Segment, Span};

/// Result of a write.
#[derive(Debug)]
pub(super) enum Written {
    /// The bytes are in the file.
    Whole,
    /// The file can't be trusted any more; everything is in a new one.
    Anew(io::Error),
}

/// The segments and the waiting events.
#[derive(Debug)]
pub(super) struct EventLog {
    pub(super) dir: PathBuf,
    pub(super) run: RunId,
    pub(super) sizes: Sizes,
    older: VecDeque<Span>,
    /// `None` only if an earlier process left no segment.
    newest: Option<Segment>,
    /// Serial of the first segment that this process creates, if there is no newest.
    serial: u32,
    pub(super) waiting: Waiting,
    /// The content of the files is obsolete: a jump has to precede the waiting events.
    pub(super) jump: bool,
    reader: Reader,
    pub(super) acked: u64,
    /// Last event of earlier processes, until the relay reports what it holds.
    pub(super) inherited: Option<u64>,
    /// Older segments that may not be on the disk yet.
    unsynced: Vec<u32>,
}

impl EventLog {
    /// Creates the first segment, with disk space reserved for the run's end.
    ///
    /// # Errors
    /// The file system failed, for example for lack of space.
    pub(super) fn create(dir: &Path, run: &RunId, sizes: Sizes) -> io::Result<Self> {
        let mut log = Self::empty(dir, run, sizes, 1);
        log.newest = Some(log.segment(1)?);
        Ok(log)
    }

    /// Opens the files of an earlier process.
    ///
    /// # Errors
    /// The file system failed.
    pub(super) fn open(dir: &Path, run: &RunId, sizes: Sizes) -> io::Result<(Self, Found)> {
        let mut found = recover(dir, run)?;
        let mut log = Self::empty(dir, run, sizes, found.serial);
        log.older = std::mem::take(&mut found.spans).into();
        log.unsynced = log.older.iter().map(|span| span.serial).collect();
        if let Some(span) = log.older.pop_back() {
            log.waiting = Waiting::new(span.next);
            log.newest = Some(Segment::open(dir, span, sizes.reserve)?);
        }
        log.inherited = Some(log.last_seq());
        Ok((log, found))
    }

    fn empty(dir: &Path, run: &RunId, sizes: Sizes, serial: u32) -> Self {
        Self {
            dir: dir.to_owned(),
            run: run.clone(),
            sizes,
            older: VecDeque::new(),
            newest: None,
            serial,
            waiting: Waiting::new(1),
            jump: false,
            reader: Reader::default(),
            acked: 0,
            inherited: None,
            unsynced: Vec::new(),
        }
    }

    /// Returns the sequence of the newest event, or 0 if there is none.
    pub(super) fn last_seq(&self) -> u64 {
        self.waiting.next() - 1
    }

    /// Returns the last sequence that the relay has acknowledged.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// Returns true if too many bytes wait, or are stored unacknowledged, to take more.
    pub(super) fn is_congested(&self) -> bool {
        let spans = self.older.iter().chain(self.newest.as_ref().map(|newest| &newest.span));
        let stored: u64 = spans.map(|span| span.end).sum();
        self.waiting.bytes() >= self.sizes.waiting || stored >= self.sizes.stored
    }

    /// Takes an event, to be written by the next flush. `last` events use the space that is reserved for them.
    /// Returns false if there was no space.
    ///
    /// # Errors
    /// The event can't be encoded.
    pub(super) fn push(&mut self, event: &Event, last: bool) -> io::Result<bool> {
        let most = self.sizes.most_waiting() + if last { self.sizes.ends } else { 0 };
        if self.waiting.bytes() >= most {
            return Ok(false);
        }
        self.waiting.push(event).map_err(io::Error::other)?;
        let found = self.waiting.bytes() <= most;
        if !found {
            self.waiting.pop();
        }
        Ok(found)
    }

    /// Returns true if events wait to be written.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes the waiting events; the last of a run use the reserved space.
    ///
    /// # Errors
    /// The events still wait: the disk is full, or does not work.
    pub(super) fn flush(&mut self, last: bool) -> io::Result<Written> {
        if self.waiting.is_empty() {
            return Ok(Written::Whole);
        }
        let keep = if last { 0 } else { self.sizes.reserve };
        match self.write_waiting(keep) {
            Ok(()) => Ok(Written::Whole),
            Err(error) if is_full(&error) => Err(error),
            Err(error) => {
                self.renew()?;
                self.write_waiting(keep)?;
                Ok(Written::Anew(error))
            }
        }
    }

    fn write_waiting(&mut self, keep: u64) -> io::Result<()> {
        self.rotate()?;
        let Some(newest) = &mut self.newest else { return Err(io::ErrorKind::StorageFull.into()) };
        let (first, next) = (self.waiting.first(), self.waiting.next());
        let salt = newest.span.salt;
        let jump = self.jump || first != newest.span.next;
        let mut bytes = Vec::with_capacity(self.waiting.bytes() + record::HEAD);
        if jump {
            record::push(&mut bytes, salt, first - 1, &[]);
        }
        for (seq, event) in (first..).zip(self.waiting.from(first)) {
            record::push(&mut bytes, salt, seq, event);
        }
        let before = newest.span.end;
        newest.write(&bytes, next, keep, self.sizes.step)?;
        if jump {
            newest.span.first = first;
            newest.span.begin = before + record::HEAD as u64;
            self.jump = false;
            self.reader.restart();
            self.forget_older(u64::MAX);
        }
        self.waiting.restart(next);
        Ok(())
    }

    /// Begins a new segment if the newest is long enough. Without space for a new one, the newest goes on.
    fn rotate(&mut self) -> io::Result<()> {
        // After a jump the sequence does not follow the last segment's, which would look like damage.
        let due = |newest: &Segment| {
            newest.span.end >= self.sizes.segment && !self.jump && newest.span.next == self.waiting.first()
        };
        if !self.newest.as_ref().is_none_or(due) {
            return Ok(());
        }
        match self.segment(self.waiting.first()) {
            Ok(new) => {
                if let Some(old) = self.newest.replace(new) {
                    let span = old.close();
                    self.unsynced.push(span.serial);
                    self.older.push_back(span);
                }
                Ok(())
            }
            Err(error) if is_full(&error) && self.newest.is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn segment(&self, first: u64) -> io::Result<Segment> {
        let mut salt = [0; 4];
        getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
        let header = Header { run: self.run.clone(), first, salt: u32::from_le_bytes(salt) };
        // Serials have no gap: a missing file is damage.
        let serial = self.newest.as_ref().map_or(self.serial, |newest| newest.span.serial + 1);
        Segment::create(&self.dir, serial, &header, self.sizes.reserve + self.sizes.step)
    }

    /// Copies everything that is not acknowledged into a new segment, on the disk, and drops the old ones.
    fn renew(&mut self) -> io::Result<()> {
        let first = self.first().max(self.acked + 1);
        let mut new = self.segment(first)?;
        let copied = self.copy_into(&mut new, first);
        if let Err(error) = copied {
            let _ = fs::remove_file(segment::path(&self.dir, new.span.serial));
            return Err(error);
        }
        self.forget_older(u64::MAX);
        if let Some(old) = self.newest.replace(new) {
            self.delete(old.span.serial);
        }
        Ok(())
    }

    fn copy_into(&mut self, new: &mut Segment, first: u64) -> io::Result<()> {
        let (salt, Sizes { reserve, step, .. }) = (new.span.salt, self.sizes);
        let written = self.newest.as_ref().map_or(first, |newest| newest.span.next);
        let (mut seq, mut bytes) = (first, Vec::new());
        record::push(&mut bytes, salt, first - 1, &[]);
        new.write(&bytes, first, reserve, step)?;
        new.span.begin = new.span.end;
        while seq < written {
            let batch = self.read(seq, usize::MAX, 64 * 1024)?;
            bytes.clear();
            for event in batch.events() {
                record::push(&mut bytes, salt, seq, event);
                seq += 1;
            }
            new.write(&bytes, seq, reserve, step)?;
        }
        new.file.sync_data()?;
        File::open(&self.dir)?.sync_all()
    }

    /// Returns the sequence of the first event that is still there, or of the next one.
    pub(super) fn first(&self) -> u64 {
        let newest = self.newest.as_ref().map(|newest| &newest.span);
        let oldest = self.older.front().or(newest).map(|span| span.first);
        oldest.map_or(self.waiting.first(), |first| first.min(self.waiting.first()))
    }

    /// Returns events from `first` on: at most `most`, and at most `bytes` of them unless the first alone is longer.
    ///
    /// # Errors
    /// The file can't be read, or holds other bytes than were written.
    pub(super) fn read(&mut self, first: u64, most: usize, bytes: usize) -> io::Result<Batch> {
        if first >= self.waiting.first() {
            let mut batch = Batch::default();
            for event in self.waiting.from(first) {
                if !batch.take(event, most, bytes) {
                    break;
                }
            }
            return Ok(batch);
        }
        let newest = self.newest.as_ref();
        if let Some(newest) = newest.filter(|newest| newest.span.first <= first) {
            return self.reader.read(&newest.file, &newest.span, first, most, bytes);
        }
        // Sequences increase from one segment to the next.
        let place = self.older.partition_point(|span| span.next <= first);
        match self.older.get(place).filter(|span| span.first <= first) {
            Some(span) => self.reader.read_older(&self.dir, span, first, most, bytes),
            None => Ok(Batch::default()),
        }
    }

    /// Acknowledges every event up to `seq`: deletes the files that are not needed any more.
    pub(super) fn ack(&mut self, seq: u64) {
        self.acked = self.acked.max(seq.min(self.last_seq()));
        self.forget_older(self.acked);
        self.waiting.forget(self.acked);
    }

    /// Sets the acknowledged events to those up to `seq`, and no more: a relay that was restored from an older copy
    /// holds less than it has acknowledged.
    pub(super) fn holds(&mut self, seq: u64) {
        self.acked = 0;
        self.ack(seq);
    }

    fn forget_older(&mut self, acked: u64) {
        while self.older.front().is_some_and(|span| span.next - 1 <= acked)
            && let Some(span) = self.older.pop_front()
        {
            self.delete(span.serial);
        }
    }

    fn delete(&mut self, serial: u32) {
        self.unsynced.retain(|unsynced| *unsynced != serial);
        self.reader.forget(serial);
        if let Err(error) = fs::remove_file(segment::path(&self.dir, serial)) {
            tracing::warn!("{}: an acknowledged part of the spool can't be deleted: {error}", self.run);
        }
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// Not everything is on the disk, not even in a new file.
    pub(super) fn sync(&mut self) -> io::Result<Written> {
        if !self.waiting.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match self.sync_files() {
            Ok(()) => Ok(Written::Whole),
            // The state of this file on the disk is unknown, and a second try would only seem to succeed.
            Err(error) => self.renew().map(|()| Written::Anew(error)),
        }
    }

    fn sync_files(&mut self) -> io::Result<()> {
        for serial in &self.unsynced {
            File::open(segment::path(&self.dir, *serial))?.sync_data()?;
        }
        if let Some(newest) = &self.newest {
            newest.file.sync_data()?;
        }
        if !self.unsynced.is_empty() {
            File::open(&self.dir)?.sync_all()?;
        }
        self.unsynced.clear();
        Ok(())
    }

    /// Closes the log: frees the reserved space, since nothing follows.
    pub(super) fn close(&mut self) {
        if let Some(newest) = &mut self.newest {
            newest.trim();
        }
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
