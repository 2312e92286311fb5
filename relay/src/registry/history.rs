//! All event logs as one sequence: every event after a cursor, in id order. Memory use does not depend on the number of
//! events.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use common::ids::JobId;

use super::chunk::Chunk;
use super::log_cursor::LogCursor;
use super::{Registry, layout};
use crate::files::refused::RefusedEntry;

/// Maximum number of open logs. Events of concurrent jobs alternate, so their logs stay open. With more concurrent
/// jobs, a log is opened again each time it has the next event.
const MAX_OPEN_LOGS: usize = 16;

/// Events after a cursor and up to an id, read on demand.
#[derive(Debug)]
pub struct EventHistory {
    /// The registry, then its archive, to which the daemon may have moved a log.
    registries: [Registry; 2],
    cursor: u64,
    last_id: u64,
    /// Logs by the id of their next event. The first log is the next to read.
    logs_by_next_id: BTreeMap<u64, JobLog>,
}

/// Event log of a job that has more events to read.
#[derive(Debug)]
struct JobLog {
    job: JobId,
    /// Read position, while the log is open.
    open_cursor: Option<LogCursor>,
}

impl EventHistory {
    /// Finds the events after `since` and up to `last_id`, of one job or of all jobs.
    ///
    /// If `since` is 0, "all jobs" means the jobs that are not archived. Any other cursor belongs to a reader that
    /// continues: it also receives the events of jobs that were archived meanwhile.
    pub fn open(registry: &Registry, job: Option<&JobId>, since: u64, last_id: u64) -> io::Result<Self> {
        let mut history = Self {
            registries: [registry.clone(), registry.archive_registry()],
            cursor: since,
            last_id,
            logs_by_next_id: BTreeMap::new(),
        };
        let mut jobs: BTreeSet<JobId> = job.into_iter().cloned().collect();
        if job.is_none() {
            // The registry is read first, so that a job that is archived between the two reads is found at least once.
            jobs = jobs_with_logs(registry)?;
            if since > 0 {
                jobs.extend(jobs_with_logs(&history.registries[1])?);
            }
        }
        for job in jobs {
            if let Some(log_cursor) = history.open_log_after(&job, since)?
                && log_cursor.id() <= last_id
            {
                history.logs_by_next_id.insert(log_cursor.id(), JobLog { job, open_cursor: None });
            }
        }
        Ok(history)
    }

    /// Returns true if all events were read.
    pub fn is_over(&self) -> bool {
        self.cursor >= self.last_id
    }

    /// Returns the next lines of the logs, sorted by id.
    pub fn next_chunk(&mut self) -> io::Result<Chunk> {
        let mut chunk = Chunk::new(self.cursor);
        while !chunk.is_full() {
            let Some((id, log)) = self.logs_by_next_id.pop_first() else {
                chunk.cursor = self.last_id;
                break;
            };
            self.read_until_other_log(id, log, &mut chunk)?;
        }
        self.cursor = chunk.cursor;
        Ok(chunk)
    }

    /// Moves lines of one log into the chunk until another log has the next event.
    fn read_until_other_log(&mut self, id: u64, log: JobLog, chunk: &mut Chunk) -> io::Result<()> {
        let until_id =
            self.logs_by_next_id.first_key_value().map_or(self.last_id, |(next, _)| self.last_id.min(*next));
        let log_cursor = match log.open_cursor {
            Some(cursor) => Some(cursor),
            None => self.open_log_after(&log.job, id - 1)?,
        };
        let Some(mut log_cursor) = log_cursor else { return Ok(()) };
        // Events after `last_id` are not durable yet.
        while log_cursor.id() <= until_id && !chunk.is_full() {
            chunk.push(log_cursor.id(), log_cursor.line());
            match log_cursor.advance() {
                Ok(true) => {}
                Err(e) if RefusedEntry::from_error(&e).is_none() => return Err(e),
                // The log has no further line, or it is refused.
                Ok(false) | Err(_) => return Ok(()),
            }
        }
        if log_cursor.id() <= self.last_id {
            self.logs_by_next_id
                .insert(log_cursor.id(), JobLog { job: log.job, open_cursor: Some(log_cursor) });
            self.close_latest_log();
        }
        Ok(())
    }

    /// Closes the open log whose next event is the latest, if too many are open.
    fn close_latest_log(&mut self) {
        if self.logs_by_next_id.values().filter(|log| log.open_cursor.is_some()).count() > MAX_OPEN_LOGS
            && let Some(log) = self.logs_by_next_id.values_mut().rev().find(|log| log.open_cursor.is_some())
        {
            log.open_cursor = None;
        }
    }

    /// Opens a job's log at its first event after `since`. A log that is missing, or not safe to open (a
    /// [`RefusedEntry`], such as a link), is skipped.
    fn open_log_after(&self, job: &JobId, since: u64) -> io::Result<Option<LogCursor>> {
        for registry in &self.registries {
            match LogCursor::open_after(&registry.events(job), since) {
                Err(e) if e.kind() == io::ErrorKind::NotFound || RefusedEntry::from_error(&e).is_some() => {}
                result => return result,
            }
        }
        Ok(None)
    }
}

fn jobs_with_logs(registry: &Registry) -> io::Result<BTreeSet<JobId>> {
    let names = match registry.folder().names() {
        Err(e) if RefusedEntry::from_error(&e).is_some() => Vec::new(),
        names => names?,
    };
    Ok(names.iter().filter_map(|name| layout::job_of_events(name)).collect())
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
