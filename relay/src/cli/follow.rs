//! Waits for changes of jobs, through changes in the registry's folder.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::ids::JobId;
use common::record::{JobRecord, State};

use super::{Context, job_ref, view_context};
use crate::exit::Failure;
use crate::files::watch::{ChangedEntries, FolderWatch};
use crate::registry::layout;
use crate::registry::log_file::LogReader;
use crate::registry::read::StoredRecord;
use crate::render::hold_text::hold_text;
use crate::render::{RelayState, queue};

/// Time before the command prints why a job is waiting, and first interval between checks of that reason. A job that
/// starts at once needs no explanation.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Maximum interval between checks of the reason why a job is waiting. A check reads every record to find the job's
/// position in the queue.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Maximum number of jobs for which the command prints why they are waiting.
const MAX_PRINTED_REASONS: usize = 5;
/// Interval between checks of all jobs: the system's event queue may lose a change.
const FULL_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Watches jobs for changes, and prints why a job is waiting or has no news.
pub struct JobFollower<'a> {
    context: &'a Context,
    watch: FolderWatch,
    printed_reasons: BTreeMap<JobId, PrintedReason>,
    /// Time of the last check of all jobs.
    last_full_check: Instant,
}

/// The reason last printed for a job that is waiting or has no news, and the time of its next check.
struct PrintedReason {
    checked_at: Instant,
    pause: Duration,
    text: Option<String>,
}

impl<'a> JobFollower<'a> {
    /// Starts to watch. Jobs must be read after this call, so that no change is missed.
    pub fn new(context: &'a Context) -> Self {
        let watch = FolderWatch::registry_folder(context.registry.folder());
        Self { context, watch, printed_reasons: BTreeMap::new(), last_full_check: Instant::now() }
    }

    /// Returns the jobs among `jobs` that may have changed since the last call, or whose reason for waiting is due for
    /// a check.
    pub fn changed_jobs(&mut self, jobs: &BTreeSet<JobId>) -> Vec<JobId> {
        let now = Instant::now();
        let is_full_check_due = now.duration_since(self.last_full_check) >= FULL_CHECK_INTERVAL;
        match self.watch.take_changes() {
            ChangedEntries::Names(names) if !is_full_check_due => {
                let changed = names.iter().filter_map(|name| layout::job_of_record(name.to_str()?));
                let waiting = self.printed_reasons.iter().filter(|(_, reason)| reason.is_due(now));
                let mut changed: BTreeSet<JobId> = changed.filter(|job| jobs.contains(job)).collect();
                changed.extend(waiting.map(|(job, _)| job.clone()).filter(|job| jobs.contains(job)));
                changed.into_iter().collect()
            }
            ChangedEntries::Names(_) | ChangedEntries::All => {
                self.last_full_check = now;
                jobs.iter().cloned().collect()
            }
        }
    }

    /// Reads a job's record. If the job is queued or relay sends no news of it, prints the reason to stderr, unless it
    /// was the last one printed.
    ///
    /// # Errors
    /// Exit code 3 if the job is gone, 5 if its record can't be read.
    pub fn read_record(&mut self, job: &JobId) -> Result<StoredRecord, Failure> {
        let stored = job_ref::read_record(&self.context.registry, job)?;
        if stored.record.state.is_final() {
            self.printed_reasons.remove(job);
        } else {
            self.explain_wait(&stored.record);
        }
        Ok(stored)
    }

    /// Waits for a change, until `deadline` at the latest. Returns true while the deadline has not passed.
    pub fn wait_for_change(&self, deadline: Option<Instant>) -> bool {
        self.watch.wait(deadline)
    }

    fn explain_wait(&mut self, record: &JobRecord) {
        let now = Instant::now();
        if self.printed_reasons.len() >= MAX_PRINTED_REASONS
            && !self.printed_reasons.contains_key(&record.job)
        {
            return;
        }
        let first_reason = PrintedReason { checked_at: now, pause: FIRST_PAUSE, text: None };
        let printed = self.printed_reasons.entry(record.job.clone()).or_insert(first_reason);
        // A wait for another job is printed at once.
        let is_new_wait = (record.waiting.is_some() || record.held.is_some()) && printed.text.is_none();
        if !printed.is_due(now) && !is_new_wait {
            return;
        }
        printed.checked_at = now;
        let view = view_context::view_of_job(self.context, record);
        let reason = match (record.state, &view.relay) {
            (state, RelayState::Up(_)) if state != State::Queued && record.held.is_some() => {
                record.held.as_ref().map(|hold| format!("{} is {}", record.job, hold_text(hold, &view)))
            }
            (State::Queued, _) => {
                Some(format!("{} is queued: {}", record.job, queue::queue_reason_of(record, &view)))
            }
            (_, RelayState::Silent { pid, for_ms }) => {
                Some(format!("{}: {}", record.job, queue::silent_relay_message(*pid, *for_ms)))
            }
            (_, RelayState::Down) => {
                Some(format!("no relay is running: no news of {} until `relay up`", record.job))
            }
            _ => None,
        };
        if printed.text == reason {
            printed.pause = (printed.pause * 2).min(MAX_PAUSE);
            return;
        }
        if let Some(reason) = &reason {
            self.context.output.print_note(reason);
        }
        (printed.text, printed.pause) = (reason, FIRST_PAUSE);
    }
}

impl PrintedReason {
    fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.checked_at) >= self.pause
    }
}

/// Passes a job's log to `on_bytes`, from the position of `reader`, until the job ends or stdout is closed. Returns the
/// last record.
///
/// A job's last output is in the log before the final record, so a log that is read after this record is complete.
///
/// # Errors
/// Same as [`JobFollower::read_record`]. Exit code 5 if the log can't be read.
pub fn follow_log(
    context: &Context,
    job: &JobId,
    mut reader: LogReader,
    mut on_bytes: impl FnMut(&[u8]),
) -> Result<StoredRecord, Failure> {
    let mut follower = JobFollower::new(context);
    loop {
        let stored = follower.read_record(job)?;
        let path = stored.registry.log(job);
        while let Some(bytes) = reader.read(&path).map_err(|e| job_ref::unreadable_file(job, "log", &e))? {
            on_bytes(&bytes);
            if context.output.is_closed() {
                return Ok(stored);
            }
        }
        if stored.record.state.is_final() {
            return Ok(stored);
        }
        follower.wait_for_change(None);
    }
}
