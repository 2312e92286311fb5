//! All event logs as one sequence: every event after a cursor, in id order, in memory that does not grow with the
//! number of events.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use common::ids::JobId;

use super::chunk::Chunk;
use super::log_cursor::LogCursor;
use super::{Registry, layout};
use crate::files::refused::Refused;

/// Maximum number of open logs. Events alternate between jobs that run side by side; beyond this number, a log is
/// reopened at each of its turns.
const MAX_OPEN_LOGS: usize = 16;

/// The events up to some id, read on demand.
#[derive(Debug)]
pub struct History {
    /// The registry, then its archive: the daemon may have moved a log there.
    homes: [Registry; 2],
    cursor: u64,
    until: u64,
    /// Each log under the id of its next event. The first entry is the next to read.
    logs: BTreeMap<u64, Log>,
}

#[derive(Debug)]
struct Log {
    job: JobId,
    /// Read position, while the log is open.
    place: Option<LogCursor>,
}

impl History {
    /// Finds the events after `since` and up to `until`, of one job or of all.
    ///
    /// With `since` 0, `all` means the jobs that are not archived. Any other cursor belongs to a reader that continues:
    /// it also receives the events of jobs archived meanwhile.
    pub fn open(registry: &Registry, job: Option<&JobId>, since: u64, until: u64) -> io::Result<Self> {
        let mut history = Self {
            homes: [registry.clone(), registry.archived()],
            cursor: since,
            until,
            logs: BTreeMap::new(),
        };
        let mut jobs: BTreeSet<JobId> = job.into_iter().cloned().collect();
        if job.is_none() {
            // The registry first: a job that is archived in between is found at least once.
            jobs = logs(registry)?;
            if since > 0 {
                jobs.extend(logs(&history.homes[1])?);
            }
        }
        for job in jobs {
            if let Some(place) = history.find(&job, since)?
                && place.id() <= until
            {
                history.logs.insert(place.id(), Log { job, place: None });
            }
        }
        Ok(history)
    }

    /// Returns true if everything was read.
    pub fn is_over(&self) -> bool {
        self.cursor >= self.until
    }

    /// Returns the next lines.
    pub fn next_chunk(&mut self) -> io::Result<Chunk> {
        let mut chunk = Chunk::new(self.cursor);
        while !chunk.is_full() {
            let Some((id, log)) = self.logs.pop_first() else {
                chunk.cursor = self.until;
                break;
            };
            self.take_turn(id, log, &mut chunk)?;
        }
        self.cursor = chunk.cursor;
        Ok(chunk)
    }

    /// Moves lines of one log into the chunk until another log has the next event.
    fn take_turn(&mut self, id: u64, log: Log, chunk: &mut Chunk) -> io::Result<()> {
        let turn = self.logs.first_key_value().map_or(self.until, |(next, _)| self.until.min(*next));
        let place = match log.place {
            Some(place) => Some(place),
            None => self.find(&log.job, id - 1)?,
        };
        let Some(mut place) = place else { return Ok(()) };
        // Events after `until` are not durable yet.
        while place.id() <= turn && !chunk.is_full() {
            chunk.push(place.id(), place.line());
            match place.advance() {
                Ok(true) => {}
                Err(e) if Refused::from_error(&e).is_none() => return Err(e),
                // After an invalid line there is nothing to read.
                Ok(false) | Err(_) => return Ok(()),
            }
        }
        if place.id() <= self.until {
            self.logs.insert(place.id(), Log { job: log.job, place: Some(place) });
            self.close_one();
        }
        Ok(())
    }

    /// Closes the open log whose next event comes last, when too many are open.
    fn close_one(&mut self) {
        if self.logs.values().filter(|log| log.place.is_some()).count() > MAX_OPEN_LOGS
            && let Some(log) = self.logs.values_mut().rev().find(|log| log.place.is_some())
        {
            log.place = None;
        }
    }

    /// Opens a job's log at its first event after `since`. A refused log has no events.
    fn find(&self, job: &JobId, since: u64) -> io::Result<Option<LogCursor>> {
        for home in &self.homes {
            match LogCursor::open_after(&home.events(job), since) {
                Err(e) if e.kind() == io::ErrorKind::NotFound || Refused::from_error(&e).is_some() => {}
                found => return found,
            }
        }
        Ok(None)
    }
}

/// Returns the jobs with a log in this folder.
fn logs(home: &Registry) -> io::Result<BTreeSet<JobId>> {
    let names = match home.folder().names() {
        Err(e) if Refused::from_error(&e).is_some() => Vec::new(),
        names => names?,
    };
    Ok(names.iter().filter_map(|name| layout::job_of_events(name)).collect())
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
