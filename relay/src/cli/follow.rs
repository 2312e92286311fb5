//! Waiting for a job: woken by the registry's folder, never by the clock alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::ids::JobId;
use common::record::{JobRecord, State};

use super::{Context, facts, find};
use crate::exit::Failure;
use crate::registry::log_file::LogReader;
use crate::registry::read::Stored;
use crate::registry::watch::Watch;
use crate::render::{Relay, queue};

/// How long a job may wait before its reader is told why, and how often the reason is looked at: a job that starts
/// at once needs no words.
const PATIENCE: Duration = Duration::from_secs(1);

/// A wait for one or more jobs.
pub struct Follow<'a> {
    context: &'a Context,
    watch: Watch,
    said: BTreeMap<JobId, (Instant, Option<String>)>,
}

impl<'a> Follow<'a> {
    /// Begins to watch; look at the jobs after this.
    pub fn new(context: &'a Context) -> Self {
        Self { context, watch: Watch::folder(context.registry.folder()), said: BTreeMap::new() }
    }

    /// Reads a job's record, and says on stderr why it makes no progress when the reason is new.
    ///
    /// # Errors
    /// Exit code 3 when the job is gone, 5 when its record can't be read.
    pub fn record(&mut self, job: &JobId) -> Result<Stored, Failure> {
        let stored = find::record(&self.context.registry, job)?;
        if !stored.record.state.is_final() {
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
        let (looked_at, said) = self.said.entry(record.job.clone()).or_insert((now, None));
        if now.duration_since(*looked_at) < PATIENCE {
            return;
        }
        *looked_at = now;
        let view = facts::view_of(self.context, record);
        let reason = match (record.state, &view.relay) {
            (State::Queued, _) => Some(format!("{} is queued: {}", record.job, queue::reason(&view))),
            (_, Relay::Down) => {
                Some(format!("no relay is running, {} is followed blindly: `relay up`", record.job))
            }
            _ => None,
        };
        if *said != reason {
            if let Some(reason) = &reason {
                self.context.output.note(reason);
            }
            *said = reason;
        }
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
