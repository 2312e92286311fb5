//! Events of one run: segments on disk, and the events that wait to be written to them.
//!
//! ```text
//!  push ──► waiting ──flush──► newest segment ──1 MiB──► older segments ──ack──► deleted
//!              │ the disk is full: up to SpoolLimits::pending, then reading from the worker pauses
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
use super::limits::SpoolLimits;
use super::pending::PendingEvents;
use super::preallocate::is_full;
use super::reader::{Batch, Reader};
use super::record;
use super::recovery::{Recovered, recover};
use super::run_id::RunId;
use super::segment::{self, Segment, Span};

/// Result of a write.
#[derive(Debug)]
pub(super) enum Written {
    /// The bytes are in the file.
    Whole,
    /// The file can't be trusted any more; everything is in a new one.
    Rewritten(io::Error),
}

/// The segments and the pending events.
#[derive(Debug)]
pub(super) struct EventLog {
    pub(super) dir: PathBuf,
    pub(super) run: RunId,
    pub(super) limits: SpoolLimits,
    older: VecDeque<Span>,
    /// `None` only if an earlier process left no segment.
    newest: Option<Segment>,
    /// Serial of the first segment that this process creates, if there is no newest.
    serial: u32,
    pub(super) pending: PendingEvents,
    /// The content of the files is obsolete: a jump has to precede the pending events.
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
    pub(super) fn create(dir: &Path, run: &RunId, limits: SpoolLimits) -> io::Result<Self> {
        let mut log = Self::with_first_serial(dir, run, limits, 1);
        log.newest = Some(log.segment(1)?);
        Ok(log)
    }

    /// Opens the files of an earlier process.
    pub(super) fn open(dir: &Path, run: &RunId, limits: SpoolLimits) -> io::Result<(Self, Recovered)> {
        let mut found = recover(dir, run)?;
        let mut log = Self::with_first_serial(dir, run, limits, found.serial);
        log.older = std::mem::take(&mut found.spans).into();
        log.unsynced = log.older.iter().map(|span| span.serial).collect();
        if let Some(span) = log.older.pop_back() {
            log.pending = PendingEvents::new(span.next);
            log.newest = Some(Segment::open(dir, span, limits.reserve)?);
        }
        log.inherited = Some(log.last_seq());
        Ok((log, found))
    }

    fn with_first_serial(dir: &Path, run: &RunId, limits: SpoolLimits, serial: u32) -> Self {
        Self {
            dir: dir.to_owned(),
            run: run.clone(),
            limits,
            older: VecDeque::new(),
            newest: None,
            serial,
            pending: PendingEvents::new(1),
            jump: false,
            reader: Reader::default(),
            acked: 0,
            inherited: None,
            unsynced: Vec::new(),
        }
    }

    /// Returns the sequence of the newest event, or 0 if there is none.
    pub(super) fn last_seq(&self) -> u64 {
        self.pending.next() - 1
    }

    /// Returns the last sequence that the relay has acknowledged.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// Returns true if too many bytes wait, or are stored unacknowledged, to take more.
    pub(super) fn is_congested(&self) -> bool {
        let spans = self.older.iter().chain(self.newest.as_ref().map(|newest| &newest.span));
        let stored: u64 = spans.map(|span| span.end).sum();
        self.pending.bytes() >= self.limits.pending || stored >= self.limits.stored
    }

    /// Takes an event, to be written by the next flush. `last` events use the space that is reserved for them.
    /// Returns false if there was no space.
    pub(super) fn push(&mut self, event: &Event, last: bool) -> io::Result<bool> {
        let most = self.limits.max_pending() + if last { self.limits.end_reserve } else { 0 };
        if self.pending.bytes() >= most {
            return Ok(false);
        }
        self.pending.push(event).map_err(io::Error::other)?;
        let found = self.pending.bytes() <= most;
        if !found {
            self.pending.remove_last();
        }
        Ok(found)
    }

    /// Returns true if events wait to be written.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes the pending events; the last of a run use the reserved space.
    ///
    /// # Errors
    /// The events still wait: the disk is full, or does not work.
    pub(super) fn flush(&mut self, last: bool) -> io::Result<Written> {
        if self.pending.is_empty() {
            return Ok(Written::Whole);
        }
        let keep = if last { 0 } else { self.limits.reserve };
        match self.write_pending(keep) {
            Ok(()) => Ok(Written::Whole),
            Err(error) if is_full(&error) => Err(error),
            Err(error) => {
                self.rewrite()?;
                self.write_pending(keep)?;
                Ok(Written::Rewritten(error))
            }
        }
    }

