//! Waiting for a job: woken by the registry's folder, never by the clock alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::ids::JobId;
use common::record::{JobRecord, State};

use super::{Context, facts, find};
use crate::exit::Failure;
use crate::registry::layout;
use crate::registry::log_file::LogReader;
use crate::registry::read::Stored;
use crate::registry::watch::{Changed, Watch};
use crate::render::{Relay, queue};

/// How long a job may wait before its reader is told why, and how often the reason is looked at: a job that starts
/// at once needs no words.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest time between two looks at a reason: each reads every record for the place in the queue.
const LONGEST: Duration = Duration::from_secs(30);
/// Jobs whose reasons are told: nobody reads those of a hundred.
const TOLD: usize = 5;
/// Between two looks at every job: a queue of the system's may lose a change.
const FULL_LOOK: Duration = Duration::from_secs(10);

/// A wait for one or more jobs.
pub struct Follow<'a> {
    context: &'a Context,
    watch: Watch,
    said: BTreeMap<JobId, Reason>,
    /// When every job was last looked at.
    looked_at: Instant,
}

/// Why a job makes no progress, as it was last told.
struct Reason {
    looked_at: Instant,
    pause: Duration,
    text: Option<String>,
}

impl<'a> Follow<'a> {
    /// Begins to watch; look at the jobs after this.
    pub fn new(context: &'a Context) -> Self {
        let watch = Watch::folder(context.registry.folder());
        Self { context, watch, said: BTreeMap::new(), looked_at: Instant::now() }
    }

    /// Those of `jobs` that may have changed since the last call, or whose reason for waiting is to be looked at.
    pub fn changed(&mut self, jobs: &BTreeSet<JobId>) -> Vec<JobId> {
        let now = Instant::now();
        let all = now.duration_since(self.looked_at) >= FULL_LOOK;
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

    /// Reads a job's record, and says on stderr why it makes no progress when the reason is new.
    ///
    /// # Errors
    /// Exit code 3 when the job is gone, 5 when its record can't be read.
    pub fn record(&mut self, job: &JobId) -> Result<Stored, Failure> {
        let stored = find::record(&self.context.registry, job)?;
        if stored.record.state.is_final() {
            self.said.remove(job);
        } else {
            self.explain(&stored.record);
        }
        Ok(stored)
    }

    /// Waits for a change, until `deadline` at the latest; returns whether the deadline is still ahead.
    pub fn pause(&self, deadline: Option<Instant>) -> bool {
        self.watch.wait(deadline)
    }

    fn explain(&mut self, record: &JobRecord) {
        let now = Instant::now();
        if self.said.len() >= TOLD && !self.said.contains_key(&record.job) {
            return;
        }
        let first = Reason { looked_at: now, pause: PATIENCE, text: None };
        let said = self.said.entry(record.job.clone()).or_insert(first);
        if !said.is_due(now) {
            return;
        }
        said.looked_at = now;
        let view = facts::view_of(self.context, record);
        let reason = match (record.state, &view.relay) {
            (State::Queued, _) => Some(format!("{} is queued: {}", record.job, queue::reason(&view))),
            (_, Relay::Silent { pid, for_ms }) => {
                Some(format!("{}: {}", record.job, queue::silent(*pid, *for_ms)))
            }
            (_, Relay::Down) => {
                Some(format!("no relay is running, {} is followed blindly: `relay up`", record.job))
            }
            _ => None,
        };
        if said.text == reason {
            said.pause = (said.pause * 2).min(LONGEST);
            return;
        }
        if let Some(reason) = &reason {
            self.context.output.note(reason);
        }
        (said.text, said.pause) = (reason, PATIENCE);
    }
}

impl Reason {
    fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.looked_at) >= self.pause
    }
}

/// Passes a job's log on from where `reader` stands until the job has ended or nobody reads stdout any more. Returns the
/// job's record as it was last seen. A job's end is recorded behind its last output, so a log that is read after its
/// record says so is whole.
///
/// # Errors
/// As [`Follow::record`], or when the log can't be read.
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
        while let Some(piece) = reader.read(&path).map_err(|e| find::unreadable(job, "log", &e))? {
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
