//! Commits open jobs to the disk, then sends receipts and publishes changes: disk, ack, publish.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use common::ids::JobId;

use super::spec;
use super::write_recovery::RETRY_PAUSE;
use super::writer_loop::Writer;
use crate::files::staged::is_lacking;

/// Maximum number of open logs that keep their descriptor. With more jobs, each log is opened again for its next event,
/// so that a thousand jobs do not need a thousand descriptors.
const MAX_OPEN_LOGS: usize = 64;

impl Writer {
    /// Makes everything that was recorded durable, then sends receipts and changes.
    pub(super) fn commit(&mut self, now: Instant) {
        // A deferred agent is noted in its job's record, which takes one more commit; then the loop ends.
        for _ in 0..2 {
            let failed = self.commit_once(now);
            self.answer(&failed);
            if failed.is_empty() {
                break;
            }
            self.fail_pending(failed, now);
        }
    }

    fn commit_once(&mut self, now: Instant) -> BTreeMap<JobId, io::Error> {
        let group: Vec<JobId> = std::mem::take(&mut self.touched).into_iter().collect();
        let mut failed = BTreeMap::new();
        // 1. write
        for job in &group {
            if let Err(e) = self.write_log(job, now) {
                failed.insert(job.clone(), e);
            }
        }
        // 2. sync: all begin before the first is waited for
        let written: Vec<JobId> = group.into_iter().filter(|job| !failed.contains_key(job)).collect();
        if written.len() > 1 {
            for job in &written {
                if let Some(open) = self.open.get_mut(job) {
                    open.log().begin_sync();
                }
            }
        }
        for job in &written {
            if let Err(e) = self.sync_log(job, now) {
                failed.insert(job.clone(), e);
            }
        }
        let durable: Vec<JobId> = written.into_iter().filter(|job| !failed.contains_key(job)).collect();
        // An agent drops output once it is acknowledged.
        for job in &durable {
            if let Some(open) = self.open.get_mut(job) {
                open.sync_output();
            }
        }
        // 3. records
        let ended = self.refresh(&durable, now);
        // 4. receipts
        for job in &durable {
            self.quarantine.release(job);
            if let Some(open) = self.open.get_mut(job) {
                open.acknowledge();
            }
        }
        // 5. changes
        self.publish(&durable);
        self.archive_ended(&ended);
        failed
    }

    fn write_log(&mut self, job: &JobId, now: Instant) -> io::Result<()> {
        let Some(open) = self.open.get_mut(job) else { return Ok(()) };
        match open.write() {
            Err(e) => self.recover_write(job, e, now),
            Ok(()) => Ok(()),
        }
    }

    fn sync_log(&mut self, job: &JobId, now: Instant) -> io::Result<()> {
        let Some(open) = self.open.get_mut(job) else { return Ok(()) };
        if let Err(e) = open.log().sync() {
            self.recover_sync(job, &e, now)?;
        }
        self.poisoned.remove(job);
        Ok(())
    }

    /// Refreshes records that are due. Returns the jobs whose record now shows their end.
    pub(super) fn refresh(&mut self, jobs: &[JobId], now: Instant) -> Vec<JobId> {
        let mut ended = Vec::new();
        for job in jobs {
            self.due.remove(job);
            let Some(open) = self.open.get_mut(job) else { continue };
            let is_final = open.record().state.is_final();
            if is_final {
                // For any outcome (cancelled in the queue, refused, lost), and before the end is visible.
                spec::forget_env(&self.registry, job);
            }
            let mut refreshed = open.refresh(&self.registry, now, false);
            // The new record replaces an older one, so it needs the extra space only for a moment.
            if refreshed.as_ref().is_err_and(is_lacking) && (self.disk.give_up_reserve(now) || is_final) {
                refreshed = open.refresh(&self.registry, now, is_final);
            }
            match refreshed {
                Ok(None) if is_final => ended.push(job.clone()),
                Ok(None) => {}
                Ok(Some(due)) => drop(self.due.insert(job.clone(), due)),
                Err(e) => {
                    if !is_lacking(&e) {
                        tracing::warn!("{job}: its record could not be written, its log is right: {e}");
                    }
                    self.due.insert(job.clone(), now + RETRY_PAUSE);
                }
            }
        }
        ended
    }

    /// Refreshes every record.
    pub(super) fn refresh_all(&mut self, now: Instant) {
        let jobs: Vec<JobId> = self.due.keys().cloned().collect();
        let ended = self.refresh(&jobs, now + RETRY_PAUSE);
        self.archive_ended(&ended);
    }

    /// Sends the changed records to the core, and the recorded lines to the subscribers.
    fn publish(&mut self, jobs: &[JobId]) {
        let mut batch = self.broadcast.begin_batch();
        for job in jobs {
            let Some(open) = self.open.get_mut(job) else { continue };
            batch.add(job, open.lines());
            if open.is_changed() {
                self.changes.post(job.clone(), open.record().clone());
            }
            open.clear_lines();
        }
        self.broadcast.publish(batch, self.ids.newest());
        if self.open.len() > MAX_OPEN_LOGS {
            for job in jobs {
                if let Some(open) = self.open.get_mut(job) {
                    open.log().close();
                }
            }
        }
    }

    /// Sends the answers that waited for the commit, without the jobs that failed.
    fn answer(&mut self, failed: &BTreeMap<JobId, io::Error>) {
        for (connection_id, mut durable, reply) in self.answers.drain(..) {
            durable.retain(|durable| {
                let is_known = durable.closed || !failed.contains_key(&durable.job);
                if !is_known {
                    self.ownership.demand_resend(&connection_id, &durable.job);
                }
                is_known
            });
            // The receiver may have gone away.
            let _ = reply.send(durable);
        }
    }

    pub(super) fn archive_ended(&mut self, ended: &[JobId]) {
        for job in ended {
            self.ownership.forget(job);
            if let Some(open) = self.open.remove(job)
                && let Some(finished_at) = open.record().finished_at
            {
                self.archive.add(finished_at, job.clone());
            }
        }
        if !ended.is_empty() {
            self.archive.trim(&self.registry);
        }
    }
}
