//! Commits open jobs to the disk, then sends receipts and publishes changes: disk, ack, publish.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use common::ids::JobId;

use super::spec;
use super::write_recovery::RETRY_PAUSE;
use super::writer_loop::Writer;
use crate::files::staged::is_out_of_space;

/// Maximum number of open logs that keep their descriptor. With more jobs, logs are closed after each commit, so that a
/// thousand jobs don't need a thousand descriptors.
const MAX_OPEN_LOGS: usize = 64;

impl Writer {
    /// Makes everything that was recorded durable, then sends receipts and publishes changes.
    pub(super) fn commit(&mut self, now: Instant) {
        // The first commit may fail and defer events. A second commit then shows the deferral in the jobs' records.
        for _ in 0..2 {
            let failures = self.commit_once(now);
            self.answer_durable_queries(&failures);
            if failures.is_empty() {
                break;
            }
            self.fail_pending(failures, now);
        }
    }

    fn commit_once(&mut self, now: Instant) -> BTreeMap<JobId, io::Error> {
        let jobs: Vec<JobId> = std::mem::take(&mut self.jobs_to_commit).into_iter().collect();
        let mut failures = BTreeMap::new();
        // 1. write
        for job in &jobs {
            if let Err(e) = self.write_log(job, now) {
                failures.insert(job.clone(), e);
            }
        }
        // 2. sync: all syncs begin before the first wait
        let written_jobs: Vec<JobId> = jobs.into_iter().filter(|job| !failures.contains_key(job)).collect();
        if written_jobs.len() > 1 {
            for job in &written_jobs {
                if let Some(open_job) = self.open_jobs.get_mut(job) {
                    open_job.event_file().begin_sync();
                }
            }
        }
        for job in &written_jobs {
            if let Err(e) = self.sync_log(job, now) {
                failures.insert(job.clone(), e);
            }
        }
        let durable_jobs: Vec<JobId> =
            written_jobs.into_iter().filter(|job| !failures.contains_key(job)).collect();
        // The output must be on disk before it is acknowledged, because the agent then deletes its copy.
        for job in &durable_jobs {
            if let Some(open_job) = self.open_jobs.get_mut(job) {
                open_job.sync_output();
            }
        }
        // 3. records
        let ended_jobs = self.refresh_records(&durable_jobs, now);
        // 4. receipts
        for job in &durable_jobs {
            self.quarantine.release_job(job);
            if let Some(open_job) = self.open_jobs.get_mut(job) {
                open_job.send_receipts();
            }
        }
        // 5. changes
        self.publish_changes(&durable_jobs);
        self.archive_ended(&ended_jobs);
        failures
    }

    fn write_log(&mut self, job: &JobId, now: Instant) -> io::Result<()> {
        let Some(open_job) = self.open_jobs.get_mut(job) else { return Ok(()) };
        match open_job.write_log() {
            Err(e) => self.recover_write(job, e, now),
            Ok(()) => Ok(()),
        }
    }

    fn sync_log(&mut self, job: &JobId, now: Instant) -> io::Result<()> {
        let Some(open_job) = self.open_jobs.get_mut(job) else { return Ok(()) };
        if let Err(e) = open_job.event_file().sync() {
            self.recover_sync(job, &e, now)?;
        }
        self.untrusted_logs.remove(job);
        Ok(())
    }

    /// Writes the records of `jobs` that are due. Returns the jobs whose record now shows their end.
    pub(super) fn refresh_records(&mut self, jobs: &[JobId], now: Instant) -> Vec<JobId> {
        let mut ended_jobs = Vec::new();
        for job in jobs {
            self.refresh_due.remove(job);
            let Some(open_job) = self.open_jobs.get_mut(job) else { continue };
            let is_final = open_job.record().state.is_final();
            if is_final {
                // The environment values are removed for every outcome, and before readers see the end of the job.
                spec::remove_env_values_or_log(&self.registry, job);
            }
            let mut result = open_job.refresh_record(now, false);
            // The new record needs space only until it replaces the old one, so the reserve may be used for it.
            if result.as_ref().is_err_and(is_out_of_space)
                && (self.disk_full_state.release_reserve(now) || is_final)
            {
                result = open_job.refresh_record(now, is_final);
            }
            match result {
                Ok(None) if is_final => ended_jobs.push(job.clone()),
                Ok(None) => {}
                Ok(Some(due)) => drop(self.refresh_due.insert(job.clone(), due)),
                Err(e) => {
                    if !is_out_of_space(&e) {
                        tracing::warn!("{job}: its record could not be written, but its log is correct: {e}");
                    }
                    self.refresh_due.insert(job.clone(), now + RETRY_PAUSE);
                }
            }
        }
        ended_jobs
    }

    pub(super) fn refresh_all_records(&mut self, now: Instant) {
        let jobs: Vec<JobId> = self.refresh_due.keys().cloned().collect();
        let ended_jobs = self.refresh_records(&jobs, now + RETRY_PAUSE);
        self.archive_ended(&ended_jobs);
    }

    /// Sends the changed records to the core, and the recorded lines to the subscribers.
    fn publish_changes(&mut self, jobs: &[JobId]) {
        let mut batch = self.broadcast.begin_batch();
        for job in jobs {
            let Some(open_job) = self.open_jobs.get_mut(job) else { continue };
            batch.add(job, open_job.lines());
            if open_job.is_changed() {
                self.changes.post(job.clone(), open_job.record().clone());
            }
            open_job.clear_lines();
        }
        self.broadcast.publish(batch, self.event_ids.newest_id());
        if self.open_jobs.len() > MAX_OPEN_LOGS {
            for job in jobs {
                if let Some(open_job) = self.open_jobs.get_mut(job) {
                    open_job.event_file().close();
                }
            }
        }
    }

    /// Answers the agents that asked which events are durable. Leaves out jobs whose commit failed.
    fn answer_durable_queries(&mut self, failures: &BTreeMap<JobId, io::Error>) {
        for (connection_id, mut durable_jobs, reply) in self.pending_answers.drain(..) {
            durable_jobs.retain(|durable| {
                let is_known = durable.closed || !failures.contains_key(&durable.job);
                if !is_known {
                    self.ownership.demand_resend(&connection_id, &durable.job);
                }
                is_known
            });
            // Sending fails if the connection has ended.
            let _ = reply.send(durable_jobs);
        }
    }

    /// Closes jobs that have ended, and archives the oldest ended jobs.
    pub(super) fn archive_ended(&mut self, ended_jobs: &[JobId]) {
        for job in ended_jobs {
            self.ownership.remove_job(job);
            if let Some(open_job) = self.open_jobs.remove(job)
                && !open_job.is_archived(&self.registry)
                && let Some(finished_at) = open_job.record().finished_at
            {
                self.archive_queue.add_ended_job(finished_at, job.clone());
            }
        }
        if !ended_jobs.is_empty() {
            self.archive_queue.archive_oldest(&self.registry);
        }
    }
}
