//! An open job: its event log, its record and its output.

use std::io;
use std::time::{Duration, Instant};

use common::event::{Event, EventBody};
use common::event_line::{EventLine, LineError, Source};
use common::ids::JobId;
use common::record::{JobRecord, Link, State};
use jiff::Timestamp;

use super::checksums::Checksums;
use super::command::{Receipt, Receipts};
use super::ids::EventIds;
use super::log::EventFile;
use super::log_repair::{self, RepairedJob};
use crate::files::atomic::Durability;
use crate::registry::Registry;
use crate::registry::log_file::LogWriter;

/// Minimum interval between two writes of a record whose state has not changed. It is short enough for readers, and
/// long enough that a flood of events is not slowed down.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(25);
/// Maximum capacity of the line buffer after a commit, in bytes: a job may be idle for hours after a flood of events.
const MAX_IDLE_BUFFER: usize = 64 * 1024;

/// A job whose files the writer has open.
pub(super) struct OpenJob {
    /// Folder with the job's files: the registry or its archive.
    home: Registry,
    record: JobRecord,
    event_file: EventFile,
    /// Lines of the event log that are not written yet, or not published yet.
    pending_lines: Vec<u8>,
    /// True if the pending lines must be recorded even on a full disk.
    has_urgent_lines: bool,
    /// Sequence number of the relay's own newest event.
    relay_seq: u64,
    /// Checksums of the agent's newest events.
    checksums: Checksums,
    output: LogWriter,
    /// Events of the relay itself that are among the pending lines and must not be lost.
    unrecorded_events: Vec<EventBody>,
    /// True if the record has changed since it was sent to the core.
    is_record_changed: bool,
    /// True if the record has changed since it was written.
    is_record_stale: bool,
    /// State and link in the record on disk, and the time of its last write.
    written_state: Option<(State, Option<Link>, Instant)>,
    /// Receipt maps of the connections that get a receipt after the commit.
    waiting_receipts: Vec<Receipts>,
}

