//! Waiting for a job: woken by changes in the registry's folder instead of polling by time only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::ids::JobId;
use common::record::{JobRecord, State};

use super::{Context, job_ref, view_context};
use crate::exit::Failure;
use crate::files::watch::{Changed, Watch};
use crate::registry::layout;
use crate::registry::log_file::LogReader;
use crate::registry::read::Stored;
use crate::render::{Relay, queue};

/// Wait time before the reason is printed, and the first interval between checks of the reason: a job that starts at
/// once needs no explanation.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Maximum interval between checks of a reason: each check reads every record for the position in the queue.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Maximum number of jobs whose reasons are printed.
const MAX_REASONS: usize = 5;
/// Interval between checks of all jobs: the system's event queue may lose a change.
const FULL_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A wait for one or more jobs.
pub struct Follow<'a> {
    context: &'a Context,
    watch: Watch,
    said: BTreeMap<JobId, Reason>,
    /// Time of the last check of all jobs.
    looked_at: Instant,
}

/// Reason why a job makes no progress, as last printed.
struct Reason {
    looked_at: Instant,
    pause: Duration,
    text: Option<String>,
}

impl<'a> Follow<'a> {
    /// Starts to watch. Jobs must be read after this call, so that no change is missed.
    pub fn new(context: &'a Context) -> Self {
        let watch = Watch::folder(context.registry.folder());
        Self { context, watch, said: BTreeMap::new(), looked_at: Instant::now() }
    }

    /// Returns the jobs among `jobs` that may have changed since the last call, or whose reason is due for a check.
    pub fn changed(&mut self, jobs: &BTreeSet<JobId>) -> Vec<JobId> {
        let now = Instant::now();
        let all = now.duration_since(self.looked_at) >= FULL_CHECK_INTERVAL;
        match self.watch.changed() {
            Changed::Names(names) if !all => {
                let changed = names.iter().filter_map(|name| layout::job_of_record(name.to_str()?));
                let waiting = self.said.iter().filter(|(_, reason)| reason.is_due(now));
                let mut changed: BTreeSet<JobId> = changed.filter(|job| jobs.contains(job)).collect();
                changed.extend(waiting.map(|(job, _)| job.clone()).filter(|job| jobs.contains(job)));
                changed.into_iter().collect()
            }
            Changed::Names(_) | Changed::All => {
                self.looked_at = now;
                jobs.iter().cloned().collect()
            }
        }
    }

    /// Reads a job's record. If the job makes no progress for a new reason, prints the reason to stderr.
    ///
    /// # Errors
    /// Exit code 3 if the job is gone, 5 if its record can't be read.
    pub fn record(&mut self, job: &JobId) -> Result<Stored, Failure> {
        let stored = job_ref::record(&self.context.registry, job)?;
        if stored.record.state.is_final() {
            self.said.remove(job);
        } else {
            self.explain(&stored.record);
        }
        Ok(stored)
    }

    /// Waits for a change, until `deadline` at the latest. Returns true while the deadline has not passed.
    pub fn pause(&self, deadline: Option<Instant>) -> bool {
        self.watch.wait(deadline)
    }

    fn explain(&mut self, record: &JobRecord) {
        let now = Instant::now();
        if self.said.len() >= MAX_REASONS && !self.said.contains_key(&record.job) {
            return;
        }
        let first = Reason { looked_at: now, pause: FIRST_PAUSE, text: None };
        let said = self.said.entry(record.job.clone()).or_insert(first);
        if !said.is_due(now) {
            return;
        }
        said.looked_at = now;
        let view = view_context::view_of(self.context, record);
        let reason = match (record.state, &view.relay) {
            (State::Queued, _) => Some(format!("{} is queued: {}", record.job, queue::reason(&view))),
            (_, Relay::Silent { pid, for_ms }) => {
                Some(format!("{}: {}", record.job, queue::silent(*pid, *for_ms)))
            }
            (_, Relay::Down) => {
                Some(format!("no relay is running: no news of {} until `relay up`", record.job))
            }
            _ => None,
        };
        if said.text == reason {
            said.pause = (said.pause * 2).min(MAX_PAUSE);
            return;
        }
        if let Some(reason) = &reason {
            self.context.output.note(reason);
        }
        (said.text, said.pause) = (reason, FIRST_PAUSE);
    }
}

impl Reason {
    fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.looked_at) >= self.pause
    }
}

/// Passes a job's log on, from the position of `reader`, until the job ends or stdout is closed. Returns the last
/// record that was read.
///
/// The end of a job is recorded after its last output. A log that is read after such a record is therefore complete.
///
/// # Errors
/// As [`Follow::record`]. Exit code 5 if the log can't be read.
pub fn log(
    context: &Context,
    job: &JobId,
    mut reader: LogReader,
    mut pass_on: impl FnMut(&[u8]),
) -> Result<Stored, Failure> {
    let mut follow = Follow::new(context);
    loop {
        let stored = follow.record(job)?;
        let path = stored.home.log(job);
        while let Some(piece) = reader.read(&path).map_err(|e| job_ref::unreadable(job, "log", &e))? {
            pass_on(&piece);
            if context.output.is_closed() {
                return Ok(stored);
            }
        }
        if stored.record.state.is_final() {
            return Ok(stored);
        }
        follow.pause(None);
    }
}
