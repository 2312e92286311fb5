//! Events of one run: segments on disk, and pending events that are not written yet.
//!
//! ```text
//!  push ──► pending ──flush──► newest segment ──1 MiB──► older segments ──ack──► deleted
//!              │ the disk is full: up to SpoolLimits::pending, then reading from the worker pauses
//!              └──last flush──► the space that was reserved when the run was created
//! ```
//!
//! In memory a segment is one [`SegmentSpan`], so the memory of a run hardly depends on the number of events. On disk a
//! run takes the space of its unacknowledged events, of at most two segments, and of the reserve.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use common::event::Event;

use super::header::SegmentHeader;
use super::limits::SpoolLimits;
use super::pending::PendingEvents;
use super::preallocate::is_disk_full;
use super::reader::{EncodedEvents, SegmentReader};
use super::record;
use super::recovery::{RecoveredEvents, recover};
use super::run_id::RunId;
use super::segment::{self, Segment, SegmentSpan};

/// Result of a write.
#[derive(Debug)]
pub(super) enum WriteResult {
    /// The bytes are in the file.
    Written,
    /// The file may be damaged, so all unacknowledged events were written to a new file.
    Rewritten(io::Error),
}

/// Segments and pending events of a run.
#[derive(Debug)]
pub(super) struct EventLog {
    pub(super) dir: PathBuf,
    pub(super) run: RunId,
    pub(super) limits: SpoolLimits,
    older_segments: VecDeque<SegmentSpan>,
    /// Segment that is being written; `None` only if an earlier process left no segment.
    newest_segment: Option<Segment>,
    /// Number of the next segment, if there is no newest one.
    next_segment_number: u32,
    pub(super) pending: PendingEvents,
    /// True if the existing files are obsolete, so that a jump record must precede the pending events.
    pub(super) is_jump_pending: bool,
    reader: SegmentReader,
    pub(super) acked_seq: u64,
    /// Sequence of the last event that earlier processes wrote, until the relay reports the last event it holds.
    pub(super) inherited_seq: Option<u64>,
    /// Numbers of older segments that are not synced to the disk yet.
    unsynced_segments: Vec<u32>,
}

impl EventLog {
    /// Creates the first segment, with disk space reserved for the final events of the run.
    ///
    /// # Errors
    /// The file system failed, for example for lack of space.
    pub(super) fn create(dir: &Path, run: &RunId, limits: SpoolLimits) -> io::Result<Self> {
        let mut log = Self::with_first_segment_number(dir, run, limits, 1);
        log.newest_segment = Some(log.create_segment(1)?);
        Ok(log)
    }

    /// Opens the files of an earlier process.
    pub(super) fn open(dir: &Path, run: &RunId, limits: SpoolLimits) -> io::Result<(Self, RecoveredEvents)> {
        let mut recovered = recover(dir, run)?;
        let mut log = Self::with_first_segment_number(dir, run, limits, recovered.unused_segment_number);
        log.older_segments = std::mem::take(&mut recovered.spans).into();
        log.unsynced_segments = log.older_segments.iter().map(|span| span.segment_number).collect();
        if let Some(span) = log.older_segments.pop_back() {
            log.pending = PendingEvents::new(span.next_seq);
            log.newest_segment = Some(Segment::open(dir, span, limits.reserve_bytes)?);
        }
        log.inherited_seq = Some(log.last_seq());
        Ok((log, recovered))
    }

    fn with_first_segment_number(dir: &Path, run: &RunId, limits: SpoolLimits, segment_number: u32) -> Self {
        Self {
            dir: dir.to_owned(),
            run: run.clone(),
            limits,
            older_segments: VecDeque::new(),
            newest_segment: None,
            next_segment_number: segment_number,
            pending: PendingEvents::new(1),
            is_jump_pending: false,
            reader: SegmentReader::default(),
            acked_seq: 0,
            inherited_seq: None,
            unsynced_segments: Vec::new(),
        }
    }

    /// Returns the sequence number of the newest event, or 0 if there is none.
    pub(super) fn last_seq(&self) -> u64 {
        self.pending.next_seq() - 1
    }

    /// Returns the last sequence number that the relay has acknowledged.
    pub(super) fn acked_seq(&self) -> u64 {
        self.acked_seq
    }

    /// Returns true if so many bytes are pending or unacknowledged that no more should be added.
    pub(super) fn is_congested(&self) -> bool {
        let spans = self.older_segments.iter().chain(self.newest_segment.as_ref().map(|newest| &newest.span));
        let stored: u64 = spans.map(|span| span.end_offset).sum();
        self.pending.total_bytes() >= self.limits.pending_bytes || stored >= self.limits.unacked_bytes
    }

