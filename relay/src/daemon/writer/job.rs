//! One open job: its log, its record, its output.

use std::io;
use std::time::{Duration, Instant};

use common::event::{Event, EventBody};
use common::event_line::{EventLine, LineError, Source};
use common::ids::JobId;
use common::record::{JobRecord, Link, State};
use jiff::Timestamp;

use super::command::{Receipt, Receipts};
use super::ids::EventIds;
use super::log::EventFile;
use super::repair;
use super::sums::Sums;
use crate::registry::Registry;
use crate::registry::atomic::Durability;
use crate::registry::log_file::LogWriter;

/// A record whose state has not changed is written at most this often: far more often than anybody looks, and rarely
/// enough that a flood of events costs its record next to nothing.
const REFRESH: Duration = Duration::from_millis(25);
/// More is given back once it is written, in bytes: a job may be quiet for hours behind a flood.
const KEPT_BUFFER: usize = 64 * 1024;

pub(super) struct OpenJob {
    record: JobRecord,
    log: EventFile,
    /// Lines that are not written yet, or not yet told to anybody.
    lines: Vec<u8>,
    /// Whether these lines have to be recorded on a full disk too.
    urgent: bool,
    /// The relay's own newest event.
    own_seq: u64,
    /// What the agent's newest events were.
    sums: Sums,
    output: LogWriter,
    /// The relay's own events among these lines that have to be recorded sooner or later.
    owed: Vec<EventBody>,
    /// Whether the record has changed since the core was told.
    news: bool,
    /// Whether the record has changed since it was written.
    stale: bool,
    /// What the record on disk shows, and when it was written.
    shown: Option<(State, Option<Link>, Instant)>,
    /// Who is told after the commit.
    promised: Vec<Receipts>,
}

impl OpenJob {
    /// Opens a job that has not ended, repairing what a crash has left. A job without a log gets its first event.
    ///
    /// # Errors
    /// `NotFound` for a job that is unknown or has ended; otherwise the failing call.
    pub(super) fn open(
        registry: &Registry,
        job: &JobId,
        ids: &mut EventIds,
        now: Timestamp,
    ) -> io::Result<Self> {
        let found = repair::open(registry, job, ids, now)?;
        if found.record.state.is_final() {
            if found.stale {
                registry.record(job).replace(&found.record.to_bytes()?, Durability::Cached)?;
            }
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut open = Self {
            output: LogWriter::open(&registry.log(job))?,
            log: EventFile::new(registry.events(job), found.len),
            record: found.record,
            lines: Vec::new(),
            urgent: false,
            own_seq: found.own_seq,
            sums: found.sums,
            owed: Vec::new(),
            news: found.stale,
            stale: found.stale,
            shown: None,
            promised: Vec::new(),
        };
        if open.own_seq == 0 && open.record.seq == 0 {
            // Its time is the launch's, so that the record folded from the log is the one that launch wrote.
            let queued = EventBody::Queued(Box::new(open.record.to_queued()));
            open.push_own(Event { at: open.record.created_at, body: queued }, ids)?;
        }
        Ok(open)
    }

    pub(super) fn record(&self) -> &JobRecord {
        &self.record
    }

    pub(super) fn log(&mut self) -> &mut EventFile {
        &mut self.log
    }

    /// Whether the lines of this commit have to be recorded on a full disk too.
    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Whether the core has something to hear.
    pub(super) fn has_news(&self) -> bool {
        self.news
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
    pub(super) fn promise(&mut self, receipts: &Receipts) {
        self.promised.push(receipts.clone());
    }

    /// Takes a batch of an agent's events; those that are here already are dropped.
    ///
    /// # Errors
    /// `InvalidInput` for another epoch than the one that runs or the next, for a gap, and for a repeat with another
    /// content.
    pub(super) fn take_events(
        &mut self,
        epoch: u32,
        first_seq: u64,
        batch: Vec<Event>,
        ids: &mut EventIds,
    ) -> io::Result<()> {
        let refused = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        let current = self.record.epoch;
        if epoch < current || epoch == 0 {
            return refused(format!("epoch {epoch} is over, {current} is current"));
        }
        // A run is started with the next number; whatever is beyond that was never started here.
        if epoch > current + 1 {
            return refused(format!("epoch {epoch} was never started, {current} is current"));
        }
        let last = if epoch == current { self.record.seq } else { 0 };
        if first_seq > last + 1 {
            return refused(format!("events {} to {} of epoch {epoch} are missing", last + 1, first_seq - 1));
        }
        for (seq, event) in (first_seq..).zip(batch) {
            if seq > last {
                // A relay that has ended the job by itself a moment ago did not have this yet.
                if self.record.state.is_final() {
                    return Err(io::ErrorKind::NotFound.into());
                }
                self.push(epoch, seq, Source::Agent, event, ids)?;
            } else if !self.is_repeat(epoch, seq, event)? {
                let job = &self.record.job;
                return refused(format!("event {seq} of {job}, epoch {epoch}, is here with another content"));
            }
        }
        Ok(())
    }

    /// Whether an event is the one that is here under its number. One from before the window can't be told.
    fn is_repeat(&self, epoch: u32, seq: u64, event: Event) -> io::Result<bool> {
        let Some(sum) = self.sums.get(epoch, seq) else { return Ok(true) };
        let job = self.record.job.clone();
        let line = EventLine { id: 0, job, epoch, seq, source: Source::Agent, event: Some(event) };
        Ok(line.append_to(&mut Vec::new()).map_err(malformed)? == sum)
    }

    /// Takes an event that the relay itself saw. Nothing follows the end of a job.
    ///
    /// # Errors
    /// When there is no id for it.
    pub(super) fn take_own(&mut self, at: Timestamp, body: EventBody, ids: &mut EventIds) -> io::Result<()> {
        if self.record.state.is_final() {
            return Ok(());
        }
        let owed = is_urgent(&body).then(|| body.clone());
        self.push_own(Event { at, body }, ids)?;
        self.owed.extend(owed);
        Ok(())
    }

    fn push_own(&mut self, event: Event, ids: &mut EventIds) -> io::Result<()> {
        self.push(0, self.own_seq + 1, Source::Relay, event, ids)?;
        self.own_seq += 1;
        Ok(())
    }

    fn push(
        &mut self,
        epoch: u32,
        seq: u64,
        source: Source,
        event: Event,
        ids: &mut EventIds,
    ) -> io::Result<()> {
        self.urgent |= is_urgent(&event.body);
        let job = self.record.job.clone();
        let line = EventLine { id: ids.next()?, job, epoch, seq, source, event: Some(event) };
        let sum = line.append_to(&mut self.lines).map_err(malformed)?;
        if source == Source::Agent {
            self.sums.push(epoch, seq, sum);
        }
        self.record.apply_line(&line);
        (self.stale, self.news) = (true, true);
        Ok(())
    }

    /// Takes a piece of the worker's output. What can't be written is left out, so that the events behind it come on; on a
    /// full disk it does not even try, because what room there is is kept for ends.
    ///
    /// # Errors
    /// `InvalidInput` for an old epoch or when output in between is missing.
    pub(super) fn take_output(
        &mut self,
        epoch: u32,
        offset: u64,
        bytes: &[u8],
        full: bool,
    ) -> io::Result<()> {
        if epoch < self.record.epoch {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("epoch {epoch} is over")));
        }
        if full {
            return self.output.leave_out(offset, bytes);
        }
        match self.output.append(offset, bytes) {
            Err(e) if e.kind() != io::ErrorKind::InvalidInput => {
                tracing::warn!("{}: output was left out of its log: {e}", self.record.job);
                self.output.leave_out(offset, bytes)
            }
            appended => appended,
        }
    }

