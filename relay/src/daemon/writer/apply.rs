//! Applies commands to open jobs. The changes are durable only after the next commit.

use std::io;
use std::time::Instant;

use common::event::{Event, EventBody};
use common::ids::JobId;
use common::record::{JobRecord, Link};
use common::wire::{Durable, JobProgress};

use super::command::{Receipt, Receipts, WriterCommand};
use super::ids::EventIds;
use super::job::{OpenJob, is_urgent};
use super::ownership;
use super::spec;
use super::writer_loop::Writer;
use crate::daemon::core::AgentId;
use crate::daemon::core::ConnectionId;
use crate::registry::read;

impl Writer {
    pub(super) fn apply_command(&mut self, command: WriterCommand, now: Instant) -> io::Result<()> {
        match command {
            WriterCommand::OpenJob(job) => self.open_found_job(&job)?,
            WriterCommand::Events { connection_id, job, epoch, first_seq, batch, receipts } => {
                let result = match self
                    .check_sender(&connection_id, &job)
                    .and_then(|()| ownership::check_accepted_agent(&connection_id, &batch))
                {
                    Ok(()) => self.record_events(&job, epoch, first_seq, batch, &receipts),
                    denied => Some(denied),
                };
                if let Some(result) = result {
                    self.request_receipt(&connection_id, &job, epoch, result, &receipts, now);
                }
            }
            WriterCommand::Output { connection_id, job, epoch, offset, bytes, receipts } => {
                let is_full = self.disk_full_state.is_full();
                let result = self.check_sender(&connection_id, &job).and_then(|()| {
                    self.with_open_job(&job, |open_job, _| {
                        open_job.add_output(epoch, offset, &bytes, is_full)
                    })
                });
                self.request_receipt(&connection_id, &job, epoch, result, &receipts, now);
            }
            WriterCommand::RecordRelayEvent { job, body } => self.record_relay_event(&job, *body, now),
            WriterCommand::RemoveEnvValues(job) => spec::remove_env_values(&self.registry, &job)?,
            WriterCommand::WriteSpecLimit { job, job_ms } => {
                spec::write_spec_limit(&self.registry, &job, job_ms)?;
                self.record_relay_event(&job, EventBody::Extended { n: None, limit_ms: job_ms }, now);
            }
            WriterCommand::WriteSpecBase { job, commit } => {
                spec::write_spec_base(&self.registry, &job, &commit)?;
            }
            WriterCommand::AssignOffer { job, agent } => self.ownership.offer(job, agent),
            WriterCommand::QueryDurable { connection_id, jobs, reply } => {
                if self.ownership.on_connect(&connection_id) {
                    // A job whose files can't be read at the moment gets no answer, because a wrong answer could end
                    // the job.
                    let durable =
                        jobs.iter().filter_map(|progress| self.report_durable(&connection_id, progress));
                    let durable = durable.collect();
                    self.pending_answers.push((connection_id, durable, reply));
                }
            }
            WriterCommand::CheckRun { connection_id, job, epoch, reply } => {
                // Sending fails if the connection has ended.
                let _ = reply.send(self.check_run(&connection_id, &job, epoch));
            }
            WriterCommand::RemoveConnection(connection_id) => self.ownership.on_disconnect(&connection_id),
            WriterCommand::Flush(reply) => self.pending_flushes.push(reply),
        }
        Ok(())
    }

    /// Records an agent's events, unless they must wait for free space on the disk.
    fn record_events(
        &mut self,
        job: &JobId,
        epoch: u32,
        first_seq: u64,
        batch: Vec<Event>,
        receipts: &Receipts,
    ) -> Option<io::Result<()>> {
        let has_end = batch.iter().any(|event| matches!(event.body, EventBody::Finished { .. }));
        // The events of an ended job are not deferred, so that its agent learns even then that the job is closed.
        if self.disk_full_state.is_full()
            && !self.disk_full_state.note_and_must_record(job, has_end)
            && self.open_job(job).is_ok()
        {
            self.defer(job, receipts.clone());
            return None;
        }
        let is_accepted = batch.iter().any(|event| matches!(event.body, EventBody::Accepted { .. }));
        let result =
            self.with_open_job(job, |open_job, ids| open_job.add_agent_events(epoch, first_seq, batch, ids));
        if is_accepted && result.is_ok() {
            // Normally the agent's `accepted` frame has this effect, but it may have been lost with the connection.
            spec::remove_env_values_or_log(&self.registry, job);
        }
        Some(result)
    }

