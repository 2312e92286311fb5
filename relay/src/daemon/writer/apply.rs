//! Applies commands to open jobs. Nothing is durable before the commit.

use std::io;
use std::time::Instant;

use common::event::{Event, EventBody};
use common::ids::JobId;
use common::record::Link;
use common::wire::{Durable, JobProgress};

use super::command::{Command, Receipt, Receipts};
use super::ids::EventIds;
use super::job::{OpenJob, is_urgent};
use super::ownership;
use super::spec;
use super::writer_loop::Writer;
use crate::daemon::core::AgentId;
use crate::daemon::core::ConnectionId;
use crate::registry::read;

impl Writer {
    pub(super) fn apply(&mut self, command: Command, now: Instant) -> io::Result<()> {
        match command {
            Command::Adopt(job) => self.open_job(&job).map(|_| ())?,
            Command::Events { connection_id, job, epoch, first_seq, batch, receipts } => {
                let taken = match self
                    .admit(&connection_id, &job)
                    .and_then(|()| ownership::check_own_name(&connection_id, &batch))
                {
                    Ok(()) => self.events(&job, epoch, first_seq, batch, &receipts),
                    denied => Some(denied),
                };
                if let Some(taken) = taken {
                    self.request_receipt(&connection_id, &job, epoch, taken, &receipts, now);
                }
            }
            Command::Output { connection_id, job, epoch, offset, bytes, receipts } => {
                let full = self.disk.is_full();
                let taken = self.admit(&connection_id, &job).and_then(|()| {
                    self.with_job(&job, |open, _| open.take_output(epoch, offset, &bytes, full))
                });
                self.request_receipt(&connection_id, &job, epoch, taken, &receipts, now);
            }
            Command::Own { job, body } => self.record_own(&job, *body, now),
            Command::DropEnv(job) => spec::drop_env(&self.registry, &job)?,
            Command::MoveLimit { job, job_ms } => {
                spec::move_limit(&self.registry, &job, job_ms)?;
                self.record_own(&job, EventBody::Extended { n: None, limit_ms: job_ms }, now);
            }
            Command::Offer { job, agent } => self.ownership.offer(job, agent),
            Command::Durable { connection_id, jobs, reply } => {
                if self.ownership.connected(&connection_id) {
                    // A wrong answer could end a job, so a job whose files can't be read at the moment gets none.
                    let durable =
                        jobs.iter().filter_map(|progress| self.report_durable(&connection_id, progress));
                    let durable = durable.collect();
                    self.answers.push((connection_id, durable, reply));
                }
            }
            Command::Left(connection_id) => self.ownership.disconnected(&connection_id),
            Command::Flush(reply) => self.flushes.push(reply),
        }
        Ok(())
    }

    /// Records an agent's events, unless they must wait for free space on the disk.
    fn events(
        &mut self,
        job: &JobId,
        epoch: u32,
        first_seq: u64,
        batch: Vec<Event>,
        receipts: &Receipts,
    ) -> Option<io::Result<()>> {
        let has_end = batch.iter().any(|event| matches!(event.body, EventBody::Finished { .. }));
        // A job that is not open any more gets its answer even if the disk is full.
        if self.disk.is_full() && !self.disk.must_record(job, has_end) && self.open_job(job).is_ok() {
            self.defer(job, receipts.clone());
            return None;
        }
        let accepted = batch.iter().any(|event| matches!(event.body, EventBody::Accepted { .. }));
        let taken = self.with_job(job, |open, ids| open.take_events(epoch, first_seq, batch, ids));
        if accepted && taken.is_ok() {
            // The frame with the acceptance may have been lost with its connection.
            spec::forget_env(&self.registry, job);
        }
        Some(taken)
    }

    /// Defers an agent's events until the disk has free space. The record says why no new events are seen.
    pub(super) fn defer(&mut self, job: &JobId, receipts: Receipts) {
        if !self.disk.defer(job, receipts) {
            return;
        }
        let (reason, at) = (self.disk.reason().to_owned(), self.clock.now());
        let told = self.with_job(job, |open, ids| {
            if open.record().link != Some(Link::Connected) {
                return Ok(());
            }
            open.take_own(at, EventBody::LinkLost { reason }, ids)
        });
        if let Err(e) = told {
            tracing::warn!("{job}: its record can't say that the disk is full: {e}");
        }
    }