    /// Queues an event for the next flush. A final event uses the space reserved for final events. Returns false if
    /// there was no space.
    pub(super) fn push(&mut self, event: &Event, is_final: bool) -> io::Result<bool> {
        let limit =
            self.limits.max_pending_bytes() + if is_final { self.limits.end_reserve_bytes } else { 0 };
        if self.pending.total_bytes() >= limit {
            return Ok(false);
        }
        self.pending.push(event).map_err(io::Error::other)?;
        let fits = self.pending.total_bytes() <= limit;
        if !fits {
            self.pending.remove_last();
        }
        Ok(fits)
    }

    /// Returns true if events wait to be written.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes the pending events; the final ones of a run use the reserved space.
    ///
    /// # Errors
    /// The disk is full or has failed. The events stay pending.
    pub(super) fn flush(&mut self, is_final: bool) -> io::Result<WriteResult> {
        if self.pending.is_empty() {
            return Ok(WriteResult::Written);
        }
        let reserve = if is_final { 0 } else { self.limits.reserve_bytes };
        match self.write_pending(reserve) {
            Ok(()) => Ok(WriteResult::Written),
            Err(error) if is_disk_full(&error) => Err(error),
            Err(error) => {
                self.rewrite_unacked()?;
                self.write_pending(reserve)?;
                Ok(WriteResult::Rewritten(error))
            }
        }
    }

    fn write_pending(&mut self, reserve_bytes: u64) -> io::Result<()> {
        self.rotate_segment()?;
        let Some(newest) = &mut self.newest_segment else { return Err(io::ErrorKind::StorageFull.into()) };
        let (first, next) = (self.pending.first_seq(), self.pending.next_seq());
        let salt = newest.span.salt;
        let needs_jump = self.is_jump_pending || first != newest.span.next_seq;
        let mut bytes = Vec::with_capacity(self.pending.total_bytes() + record::HEADER_SIZE);
        if needs_jump {
            record::append(&mut bytes, salt, first - 1, &[]);
        }
        for (seq, event) in (first..).zip(self.pending.iter_from(first)) {
            record::append(&mut bytes, salt, seq, event);
        }
        let jump_offset = newest.span.end_offset;
        newest.write(&bytes, next, reserve_bytes, self.limits.preallocate_step)?;
        if needs_jump {
            newest.span.first_seq = first;
            newest.span.first_event_offset = jump_offset + record::HEADER_SIZE as u64;
            self.is_jump_pending = false;
            self.reader.forget_position();
            self.delete_acked_segments(u64::MAX);
        }
        self.pending.restart_at(next);
        Ok(())
    }