    /// Defers an agent's events until the disk has free space. The job's record shows why no new events arrive.
    pub(super) fn defer(&mut self, job: &JobId, receipts: Receipts) {
        if !self.disk_full_state.defer(job, receipts) {
            return;
        }
        let (reason, at) = (self.disk_full_state.shortage_reason().to_owned(), self.clock.now());
        let recorded = self.with_open_job(job, |open_job, ids| {
            if open_job.record().link != Some(Link::Connected) {
                return Ok(());
            }
            open_job.add_relay_event(at, EventBody::LinkLost { reason }, ids)
        });
        if let Err(e) = recorded {
            tracing::warn!("{job}: the full disk can't be noted in its record: {e}");
        }
    }

    pub(super) fn record_relay_event(&mut self, job: &JobId, body: EventBody, now: Instant) {
        if self.disk_full_state.is_full() && !is_urgent(&body) {
            return tracing::warn!(
                "{job}: an event of the relay itself is left out: {}",
                self.disk_full_state.shortage_reason()
            );
        }
        let (urgent_body, at) = (is_urgent(&body).then(|| body.clone()), self.clock.now());
        if matches!(body, EventBody::Result(_))
            && let Err(e) = self.open_ended_job(job)
        {
            tracing::error!("{job}: its result can't be recorded: {e}");
            return self.queue_retry(job, body, now);
        }
        match self.with_open_job(job, |open_job, ids| open_job.add_relay_event(at, body, ids)) {
            Ok(()) => {}
            // The job has ended, so no event may follow.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                tracing::error!("{job}: an event could not be recorded: {e}");
                if let Some(body) = urgent_body {
                    self.queue_retry(job, body, now);
                }
            }
        }
    }

    /// Returns the open job, opening it if necessary; fails with `NotFound` if the job has ended.
    pub(super) fn open_job(&mut self, job: &JobId) -> io::Result<&mut OpenJob> {
        if !self.open_jobs.contains_key(job) {
            let mut open_job = OpenJob::open(&self.registry, job, &mut self.event_ids, self.clock.now())?;
            if self.untrusted_logs.contains(job) {
                open_job.event_file().mark_untrusted();
            }
            self.open_jobs.insert(job.clone(), open_job);
            self.jobs_to_commit.insert(job.clone());
        }
        self.open_jobs.get_mut(job).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Opens a job that the core has found in the registry. If the job has ended, the core gets its final record.
    fn open_found_job(&mut self, job: &JobId) -> io::Result<()> {
        match self.open_job(job) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            open_job => return open_job.map(|_| ()),
        }
        if let Ok(stored) = read::load_record(&self.registry, job)
            && let Some(finished_at) = stored.record.finished_at
        {
            spec::remove_env_values_or_log(&self.registry, job);
            self.archive_queue.add_ended_job(finished_at, job.clone());
            self.changes.post(job.clone(), stored.record);
        }
        Ok(())
    }

    /// Opens a job that has ended, so that its result can be recorded. The next commit closes it again.
    fn open_ended_job(&mut self, job: &JobId) -> io::Result<()> {
        match self.open_job(job) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            open_job => return open_job.map(|_| ()),
        }
        let open_job =
            match OpenJob::open_for_result(&self.registry, job, &mut self.event_ids, self.clock.now()) {
                // The job was removed meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                open_job => open_job?,
            };
        self.open_jobs.insert(job.clone(), open_job);
        Ok(())
    }

    fn with_open_job<T>(
        &mut self,
        job: &JobId,
        change: impl FnOnce(&mut OpenJob, &mut EventIds) -> io::Result<T>,
    ) -> io::Result<T> {
        self.open_job(job)?;
        self.jobs_to_commit.insert(job.clone());
        match self.open_jobs.get_mut(job) {
            Some(open_job) => change(open_job, &mut self.event_ids),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Requests a receipt, which is sent after the commit. Reports a protocol violation at once. If the job's files
    /// fail, no receipt is sent, and the agent keeps its data.
    fn request_receipt(
        &mut self,
        connection_id: &ConnectionId,
        job: &JobId,
        epoch: u32,
        result: io::Result<()>,
        receipts: &Receipts,
        now: Instant,
    ) {
        let problem = match (result, self.open_jobs.get_mut(job)) {
            (Ok(()), Some(open_job)) => return open_job.request_receipt(receipts),
            // The agent reconnects and learns that the job is closed.
            (Err(e), _) if e.kind() == io::ErrorKind::NotFound => {
                "it is unknown here, or has ended".to_owned()
            }
            (Ok(()), None) => "it is unknown here, or has ended".to_owned(),
            (Err(e), _) if is_protocol_violation(&e) => e.to_string(),
            (Err(e), _) => {
                self.ownership.demand_resend(connection_id, job);
                return self.quarantine_job(job, &e, receipts.clone(), now);
            }
        };
        receipts.post(job.clone(), Receipt { epoch, reconnect_reason: Some(problem), ..Receipt::default() });
    }

    /// Quarantines a job whose files fail. The job's agent waits for a receipt.
    pub(super) fn quarantine_job(
        &mut self,
        job: &JobId,
        error: &io::Error,
        receipts: Receipts,
        now: Instant,
    ) {
        let is_new = self.quarantine.add_job(job, receipts, now);
        if is_new && error.kind() != io::ErrorKind::WouldBlock {
            tracing::error!("{job}: its files can't be used ({error}): its events wait at its agent");
        }
    }

    /// Checks that a connection may send data of a job.
    fn check_sender(&mut self, connection_id: &ConnectionId, job: &JobId) -> io::Result<()> {
        self.open_job(job)?;
        let recorded = self.open_jobs.get(job).and_then(|open_job| open_job.record().agent.as_deref());
        self.ownership.check_sender(connection_id, job, recorded)
    }

    /// Checks that a connection may act for a run, and that the run is the running one. Returns the job's record.
    fn check_run(
        &mut self,
        connection_id: &ConnectionId,
        job: &JobId,
        epoch: u32,
    ) -> Result<Box<JobRecord>, String> {
        self.check_sender(connection_id, job).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => format!("{job} is unknown here, or has ended"),
            io::ErrorKind::WouldBlock => format!("{job}: its events are not recorded at the moment"),
            _ => format!("{job}: {e}"),
        })?;
        match self.open_jobs.get(job).map(OpenJob::record) {
            Some(record) if record.epoch == epoch && !record.state.is_final() => Ok(Box::new(record.clone())),
            _ => Err(format!("{job}: run {epoch} is not the running one")),
        }
    }

    /// Returns the result of [`Self::durable_state`]; `None` if the job's files can't be read at the moment.
    fn report_durable(&mut self, connection_id: &ConnectionId, progress: &JobProgress) -> Option<Durable> {
        let (durable, job) = (self.durable_state(&connection_id.agent, progress), &progress.job);
        match &durable {
            Ok(_) => self.ownership.unblock(job),
            Err(e) => {
                tracing::error!("{job}: its durable position can't be read: {e}");
                self.ownership.demand_resend(connection_id, job);
            }
        }
        durable.ok()
    }

    /// Returns the durable state of a job that an agent's hello names. A job of another agent is reported as closed.
    fn durable_state(&mut self, agent: &AgentId, progress: &JobProgress) -> io::Result<Durable> {
        let JobProgress { job, epoch, .. } = progress;
        let closed_answer = Durable { job: job.clone(), epoch: *epoch, seq: 0, output: 0, closed: true };
        match self.open_job(job) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(closed_answer),
            open_job => open_job.map(|_| ())?,
        }
        let Some(open_job) = self.open_jobs.get(job) else { return Ok(closed_answer) };
        let (record, receipt) = (open_job.record(), open_job.receipt());
        if !self.ownership.assign_or_check_owner(agent, job, record.agent.as_deref()) {
            return Ok(closed_answer);
        }
        let next_epoch = record.epoch.saturating_add(1);
        if record.state.is_final() || !(record.epoch..=next_epoch).contains(epoch) {
            return Ok(closed_answer);
        }
        let seq = if record.epoch == *epoch { receipt.seq } else { 0 };
        // Lines that another process has written may not be durable yet, so the answer waits for the commit.
        self.jobs_to_commit.insert(job.clone());
        Ok(Durable { seq, output: receipt.output_offset, closed: false, ..closed_answer })
    }

    /// Adds a job that had ended before startup to the archive queue.
    pub(super) fn add_to_archive_queue(&mut self, job: &JobId) {
        let finished_at =
            read::load_record(&self.registry, job).ok().and_then(|stored| stored.record.finished_at);
        if let Some(finished_at) = finished_at {
            self.archive_queue.add_ended_job(finished_at, job.clone());
        }
    }
}

/// Returns true if the agent violated the protocol, and false for an error of the job's files.
fn is_protocol_violation(error: &io::Error) -> bool {
    let refused = matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied);
    refused && error.raw_os_error().is_none()
}
