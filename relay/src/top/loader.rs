//! Data from the registry for the screen.

use common::ids::JobId;
use common::record::{JobRecord, State};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::model::{Model, Pane, Update};
use super::records::Records;
use super::tail::Tail;
use crate::explain;
use crate::registry::lease;
use crate::registry::queue::{Queue, QueueRow};
use crate::registry::{Registry, event_log};
use crate::render::{Paint, RelayState, View};

/// Maximum number of jobs listed. The registry keeps the newest 200 ended jobs; older ones are found by name.
const MAX_LISTED: usize = 300;

/// Reads the registry repeatedly.
pub(super) struct JobListLoader {
    registry: Registry,
    paint: Paint,
    zone: TimeZone,
    records: Records,
    tail: Option<Tail>,
    /// Cached advice for a failed job, whose log no longer changes.
    cached_advice: Option<(JobId, Vec<String>)>,
}

impl JobListLoader {
    /// Creates a reader of a registry, which need not exist yet.
    pub(super) fn new(registry: Registry, paint: Paint) -> Self {
        let zone = TimeZone::system();
        Self { registry, paint, zone, records: Records::default(), tail: None, cached_advice: None }
    }

    /// Reads the data for the screen; `model` provides the selection.
    pub(super) fn load(&mut self, model: Option<&Model>) -> Update {
        let (records, mut error) = match self.records.load(&self.registry, MAX_LISTED) {
            Ok(records) => (records, None),
            Err(e) => (Vec::new(), Some(format!("{}: {e}", self.registry.dir().display()))),
        };
        let view = self.view(&records);
        let selected = model.and_then(|model| Some((model.selected.as_ref()?, model.pane)));
        let tail = match selected {
            Some((job, pane)) if pane != Pane::Closed => self.follow(job, pane, &view).unwrap_or_else(|e| {
                error = Some(format!("{job}: {e}"));
                Vec::new()
            }),
            _ => Vec::new(),
        };
        let record = selected.and_then(|(job, _)| records.iter().find(|record| record.job == *job));
        let advice = record.map(|record| self.advice_for(record, view.now)).unwrap_or_default();
        Update { records, view, tail, advice, error }
    }

    fn view(&self, records: &[JobRecord]) -> View {
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

    /// Reads the newest lines of the selected log or events.
    fn follow(&mut self, job: &JobId, pane: Pane, view: &View) -> std::io::Result<Vec<String>> {
        let pane = if pane == Pane::Events { pane } else { Pane::Log };
        let same = |tail: &Tail| tail.job == *job && tail.pane == pane;
        let tail = match &mut self.tail {
            Some(tail) if same(tail) => tail,
            other => other.insert(Tail::new(job.clone(), pane)),
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