    fn write_pending(&mut self, keep: u64) -> io::Result<()> {
        self.rotate()?;
        let Some(newest) = &mut self.newest else { return Err(io::ErrorKind::StorageFull.into()) };
        let (first, next) = (self.pending.first(), self.pending.next());
        let salt = newest.span.salt;
        let jump = self.jump || first != newest.span.next;
        let mut bytes = Vec::with_capacity(self.pending.bytes() + record::HEADER_SIZE);
        if jump {
            record::append(&mut bytes, salt, first - 1, &[]);
        }
        for (seq, event) in (first..).zip(self.pending.iter_from(first)) {
            record::append(&mut bytes, salt, seq, event);
        }
        let before = newest.span.end;
        newest.write(&bytes, next, keep, self.limits.step)?;
        if jump {
            newest.span.first = first;
            newest.span.begin = before + record::HEADER_SIZE as u64;
            self.jump = false;
            self.reader.restart();
            self.delete_older(u64::MAX);
        }
        self.pending.restart(next);
        Ok(())
    }

    /// Begins a new segment if the newest is long enough. Without space for a new one, the newest goes on.
    fn rotate(&mut self) -> io::Result<()> {
        // After a jump the sequence does not follow the last segment's, which would look like damage.
        let due = |newest: &Segment| {
            newest.span.end >= self.limits.segment && !self.jump && newest.span.next == self.pending.first()
        };
        if !self.newest.as_ref().is_none_or(due) {
            return Ok(());
        }
        match self.segment(self.pending.first()) {
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
        Segment::create(&self.dir, serial, &header, self.limits.reserve + self.limits.step)
    }

    /// Copies everything that is not acknowledged into a new segment, on the disk, and drops the old ones.
    fn rewrite(&mut self) -> io::Result<()> {
        let first = self.first().max(self.acked + 1);
        let mut new = self.segment(first)?;
        let copied = self.copy_into(&mut new, first);
        if let Err(error) = copied {
            let _ = fs::remove_file(segment::path(&self.dir, new.span.serial));
            return Err(error);
        }
        self.delete_older(u64::MAX);
        if let Some(old) = self.newest.replace(new) {
            self.delete(old.span.serial);
        }
        Ok(())
    }

    fn copy_into(&mut self, new: &mut Segment, first: u64) -> io::Result<()> {
        let (salt, SpoolLimits { reserve, step, .. }) = (new.span.salt, self.limits);
        let written = self.newest.as_ref().map_or(first, |newest| newest.span.next);
        let (mut seq, mut bytes) = (first, Vec::new());
        record::append(&mut bytes, salt, first - 1, &[]);
        new.write(&bytes, first, reserve, step)?;
        new.span.begin = new.span.end;
        while seq < written {
            let batch = self.read(seq, usize::MAX, 64 * 1024)?;
            bytes.clear();
            for event in batch.events() {
                record::append(&mut bytes, salt, seq, event);
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
        oldest.map_or(self.pending.first(), |first| first.min(self.pending.first()))
    }

    /// Returns events from `first` on: at most `most`, and at most `bytes` of them unless the first alone is longer.
    ///
    /// # Errors
    /// The file can't be read, or holds other bytes than were written.
    pub(super) fn read(&mut self, first: u64, most: usize, bytes: usize) -> io::Result<Batch> {
        if first >= self.pending.first() {
            let mut batch = Batch::default();
            for event in self.pending.iter_from(first) {
                if !batch.push_within(event, most, bytes) {
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
        self.delete_older(self.acked);
        self.pending.drop_until(self.acked);
    }

    /// Sets the acknowledged events to those up to `seq`, and no more: a relay that was restored from an older copy
    /// holds less than it has acknowledged.
    pub(super) fn set_acked(&mut self, seq: u64) {
        self.acked = 0;
        self.ack(seq);
    }

    fn delete_older(&mut self, acked: u64) {
        while self.older.front().is_some_and(|span| span.next - 1 <= acked)
            && let Some(span) = self.older.pop_front()
        {
            self.delete(span.serial);
        }
    }

    fn delete(&mut self, serial: u32) {
        self.unsynced.retain(|unsynced| *unsynced != serial);
        self.reader.close_segment(serial);
        if let Err(error) = fs::remove_file(segment::path(&self.dir, serial)) {
            tracing::warn!("{}: an acknowledged part of the spool can't be deleted: {error}", self.run);
        }
    }

    /// Waits until everything is on the disk.
    pub(super) fn sync(&mut self) -> io::Result<Written> {
        if !self.pending.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match self.sync_files() {
            Ok(()) => Ok(Written::Whole),
            // The state of this file on the disk is unknown, and a second try would only seem to succeed.
            Err(error) => self.rewrite().map(|()| Written::Rewritten(error)),
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