    /// Begins a new segment if the newest segment is long enough. Without disk space, the newest segment stays in use.
    fn rotate_segment(&mut self) -> io::Result<()> {
        // The sequence number after a jump does not continue the last one. At the start of a segment this looks like
        // damage.
        let is_due = |newest: &Segment| {
            newest.span.end_offset >= self.limits.segment_bytes
                && !self.is_jump_pending
                && newest.span.next_seq == self.pending.first_seq()
        };
        if !self.newest_segment.as_ref().is_none_or(is_due) {
            return Ok(());
        }
        match self.create_segment(self.pending.first_seq()) {
            Ok(new) => {
                if let Some(old) = self.newest_segment.replace(new) {
                    let span = old.close();
                    self.unsynced_segments.push(span.segment_number);
                    self.older_segments.push_back(span);
                }
                Ok(())
            }
            Err(error) if is_disk_full(&error) && self.newest_segment.is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn create_segment(&self, first_seq: u64) -> io::Result<Segment> {
        let mut salt = [0; 4];
        getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
        let header = SegmentHeader { run: self.run.clone(), first_seq, salt: u32::from_le_bytes(salt) };
        // Segment numbers have no gap: a missing file is damage.
        let segment_number = self
            .newest_segment
            .as_ref()
            .map_or(self.next_segment_number, |newest| newest.span.segment_number + 1);
        Segment::create(
            &self.dir,
            segment_number,
            &header,
            self.limits.reserve_bytes + self.limits.preallocate_step,
        )
    }

    /// Copies all unacknowledged events into a new segment, syncs it, and deletes the old ones.
    fn rewrite_unacked(&mut self) -> io::Result<()> {
        let first = self.first_seq().max(self.acked_seq + 1);
        let mut new = self.create_segment(first)?;
        let copied = self.copy_into(&mut new, first);
        if let Err(error) = copied {
            let _ = fs::remove_file(segment::segment_path(&self.dir, new.span.segment_number));
            return Err(error);
        }
        self.delete_acked_segments(u64::MAX);
        if let Some(old) = self.newest_segment.replace(new) {
            self.delete_segment(old.span.segment_number);
        }
        Ok(())
    }

    fn copy_into(&mut self, segment: &mut Segment, first_seq: u64) -> io::Result<()> {
        let (salt, SpoolLimits { reserve_bytes: reserve, preallocate_step: step, .. }) =
            (segment.span.salt, self.limits);
        let written = self.newest_segment.as_ref().map_or(first_seq, |newest| newest.span.next_seq);
        let (mut seq, mut bytes) = (first_seq, Vec::new());
        record::append(&mut bytes, salt, first_seq - 1, &[]);
        segment.write(&bytes, first_seq, reserve, step)?;
        segment.span.first_event_offset = segment.span.end_offset;
        while seq < written {
            let batch = self.read(seq, usize::MAX, 64 * 1024)?;
            bytes.clear();
            for event in batch.events() {
                record::append(&mut bytes, salt, seq, event);
                seq += 1;
            }
            segment.write(&bytes, seq, reserve, step)?;
        }
        segment.file.sync_data()?;
        File::open(&self.dir)?.sync_all()
    }

    /// Returns the sequence number of the first stored event, or of the next one if there is none.
    pub(super) fn first_seq(&self) -> u64 {
        let newest = self.newest_segment.as_ref().map(|newest| &newest.span);
        let oldest = self.older_segments.front().or(newest).map(|span| span.first_seq);
        oldest.map_or(self.pending.first_seq(), |first| first.min(self.pending.first_seq()))
    }

    /// Returns events from `first_seq` on: at most `max_events` and at most `max_bytes`, but at least one event.
    ///
    /// # Errors
    /// The file can't be read, or is damaged.
    pub(super) fn read(
        &mut self,
        first_seq: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> io::Result<EncodedEvents> {
        if first_seq >= self.pending.first_seq() {
            let mut batch = EncodedEvents::default();
            for event in self.pending.iter_from(first_seq) {
                if !batch.push_within(event, max_events, max_bytes) {
                    break;
                }
            }
            return Ok(batch);
        }
        let newest = self.newest_segment.as_ref();
        if let Some(newest) = newest.filter(|newest| newest.span.first_seq <= first_seq) {
            return self.reader.read(&newest.file, &newest.span, first_seq, max_events, max_bytes);
        }
        // Sequences increase from one segment to the next.
        let index = self.older_segments.partition_point(|span| span.next_seq <= first_seq);
        match self.older_segments.get(index).filter(|span| span.first_seq <= first_seq) {
            Some(span) => self.reader.read_older(&self.dir, span, first_seq, max_events, max_bytes),
            None => Ok(EncodedEvents::default()),
        }
    }

    /// Acknowledges every event up to `seq`, and deletes the files that are no longer needed.
    pub(super) fn ack(&mut self, seq: u64) {
        self.acked_seq = self.acked_seq.max(seq.min(self.last_seq()));
        self.delete_acked_segments(self.acked_seq);
        self.pending.drop_up_to(self.acked_seq);
    }

    /// Sets the acknowledged sequence number to `seq`. This can be a lower value: a relay that was restored from a
    /// backup holds fewer events than it had acknowledged.
    pub(super) fn set_acked(&mut self, seq: u64) {
        self.acked_seq = 0;
        self.ack(seq);
    }

    fn delete_acked_segments(&mut self, acked_seq: u64) {
        while self.older_segments.front().is_some_and(|span| span.next_seq - 1 <= acked_seq)
            && let Some(span) = self.older_segments.pop_front()
        {
            self.delete_segment(span.segment_number);
        }
    }

    fn delete_segment(&mut self, segment_number: u32) {
        self.unsynced_segments.retain(|unsynced| *unsynced != segment_number);
        self.reader.close_segment(segment_number);
        if let Err(error) = fs::remove_file(segment::segment_path(&self.dir, segment_number)) {
            tracing::warn!("{}: an acknowledged part of the spool can't be deleted: {error}", self.run);
        }
    }

    /// Waits until everything is on the disk.
    pub(super) fn sync(&mut self) -> io::Result<WriteResult> {
        if !self.pending.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match self.sync_files() {
            Ok(()) => Ok(WriteResult::Written),
            // After a failed sync the content on the disk is unknown, and a second sync would succeed without effect.
            Err(error) => self.rewrite_unacked().map(|()| WriteResult::Rewritten(error)),
        }
    }

    fn sync_files(&mut self) -> io::Result<()> {
        for segment_number in &self.unsynced_segments {
            File::open(segment::segment_path(&self.dir, *segment_number))?.sync_data()?;
        }
        if let Some(newest) = &self.newest_segment {
            newest.file.sync_data()?;
        }
        if !self.unsynced_segments.is_empty() {
            File::open(&self.dir)?.sync_all()?;
        }
        self.unsynced_segments.clear();
        Ok(())
    }

    /// Closes the log and frees the reserved space.
    pub(super) fn close(&mut self) {
        if let Some(newest) = &mut self.newest_segment {
            newest.free_reserved_space();
        }
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
