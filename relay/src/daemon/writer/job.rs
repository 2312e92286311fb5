//! One open job: its log, its record, its output.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use common::event::{Event, EventBody};
use common::event_line::{EventLine, Source};
use common::ids::JobId;
use common::record::JobRecord;

use super::ids::EventIds;
use super::{Receipt, repair};
use crate::daemon::board::Board;
use crate::registry::Registry;
use crate::registry::atomic::{self, Durability};
use crate::registry::log_file::LogWriter;

pub(super) struct OpenJob {
    record: JobRecord,
    log: File,
    /// Lines that are not written yet.
    lines: Vec<u8>,
    /// Lines that the last commit made durable.
    committed: Vec<u8>,
    /// The relay's own newest event.
    own_seq: u64,
    output: LogWriter,
    /// Whether the record has changed since it was written.
    changed: bool,
    /// Who is told after the commit.
    promised: Vec<Board<JobId, Receipt>>,
}

impl OpenJob {
    /// Opens a job that has not ended, repairing what a crash has left. A job without a log gets its first event.
    ///
    /// # Errors
    /// `NotFound` for a job that is unknown or has ended; otherwise the failing call.
    pub(super) fn open(registry: &Registry, job: &JobId, ids: &mut EventIds) -> io::Result<Self> {
        let found = repair::open(registry, job)?;
        if found.record.state.is_final() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(registry.events(job))?;
        let mut open = Self {
            output: LogWriter::open(&registry.log(job))?,
            record: found.record,
            log,
            lines: Vec::new(),
            committed: Vec::new(),
            own_seq: found.own_seq,
            changed: found.stale,
            promised: Vec::new(),
        };
        if open.own_seq == 0 && open.record.seq == 0 {
            // Its time is the launch's, so that the record folded from the log is the one that launch wrote.
            let queued = EventBody::Queued(Box::new(open.record.to_queued()));
            open.push_own(Event { at: open.record.created_at, body: queued }, ids)?;
            atomic::sync_dir(registry.dir())?;
        }
        if let Some(damage) = found.damage {
            open.take_own(EventBody::Warning { message: damage }, ids);
        }
        Ok(open)
    }

    pub(super) fn record(&self) -> &JobRecord {
        &self.record
    }

    /// What is durable, or will be with the next commit.
    pub(super) fn receipt(&self) -> Receipt {
        Receipt {
            epoch: self.record.epoch,
            seq: self.record.seq,
            output: self.output.offset(),
            problem: None,
        }
    }

    /// Hands out a receipt after the commit.
    pub(super) fn promise(&mut self, receipts: &Board<JobId, Receipt>) {
        self.promised.push(receipts.clone());
    }

    /// Takes a batch of an agent's events; those that are here already are dropped.
    ///
    /// # Errors
    /// `InvalidInput` for an old epoch or a gap.
    pub(super) fn take_events(
        &mut self,
        epoch: u32,
        first_seq: u64,
        batch: Vec<Event>,
        ids: &mut EventIds,
    ) -> io::Result<()> {
        let refused = |reason: String| io::Error::new(io::ErrorKind::InvalidInput, reason);
        if epoch < self.record.epoch || epoch == 0 {
            return Err(refused(format!("epoch {epoch} is over, {} is current", self.record.epoch)));
        }
        let last = if epoch == self.record.epoch { self.record.seq } else { 0 };
        if first_seq > last + 1 {
            return Err(refused(format!("events {} to {} are missing", last + 1, first_seq - 1)));
        }
        for (seq, event) in (first_seq..).zip(batch).skip_while(|(seq, _)| *seq <= last) {
            self.push(epoch, seq, Source::Agent, event, ids)?;
        }
        Ok(())
    }

    /// Takes an event that the relay itself saw. Nothing follows the end of a job.
    pub(super) fn take_own(&mut self, body: EventBody, ids: &mut EventIds) {
        if self.record.state.is_final() {
            return;
        }
        if let Err(e) = self.push_own(Event { at: crate::time::now(), body }, ids) {
            tracing::error!("{}: an event could not be recorded: {e}", self.record.job);
        }
    }

    fn push_own(&mut self, event: Event, ids: &mut EventIds) -> io::Result<()> {
        self.own_seq += 1;
        self.push(0, self.own_seq, Source::Relay, event, ids)
    }

    fn push(
        &mut self,
        epoch: u32,
        seq: u64,
        source: Source,
        event: Event,
        ids: &mut EventIds,
    ) -> io::Result<()> {
        let job = self.record.job.clone();
        let line = EventLine { id: ids.next()?, job, epoch, seq, source, event: Some(event) };
        let bytes = line.to_bytes().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        self.lines.extend_from_slice(&bytes);
        self.record.apply_line(&line);
        self.changed = true;
        Ok(())
    }

    /// Takes a piece of the worker's output.
    ///
    /// # Errors
    /// `InvalidInput` for an old epoch or when output in between is missing.
    pub(super) fn take_output(&mut self, epoch: u32, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if epoch < self.record.epoch {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("epoch {epoch} is over")));
        }
        self.output.append(offset, bytes)
    }

    /// Makes everything taken durable, refreshes the record, hands out receipts. Returns whether the record changed.
    ///
    /// # Errors
    /// When the log can't be written or synced: then nothing may be promised, and the job must be opened anew.
    pub(super) fn commit(&mut self, registry: &Registry) -> io::Result<bool> {
        if !self.lines.is_empty() {
            self.log.write_all(&self.lines)?;
            self.log.sync_data()?;
            self.committed = std::mem::take(&mut self.lines);
        }
        let changed = std::mem::take(&mut self.changed);
        if changed {
            // Not synced: the log is the truth, and a start makes the record again from it.
            atomic::replace(
                &registry.record(&self.record.job),
                &self.record.to_bytes()?,
                Durability::Cached,
            )?;
        }
        let receipt = self.receipt();
        for receipts in self.promised.drain(..) {
            receipts.post(self.record.job.clone(), receipt.clone());
        }
        Ok(changed)
    }

    /// Hands out the lines that the last commit made durable, each with its line break.
    pub(super) fn take_committed(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.committed)
    }

    /// Tells everybody who waits for a receipt that there will be none.
    pub(super) fn fail(&mut self, error: &io::Error) {
        let problem = Some(format!("the registry can't be written: {error}"));
        for receipts in self.promised.drain(..) {
            receipts
                .post(self.record.job.clone(), Receipt { problem: problem.clone(), ..Receipt::default() });
        }
    }
}
