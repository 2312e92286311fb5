//! Recovers from a failed write or sync of an event log.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::ids::JobId;

use super::job::OpenJob;
use super::writer_loop::Writer;
use crate::files::staged::is_out_of_space;

/// Maximum number of events of the relay itself in the retry queue: two for each of a thousand jobs.
const MAX_RETRY_QUEUE: usize = 2000;
/// Pause before another attempt to record an event of the relay itself, or to write a record.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Writer {
    /// Recovers from a failed write of a log: removes partly written lines, and releases the reserve for urgent lines.
    pub(super) fn recover_write(&mut self, job: &JobId, error: io::Error, now: Instant) -> io::Result<()> {
        if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) {
            return self.write_with_fewer_descriptors(job);
        }
        let Some(open_job) = self.open_jobs.get_mut(job) else { return Ok(()) };
        if !is_out_of_space(&error) || open_job.event_file().truncate_unsynced().is_err() {
            return self.recover_sync(job, &error, now);
        }
        let has_urgent_lines = open_job.has_urgent_lines();
        self.disk_full_state.set_full(now);
        if !(has_urgent_lines && self.disk_full_state.release_reserve(now)) {
            return Err(error);
        }
        match open_job.write_log() {
            Err(e) => {
                // If truncating fails, the file stays untrusted, which `fail_pending` checks.
                let _ = open_job.event_file().truncate_unsynced();
                Err(e)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Recovers from a failure after which it is unknown what is on the disk: rewrites the log.
    pub(super) fn recover_sync(&mut self, job: &JobId, error: &io::Error, now: Instant) -> io::Result<()> {
        tracing::error!("{job}: its log can't be trusted and is rewritten: {error}");
        let Some(open_job) = self.open_jobs.get_mut(job) else { return Ok(()) };
        // Lines that are not durable should not be visible. If truncating fails, the file is replaced anyway.
        let _ = open_job.event_file().truncate_unsynced();
        let result = match open_job.rewrite_log() {
            Err(e)
                if is_out_of_space(&e)
                    && open_job.has_urgent_lines()
                    && self.disk_full_state.release_reserve(now) =>
            {
                open_job.rewrite_log()
            }
            result => result,
        };
        if result.is_err() {
            self.untrusted_logs.insert(job.clone());
        }
        result
    }

    /// Closes the log files of all jobs, because the process has too many open files, and writes the job's log again.
    fn write_with_fewer_descriptors(&mut self, job: &JobId) -> io::Result<()> {
        self.open_jobs.values_mut().for_each(|open_job| open_job.event_file().close());
        self.open_jobs.get_mut(job).map_or(Ok(()), OpenJob::write_log)
    }

    /// Closes jobs whose commit failed. The next command opens them again in their durable state. No receipts are sent:
    /// the agents keep the events until there is free space, or until the job's files work again.
    pub(super) fn fail_pending(&mut self, failures: BTreeMap<JobId, io::Error>, now: Instant) {
        for (job, error) in failures {
            let Some(mut open_job) = self.open_jobs.remove(&job) else { continue };
            self.refresh_due.remove(&job);
            if open_job.event_file().is_untrusted() {
                self.untrusted_logs.insert(job.clone());
            }
            for body in open_job.take_unrecorded() {
                self.queue_retry(&job, body, now);
            }
            let lacks_space = is_out_of_space(&error);
            if lacks_space {
                self.disk_full_state.set_full(now);
            }
            for receipts in open_job.take_receipts() {
                if lacks_space {
                    self.defer(&job, receipts);
                } else {
                    self.quarantine_job(&job, &error, receipts, now);
                }
            }
        }
    }

    /// Queues an event of the relay itself that could not be recorded. [`Self::retry_queued`] records it later.
    pub(super) fn queue_retry(&mut self, job: &JobId, body: EventBody, now: Instant) {
        if self.retry_queue.len() < MAX_RETRY_QUEUE {
            self.retry_queue.push((job.clone(), body));
            self.retry_due = Some(now + RETRY_PAUSE);
        }
    }

    /// Tries again to record the events in the retry queue.
    pub(super) fn retry_queued(&mut self, now: Instant) {
        self.retry_due = None;
        for (job, body) in std::mem::take(&mut self.retry_queue) {
            self.record_relay_event(&job, body, now);
        }
        self.commit(now);
    }
}