impl OpenJob {
    /// Opens an unfinished job and repairs its files after a crash. A job without a log gets its first event.
    ///
    /// # Errors
    /// `NotFound` for a job that is unknown or has ended; otherwise the error of the failing call.
    pub(super) fn open(
        registry: &Registry,
        job: &JobId,
        ids: &mut EventIds,
        now: Timestamp,
    ) -> io::Result<Self> {
        let repaired = log_repair::repair_job(registry, job, ids, now)?;
        if repaired.record.state.is_final() {
            if repaired.is_record_stale {
                registry.record(job).replace(&repaired.record.to_bytes()?, Durability::Cached)?;
            }
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut open_job = Self::from_files(registry, job, repaired)?;
        if open_job.relay_seq == 0 && open_job.record.seq == 0 {
            // The event has the time of the launch, so that the record folded from the log equals the record that
            // `relay launch` wrote.
            let queued = EventBody::Queued(Box::new(open_job.record.to_queued()));
            open_job.push_relay_event(Event { at: open_job.record.created_at, body: queued }, ids)?;
        }
        Ok(open_job)
    }

    /// Opens a job that has ended, so that its result can be recorded.
    ///
    /// # Errors
    /// `NotFound` for a job that is unknown or has not ended; otherwise the error of the failing call.
    pub(super) fn open_for_result(
        registry: &Registry,
        job: &JobId,
        ids: &mut EventIds,
        now: Timestamp,
    ) -> io::Result<Self> {
        let archive = registry.archive_registry();
        let home = if registry.record(job).exists() { registry } else { &archive };
        let repaired = log_repair::repair_job(home, job, ids, now)?;
        if !repaired.record.state.is_final() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Self::from_files(home, job, repaired)
    }

    fn from_files(home: &Registry, job: &JobId, repaired: RepairedJob) -> io::Result<Self> {
        Ok(Self {
            home: home.clone(),
            output: LogWriter::open(&home.log(job))?,
            event_file: EventFile::new(home.events(job), repaired.log_length),
            record: repaired.record,
            pending_lines: Vec::new(),
            has_urgent_lines: false,
            relay_seq: repaired.relay_seq,
            checksums: repaired.checksums,
            unrecorded_events: Vec::new(),
            is_record_changed: repaired.is_record_stale,
            is_record_stale: repaired.is_record_stale,
            written_state: None,
            waiting_receipts: Vec::new(),
        })
    }

    pub(super) fn record(&self) -> &JobRecord {
        &self.record
    }

    /// Returns true if the job's files are in the archive.
    pub(super) fn is_archived(&self, registry: &Registry) -> bool {
        self.home != *registry
    }

    pub(super) fn event_file(&mut self) -> &mut EventFile {
        &mut self.event_file
    }

    /// Returns true if the lines of this commit must be recorded even on a full disk.
    pub(super) fn has_urgent_lines(&self) -> bool {
        self.has_urgent_lines
    }

    /// Returns true if the record has changed since it was sent to the core.
    pub(super) fn is_changed(&self) -> bool {
        self.is_record_changed
    }

    /// Returns the receipt for everything that is durable after the next commit.
    pub(super) fn receipt(&self) -> Receipt {
        Receipt {
            epoch: self.record.epoch,
            seq: self.record.seq,
            output_offset: self.output.offset(),
            reconnect_reason: None,
        }
    }

    /// Requests a receipt, which is sent after the commit.
    pub(super) fn request_receipt(&mut self, receipts: &Receipts) {
        self.waiting_receipts.push(receipts.clone());
    }

    /// Adds a batch of an agent's events; drops events that are already recorded.
    ///
    /// # Errors
    /// `InvalidInput` for an epoch other than the current and the next one, for a gap in the sequence numbers, and for
    /// a repeated event whose content differs.
    pub(super) fn add_agent_events(
        &mut self,
        epoch: u32,
        first_seq: u64,
        batch: Vec<Event>,
        ids: &mut EventIds,
    ) -> io::Result<()> {
        let refused = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        let current_epoch = self.record.epoch;
        if epoch < current_epoch || epoch == 0 {
            return refused(format!("epoch {epoch} is over, {current_epoch} is current"));
        }
        // A new run has the next epoch. No run with a higher epoch was ever started.
        if epoch > current_epoch + 1 {
            return refused(format!("epoch {epoch} was never started, {current_epoch} is current"));
        }
        let last_seq = if epoch == current_epoch { self.record.seq } else { 0 };
        if first_seq > last_seq + 1 {
            return refused(format!(
                "events {} to {} of epoch {epoch} are missing",
                last_seq + 1,
                first_seq - 1
            ));
        }
        for (seq, event) in (first_seq..).zip(batch) {
            if seq > last_seq {
                // The relay may have ended the job just before this event arrived.
                if self.record.state.is_final() {
                    return Err(io::ErrorKind::NotFound.into());
                }
                self.push_event(epoch, seq, Source::Agent, event, ids)?;
            } else if !self.is_repeat(epoch, seq, event)? {
                let job = &self.record.job;
                return refused(format!(
                    "event {seq} of {job}, epoch {epoch}, differs from the recorded one"
                ));
            }
        }
        Ok(())
    }

    /// Returns true if an event equals the recorded event of the same number. An event that is too old to compare
    /// counts as equal.
    fn is_repeat(&self, epoch: u32, seq: u64, event: Event) -> io::Result<bool> {
        let Some(sum) = self.checksums.get(epoch, seq) else { return Ok(true) };
        let job = self.record.job.clone();
        let line = EventLine { id: 0, job, epoch, seq, source: Source::Agent, event: Some(event) };
        Ok(line.append_to(&mut Vec::new()).map_err(malformed_line)? == sum)
    }

    /// Adds an event of the relay itself, unless the job has ended. Only a result may follow the end.
    ///
    /// # Errors
    /// Fails if the event can't get an id.
    pub(super) fn add_relay_event(
        &mut self,
        at: Timestamp,
        body: EventBody,
        ids: &mut EventIds,
    ) -> io::Result<()> {
        if self.record.state.is_final() && !matches!(body, EventBody::Result(_)) {
            return Ok(());
        }
        let unrecorded = is_urgent(&body).then(|| body.clone());
        self.push_relay_event(Event { at, body }, ids)?;
        self.unrecorded_events.extend(unrecorded);
        Ok(())
    }

    fn push_relay_event(&mut self, event: Event, ids: &mut EventIds) -> io::Result<()> {
        self.push_event(0, self.relay_seq + 1, Source::Relay, event, ids)?;
        self.relay_seq += 1;
        Ok(())
    }

    fn push_event(
        &mut self,
        epoch: u32,
        seq: u64,
        source: Source,
        event: Event,
        ids: &mut EventIds,
    ) -> io::Result<()> {
        self.has_urgent_lines |= is_urgent(&event.body);
        let job = self.record.job.clone();
        let line = EventLine { id: ids.next_id()?, job, epoch, seq, source, event: Some(event) };
        let sum = line.append_to(&mut self.pending_lines).map_err(malformed_line)?;
        if source == Source::Agent {
            self.checksums.push(epoch, seq, sum);
        }
        self.record.apply_line(&line);
        (self.is_record_stale, self.is_record_changed) = (true, true);
        Ok(())
    }

    /// Adds a part of the worker's output. A part that can't be written is omitted, so that later events still arrive.
    /// On a full disk nothing is written, because the remaining space is reserved for final events.
    ///
    /// # Errors
    /// `InvalidInput` for an old epoch, and if output before this part is missing.
    pub(super) fn add_output(
        &mut self,
        epoch: u32,
        offset: u64,
        bytes: &[u8],
        is_disk_full: bool,
    ) -> io::Result<()> {
        if epoch < self.record.epoch {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("epoch {epoch} is over")));
        }
        if is_disk_full {
            return self.output.skip_output(offset, bytes);
        }
        match self.output.append(offset, bytes) {
            Err(e) if e.kind() != io::ErrorKind::InvalidInput => {
                tracing::warn!("{}: output was left out of its log: {e}", self.record.job);
                self.output.skip_output(offset, bytes)
            }
            appended => appended,
        }
    }

    /// Syncs the worker's output. If the sync fails, the job goes on.
    pub(super) fn sync_output(&mut self) {
        if let Err(e) = self.output.sync() {
            tracing::warn!("{}: the end of its log may be lost with the power: {e}", self.record.job);
        }
    }

    /// Appends the pending lines to the event log; see [`EventFile::write`].
    pub(super) fn write_log(&mut self) -> io::Result<()> {
        self.event_file.write(&self.pending_lines)
    }

    /// Replaces the event log by a new file with its valid lines and the pending lines; see [`EventFile::rewrite`].
    pub(super) fn rewrite_log(&mut self) -> io::Result<()> {
        self.event_file.rewrite(&self.pending_lines)
    }

    /// Writes the record if it is due; otherwise returns the time at which it is due. The record is only a cache of the
    /// log and therefore not synced: the next daemon rebuilds it from the log. If `may_overwrite` is true, the record
    /// is overwritten when there is no space for a copy.
    ///
    /// # Errors
    /// Fails if the record can't be replaced; the write is then due again.
    pub(super) fn refresh_record(
        &mut self,
        now: Instant,
        may_overwrite: bool,
    ) -> io::Result<Option<Instant>> {
        if !self.is_record_stale {
            return Ok(None);
        }
        let (state, link) = (self.record.state, self.record.link);
        if let Some((shown_state, shown_link, at)) = self.written_state
            && (shown_state, shown_link) == (state, link)
            && now < at + MIN_REFRESH_INTERVAL
        {
            return Ok(Some(at + MIN_REFRESH_INTERVAL));
        }
        let bytes = self.record.to_bytes()?;
        let file = self.home.record(&self.record.job);
        if may_overwrite {
            file.replace_or_overwrite(&bytes, Durability::Cached)?;
        } else {
            file.replace(&bytes, Durability::Cached)?;
        }
        (self.is_record_stale, self.written_state) = (false, Some((state, link, now)));
        Ok(None)
    }

    /// Sends the requested receipts. Must be called after everything is durable.
    pub(super) fn send_receipts(&mut self) {
        let receipt = self.receipt();
        for receipts in self.waiting_receipts.drain(..) {
            // An acknowledgement must not replace a refusal, because the agent would then delete the refused data.
            let is_refusal = |receipt: &Receipt| receipt.reconnect_reason.is_some();
            receipts.post_unless(self.record.job.clone(), receipt.clone(), is_refusal);
        }
    }

    /// Returns the lines of this commit, each with its line break.
    pub(super) fn lines(&self) -> &[u8] {
        &self.pending_lines
    }

    /// Drops the lines of this commit. Must be called after the lines were published.
    pub(super) fn clear_lines(&mut self) {
        self.pending_lines.clear();
        self.pending_lines.shrink_to(MAX_IDLE_BUFFER);
        self.unrecorded_events.clear();
        (self.has_urgent_lines, self.is_record_changed) = (false, false);
    }

    /// Takes the events of the relay itself that must be recorded but were not.
    pub(super) fn take_unrecorded(&mut self) -> Vec<EventBody> {
        std::mem::take(&mut self.unrecorded_events)
    }

    /// Takes the receipt maps of the connections whose requested receipts can't be sent.
    pub(super) fn take_receipts(&mut self) -> Vec<Receipts> {
        std::mem::take(&mut self.waiting_receipts)
    }
}

/// Returns true if an event must be recorded even on a full disk: a final event, a result, or the reason for missing
/// events.
pub(super) fn is_urgent(body: &EventBody) -> bool {
    matches!(body, EventBody::Finished { .. } | EventBody::Result(_) | EventBody::LinkLost { .. })
}

fn malformed_line(error: LineError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