    /// Makes the worker's output survive a power loss. It is for people: where that fails, the job goes on.
    pub(super) fn sync_output(&mut self) {
        if let Err(e) = self.output.sync() {
            tracing::warn!("{}: the end of its log may be lost with the power: {e}", self.record.job);
        }
    }

    /// Appends the lines to the log; see [`EventFile::write`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.log.write(&self.lines)
    }

    /// Writes the log anew, with these lines; see [`EventFile::renew`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        self.log.renew(&self.lines)
    }

    /// Brings the record up to date where that is due; returns when it is due otherwise. A record is a cache, the log is
    /// the truth: it is not synced, and a start makes it again. With `in_place` it is written over where there is no room for a
    /// copy.
    ///
    /// # Errors
    /// When it can't be replaced: it is due again then.
    pub(super) fn refresh(
        &mut self,
        registry: &Registry,
        now: Instant,
        in_place: bool,
    ) -> io::Result<Option<Instant>> {
        if !self.stale {
            return Ok(None);
        }
        let (state, link) = (self.record.state, self.record.link);
        if let Some((shown_state, shown_link, at)) = self.shown
            && (shown_state, shown_link) == (state, link)
            && now < at + REFRESH
        {
            return Ok(Some(at + REFRESH));
        }
        let bytes = self.record.to_bytes()?;
        let file = registry.record(&self.record.job);
        if in_place {
            file.replace_or_overwrite(&bytes, Durability::Cached)?;
        } else {
            file.replace(&bytes, Durability::Cached)?;
        }
        (self.stale, self.shown) = (false, Some((state, link, now)));
        Ok(None)
    }

    /// Hands out what was promised. Everything is durable.
    pub(super) fn acknowledge(&mut self) {
        let receipt = self.receipt();
        for receipts in self.promised.drain(..) {
            // An acknowledgement in place of a refusal would let the agent forget what was refused.
            let is_refusal = |receipt: &Receipt| receipt.problem.is_some();
            receipts.post_unless(self.record.job.clone(), receipt.clone(), is_refusal);
        }
    }

    /// The lines of this commit, each with its line break.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Forgets the lines of this commit, now that everybody was told.
    pub(super) fn settle(&mut self) {
        self.lines.clear();
        self.lines.shrink_to(KEPT_BUFFER);
        self.owed.clear();
        (self.urgent, self.news) = (false, false);
    }

    /// What of the relay's own was not recorded and has to be.
    pub(super) fn unrecorded(&mut self) -> Vec<EventBody> {
        std::mem::take(&mut self.owed)
    }

    /// Who waits for a receipt that can't be given.
    pub(super) fn disappointed(&mut self) -> Vec<Receipts> {
        std::mem::take(&mut self.promised)
    }
}

/// Whether an event has to be recorded on a full disk too: an end, and why nothing else comes.
pub(super) fn is_urgent(body: &EventBody) -> bool {
    matches!(body, EventBody::Finished { .. } | EventBody::LinkLost { .. })
}

fn malformed(error: LineError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