    pub(super) fn record_own(&mut self, job: &JobId, body: EventBody, now: Instant) {
        if self.disk.is_full() && !is_urgent(&body) {
            return tracing::warn!("{job}: an event of the relay's own is left out: {}", self.disk.reason());
        }
        let (urgent, at) = (is_urgent(&body).then(|| body.clone()), self.clock.now());
        match self.with_job(job, |open, ids| open.take_own(at, body, ids)) {
            Ok(()) => {}
            // The job has ended: nothing follows.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                tracing::error!("{job}: an event could not be recorded: {e}");
                if let Some(body) = urgent {
                    self.queue_retry(job, body, now);
                }
            }
        }
    }

    /// Returns the open job, opening it if necessary; fails with `NotFound` if the job has ended.
    pub(super) fn open_job(&mut self, job: &JobId) -> io::Result<&mut OpenJob> {
        if !self.open.contains_key(job) {
            let mut opened = OpenJob::open(&self.registry, job, &mut self.ids, self.clock.now())?;
            if self.poisoned.contains(job) {
                opened.log().mark_untrusted();
            }
            self.open.insert(job.clone(), opened);
            self.touched.insert(job.clone());
        }
        self.open.get_mut(job).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn with_job<T>(
        &mut self,
        job: &JobId,
        act: impl FnOnce(&mut OpenJob, &mut EventIds) -> io::Result<T>,
    ) -> io::Result<T> {
        self.open_job(job)?;
        self.touched.insert(job.clone());
        match self.open.get_mut(job) {
            Some(open) => act(open, &mut self.ids),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Requests a receipt after the commit. Reports a protocol violation at once; if the job's files fail, its agent
    /// waits.
    fn request_receipt(
        &mut self,
        connection_id: &ConnectionId,
        job: &JobId,
        epoch: u32,
        taken: io::Result<()>,
        receipts: &Receipts,
        now: Instant,
    ) {
        let problem = match (taken, self.open.get_mut(job)) {
            (Ok(()), Some(open)) => return open.request_receipt(receipts),
            // The agent reconnects and receives the answer that the registry needs nothing more of the job.
            (Err(e), _) if e.kind() == io::ErrorKind::NotFound => {
                "it is unknown here, or has ended".to_owned()
            }
            (Ok(()), None) => "it is unknown here, or has ended".to_owned(),
            (Err(e), _) if is_broken_protocol(&e) => e.to_string(),
            (Err(e), _) => {
                self.ownership.demand_resend(connection_id, job);
                return self.set_apart(job, &e, receipts.clone(), now);
            }
        };
        receipts.post(job.clone(), Receipt { epoch, problem: Some(problem), ..Receipt::default() });
    }

    /// Sets a job apart whose files fail: its agent waits.
    pub(super) fn set_apart(&mut self, job: &JobId, error: &io::Error, receipts: Receipts, now: Instant) {
        let is_news = self.quarantine.set_apart(job, receipts, now);
        if is_news && error.kind() != io::ErrorKind::WouldBlock {
            tracing::error!("{job}: its files can't be used ({error}): its events wait at its agent");
        }
    }

    /// Checks that this connection may send data of a job.
    fn admit(&mut self, connection_id: &ConnectionId, job: &JobId) -> io::Result<()> {
        self.open_job(job)?;
        let recorded = self.open.get(job).and_then(|open| open.record().agent.as_deref());
        self.ownership.admit(connection_id, job, recorded)
    }

    /// Returns the same as [`Self::durable`]; `None` if that can't be determined now.
    fn report_durable(&mut self, connection_id: &ConnectionId, progress: &JobProgress) -> Option<Durable> {
        let (durable, job) = (self.durable(&connection_id.agent, progress), &progress.job);
        match &durable {
            Ok(_) => self.ownership.unblock(job),
            Err(e) => {
                tracing::error!("{job}: its durable position can't be read: {e}");
                self.ownership.demand_resend(connection_id, job);
            }
        }
        durable.ok()
    }

    /// Returns what is durable of a job that an agent reports to hold; for a job that is not its own, nothing more is
    /// wanted.
    fn durable(&mut self, agent: &AgentId, progress: &JobProgress) -> io::Result<Durable> {
        let JobProgress { job, epoch, .. } = progress;
        let closed = Durable { job: job.clone(), epoch: *epoch, seq: 0, output: 0, closed: true };
        match self.open_job(job) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(closed),
            open => open.map(|_| ())?,
        }
        let Some(open) = self.open.get(job) else { return Ok(closed) };
        let (record, receipt) = (open.record(), open.receipt());
        if !self.ownership.holds(agent, job, record.agent.as_deref()) {
            return Ok(closed);
        }
        let next = record.epoch.saturating_add(1);
        if record.state.is_final() || !(record.epoch..=next).contains(epoch) {
            return Ok(closed);
        }
        let seq = if record.epoch == *epoch { receipt.seq } else { 0 };
        // Lines that another process has written may not be durable yet: the answer waits for the commit.
        self.touched.insert(job.clone());
        Ok(Durable { seq, output: receipt.output, closed: false, ..closed })
    }

    /// Adds a job that was found ended at startup to the archive's list.
    pub(super) fn add_ended(&mut self, job: &JobId) {
        let finished_at = read::load(&self.registry, job).ok().and_then(|stored| stored.record.finished_at);
        if let Some(finished_at) = finished_at {
            self.archive.add(finished_at, job.clone());
        }
    }
}

/// Returns true if the agent is at fault, and not a file of the job: the error is a refusal by this program.
fn is_broken_protocol(error: &io::Error) -> bool {
    let refused = matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied);
    refused && error.raw_os_error().is_none()
}
