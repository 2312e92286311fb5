//! Recovery from a failed write or sync of a log.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::ids::JobId;

use super::job::OpenJob;
use super::writer_loop::Writer;
use crate::files::staged::is_lacking;

/// Maximum number of own events in the retry queue: as many jobs as there may be, twice over.
const MAX_QUEUED: usize = 2000;
/// Pause before the next attempt to record or refresh what failed.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Writer {
    /// Recovers from a failed write: takes half-written lines back, and gives up the reserve for a final event.
    pub(super) fn recover_write(&mut self, job: &JobId, error: io::Error, now: Instant) -> io::Result<()> {
        if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) {
            return self.write_with_fewer_descriptors(job);
        }
        let Some(open) = self.open.get_mut(job) else { return Ok(()) };
        if !is_lacking(&error) || open.log().truncate_unsynced().is_err() {
            return self.recover_sync(job, &error, now);
        }
        let urgent = open.is_urgent();
        self.disk.set_full(now);
        if !(urgent && self.disk.give_up_reserve(now)) {
            return Err(error);
        }
        match open.write() {
            Err(e) => {
                // If truncating fails, the file stays poisoned, which `fail_pending` checks.
                let _ = open.log().truncate_unsynced();
                Err(e)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Recovers from a failure that leaves the disk's content in doubt: rewrites the log.
    pub(super) fn recover_sync(&mut self, job: &JobId, error: &io::Error, now: Instant) -> io::Result<()> {
        tracing::error!("{job}: its log can't be trusted and is rewritten: {error}");
        let Some(open) = self.open.get_mut(job) else { return Ok(()) };
        // Lines that are not durable should not be visible either; the file is replaced in any case.
        let _ = open.log().truncate_unsynced();
        let renewed = match open.rewrite_log() {
            Err(e) if is_lacking(&e) && open.is_urgent() && self.disk.give_up_reserve(now) => {
                open.rewrite_log()
            }
            renewed => renewed,
        };
        if renewed.is_err() {
            self.poisoned.insert(job.clone());
        }
        renewed
    }

    fn write_with_fewer_descriptors(&mut self, job: &JobId) -> io::Result<()> {
        self.open.values_mut().for_each(|open| open.log().close());
        self.open.get_mut(job).map_or(Ok(()), OpenJob::write)
    }

    /// Closes jobs whose commit failed. The next command opens them again, from what is durable. Connections that wait
    /// for a receipt get none: their events wait for free space, or until the job's files work again.
    pub(super) fn fail_pending(&mut self, failed: BTreeMap<JobId, io::Error>, now: Instant) {
        for (job, error) in failed {
            let Some(mut open) = self.open.remove(&job) else { continue };
            self.due.remove(&job);
            if open.log().is_poisoned() {
                self.poisoned.insert(job.clone());
            }
            for body in open.take_unrecorded() {
                self.queue_retry(&job, body, now);
            }
            let lacking = is_lacking(&error);
            if lacking {
                self.disk.set_full(now);
            }
            for receipts in open.take_receipts() {
                if lacking {
                    self.defer(&job, receipts);
                } else {
                    self.set_apart(&job, &error, receipts, now);
                }
            }
        }
    }

    /// Queues an event of the relay's own that must be recorded and could not be; it is retried a little later.
    pub(super) fn queue_retry(&mut self, job: &JobId, body: EventBody, now: Instant) {
        if self.retry_queue.len() < MAX_QUEUED {
            self.retry_queue.push((job.clone(), body));
            self.retry_due = Some(now + RETRY_PAUSE);
        }
    }

    /// Retries the queued events.
    pub(super) fn retry_queued(&mut self, now: Instant) {
        self.retry_due = None;
        for (job, body) in std::mem::take(&mut self.retry_queue) {
            self.record_own(&job, body, now);
        }
        self.commit(now);
    }
}
