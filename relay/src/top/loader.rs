//! Loader of the data for the screen from the registry.

use common::ids::JobId;
use common::record::{JobRecord, State};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::model::{Model, Pane, Update};
use super::records::RecordCache;
use super::tail::LogTail;
use crate::explain;
use crate::registry::lease;
use crate::registry::queue::{Queue, QueueRow};
use crate::registry::{Registry, event_log};
use crate::render::{Paint, RelayState, View};

/// Maximum number of jobs listed: the newest 200 ended jobs, which the registry does not archive, and 100 others.
const MAX_LISTED: usize = 300;

/// Loader that reads the registry each time, but unchanged files only once.
pub(super) struct JobListLoader {
    registry: Registry,
    paint: Paint,
    zone: TimeZone,
    record_cache: RecordCache,
    log_tail: Option<LogTail>,
    /// Failed job and the advice for that job, which stays the same because an ended job gets no more events.
    cached_advice: Option<(JobId, Vec<String>)>,
}

impl JobListLoader {
    /// Creates a loader for a registry, which need not exist yet.
    pub(super) fn new(registry: Registry, paint: Paint) -> Self {
        let zone = TimeZone::system();
        Self {
            registry,
            paint,
            zone,
            record_cache: RecordCache::default(),
            log_tail: None,
            cached_advice: None,
        }
    }

    /// Reads the data for the screen. `model` says which job is selected and which pane is open.
    pub(super) fn load(&mut self, model: Option<&Model>) -> Update {
        let (records, mut error) = match self.record_cache.load(&self.registry, MAX_LISTED) {
            Ok(records) => (records, None),
            Err(e) => (Vec::new(), Some(format!("{}: {e}", self.registry.dir().display()))),
        };
        let view = self.current_view(&records);
        let selected = model.and_then(|model| Some((model.selected_job.as_ref()?, model.pane)));
        let newest_log_lines = match selected {
            Some((job, pane)) if pane != Pane::Closed => {
                self.newest_lines(job, pane, &view).unwrap_or_else(|e| {
                    error = Some(format!("{job}: {e}"));
                    Vec::new()
                })
            }
            _ => Vec::new(),
        };
        let record = selected.and_then(|(job, _)| records.iter().find(|record| record.job == *job));
        let advice = record.map(|record| self.advice_for(record, view.now)).unwrap_or_default();
        Update { records, view, newest_log_lines, advice, error }
    }

    fn current_view(&self, records: &[JobRecord]) -> View {
        let (is_held, lease) = (lease::is_held(&self.registry), lease::read_lease(&self.registry));
        let now = lease::current_time_of(lease.as_ref());
        let rows: Vec<QueueRow> = records.iter().map(QueueRow::from).collect();
        let groups = lease.as_ref().map(|lease| lease.groups.clone()).unwrap_or_default();
        View {
            now,
            zone: self.zone.clone(),
            relay: RelayState::from_lease(is_held, lease, now),
            queue: Queue::new(&rows, &groups),
            columns: None,
            delivery: None,
            paint: self.paint,
        }
    }

    /// Returns the newest lines of a job's log or events.
    fn newest_lines(&mut self, job: &JobId, pane: Pane, view: &View) -> std::io::Result<Vec<String>> {
        let pane = if pane == Pane::Events { pane } else { Pane::Log };
        let is_followed = |tail: &LogTail| tail.job == *job && tail.pane == pane;
        let tail = match &mut self.log_tail {
            Some(tail) if is_followed(tail) => tail,
            other => other.insert(LogTail::new(job.clone(), pane)),
        };
        // The screen shows text without the log's colors.
        tail.read(&self.registry, &View { paint: Paint::new(false), ..view.clone() })?;
        Ok(tail.lines())
    }

    /// Returns the advice for a failed job.
    fn advice_for(&mut self, record: &JobRecord, now: Timestamp) -> Vec<String> {
        if record.state != State::Failed {
            return Vec::new();
        }
        if let Some((job, advice)) = &self.cached_advice
            && *job == record.job
        {
            return advice.clone();
        }
        let log = event_log::read_log(&self.registry.events(&record.job)).unwrap_or_default();
        let advice = explain::explain(record, &log.lines, now).tries;
        self.cached_advice = Some((record.job.clone(), advice.clone()));
        advice
    }
}
