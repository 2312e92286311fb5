//! Checks of the relay's logs: each durable line must match the model and stay as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::event::{EventBody, FailureKind, FinalState};
use common::event_line::{EventLine, Source};
use common::ids::JobId;
use common::record::JobRecord;
use jiff::{SignedDuration, Timestamp};

use crate::model::{Job, LogMatch, Model, SpoolTime};

/// Durable content of all logs, as far as it was checked.
#[derive(Debug, Default)]
pub(crate) struct LogChecker {
    logs: BTreeMap<JobId, Log>,
    /// Highest id of all lines.
    highest_id: u64,
}

/// Checked content of one job's log.
#[derive(Debug, Default)]
struct Log {
    bytes: Vec<u8>,
    lines: Vec<EventLine>,
    comparison: LogMatch,
    /// Sequence numbers of the newest line of the agent and of the relay.
    agent_seq: u64,
    relay_seq: u64,
    /// Side that recorded the outcome.
    outcome_source: Option<Source>,
    /// State in which the job ended, and the kind of its failure.
    outcome: Option<(FinalState, Option<FailureKind>)>,
    /// Times of the newest and the first agent event: when it was spooled, and what the log says.
    newest_event: Option<(SpoolTime, Timestamp)>,
    first_event: Option<(SpoolTime, Timestamp)>,
}

/// Path of a job's file in the registry.
pub(crate) fn job_file(registry: &Path, job: &JobId, ending: &str) -> PathBuf {
    registry.join(format!("{}.{ending}", job.file_stem()))
}

impl LogChecker {
    /// Checks the lines that a commit or a start of the relay has made durable.
    pub(crate) fn check_new_lines(&mut self, registry: &Path, model: &Model) -> Result<(), String> {
        let mut ids = BTreeSet::new();
        for (id, job) in &model.jobs {
            let bytes = fs::read(job_file(registry, id, "events.jsonl")).unwrap_or_default();
            let log = self.logs.entry(id.clone()).or_default();
            let with_job = |error: String| format!("{id}: {error}");
            log.take_lines(&bytes, job, model, self.highest_id, &mut ids).map_err(with_job)?;
        }
        self.highest_id = ids.last().copied().unwrap_or(0).max(self.highest_id);
        Ok(())
    }

    /// Returns true if the log holds any event.
    pub(crate) fn has_events(&self, job: &JobId) -> bool {
        self.logs.get(job).is_some_and(|log| !log.lines.is_empty())
    }

    /// Returns true if the log holds the job's outcome.
    pub(crate) fn has_outcome(&self, job: &JobId) -> bool {
        self.logs.get(job).is_some_and(|log| log.outcome_source.is_some())
    }

    /// Returns true if the log says that the job completed.
    pub(crate) fn has_completed(&self, job: &JobId) -> bool {
        self.logs
            .get(job)
            .is_some_and(|log| log.outcome.is_some_and(|(state, _)| state == FinalState::Completed))
    }

    /// Returns true if the relay ended the job because a job that it waited for did not complete.
    fn failed_with_dependency(&self, id: &JobId, job: &Job, model: &Model) -> bool {
        let failed = |dependency: &JobId| {
            (self.has_outcome(dependency) && !self.has_completed(dependency))
                || model.jobs.get(dependency).is_some_and(|dependency| dependency.had_bad_record)
        };
        let kind = self.logs.get(id).and_then(|log| log.outcome).and_then(|(_, kind)| kind);
        kind == Some(FailureKind::DependencyFailed) && !job.is_spooled() && job.after.iter().any(failed)
    }

    /// Sequence number of the newest agent event in a job's log.
    pub(crate) fn agent_seq(&self, job: &JobId) -> u64 {
        self.logs.get(job).map_or(0, |log| log.agent_seq)
    }

    /// Number of the model's entries of a job that its log has passed.
    pub(crate) fn matched_entries(&self, job: &JobId) -> usize {
        self.logs.get(job).map_or(0, |log| log.comparison.matched_entries())
    }

    /// Number of agent events in all logs.
    pub(crate) fn agent_events(&self) -> u64 {
        self.logs.values().map(|log| log.agent_seq).sum()
    }

    /// Checks that a job's log holds every spooled event, or that the relay had a reason to end the job by itself.
    pub(crate) fn check_complete(&self, id: &JobId, job: &Job, model: &Model) -> Result<(), String> {
        let none = Log::default();
        let log = self.logs.get(id).unwrap_or(&none);
        match (log.outcome_source, job.missing(&log.comparison)) {
            (None, _) => Err(format!("{id}: the log has no end")),
            (Some(Source::Relay), _) if job.is_wiped || job.is_cancel_requested || job.is_spool_damaged => {
                Ok(())
            }
            (Some(Source::Relay), _) if self.failed_with_dependency(id, job, model) => Ok(()),
            (Some(Source::Relay), _) => {
                Err(format!("{id}: the relay ended it by itself: {:?}", log.lines.last()))
            }
            (Some(Source::Agent), Some(body)) => Err(format!("{id}: {body:?} is lost")),
            (Some(Source::Agent), None) => Ok(()),
        }
    }

    /// Checks that a job's record on the disk is the fold of its log, byte for byte.
    pub(crate) fn check_record(&self, registry: &Path, id: &JobId) -> Result<(), String> {
        let Some(log) = self.logs.get(id) else { return Ok(()) };
        let there =
            fs::read(job_file(registry, id, "json")).map_err(|e| format!("{id} has no record: {e}"))?;
        let folded = JobRecord::rebuild(&log.lines).and_then(|record| record.to_bytes().ok());
        match folded {
            Some(folded) if folded == there => Ok(()),
            folded => Err(format!(
                "{id}: the record is {}\nthe log gives {}",
                String::from_utf8_lossy(&there),
                String::from_utf8_lossy(&folded.unwrap_or_default())
            )),
        }
    }
}

impl Log {
    fn take_lines(
        &mut self,
        bytes: &[u8],
        job: &Job,
        model: &Model,
        highest_id: u64,
        ids: &mut BTreeSet<u64>,
    ) -> Result<(), String> {
        let new =
            bytes.strip_prefix(self.bytes.as_slice()).ok_or("lines that were durable are gone or changed")?;
        let (mut last, mut taken) = (0, 0);
        for raw in new.split_inclusive(|byte| *byte == b'\n') {
            let parsed = EventLine::parse(raw).map_err(|e| format!("{e}: {}", String::from_utf8_lossy(raw)));
            let whole =
                raw.ends_with(b"\n").then_some(()).ok_or_else(|| "the last line has no end".to_owned());
            let line = match parsed.and_then(|line| whole.map(|()| line)) {
                // While a job's record can't be read, its log is not repaired, and no line follows the torn end.
                Err(_) if job.had_bad_record => break,
                line => line?,
            };
            if line.id <= highest_id.max(last) || !ids.insert(line.id) {
                return Err(format!("id {} was used before", line.id));
            }
            last = line.id;
            self.add_line(line, job, model)?;
            taken += raw.len();
        }
        self.bytes.extend_from_slice(&new[..taken]);
        Ok(())
    }

    fn add_line(&mut self, line: EventLine, job: &Job, model: &Model) -> Result<(), String> {
        let event = line.event.as_ref().ok_or("an event of no known type")?;
        let body = &event.body;
        if self.outcome_source.is_some() {
            return Err(format!("{body:?} follows the end"));
        }
        let (seq, epoch) = match line.source {
            Source::Agent => (&mut self.agent_seq, 1),
            Source::Relay => (&mut self.relay_seq, 0),
        };
        *seq += 1;
        if (line.seq, line.epoch) != (*seq, epoch) {
            return Err(format!("{body:?} is {}.{}, not {epoch}.{seq}", line.epoch, line.seq));
        }
        if line.source == Source::Agent
            && let Some(spooled) = job.match_event(&mut self.comparison, body)?
            && !job.had_bad_record
        {
            self.check_time(spooled, event.at, job, model)?;
        }
        if let EventBody::Finished { state, error, .. } = body {
            self.outcome_source = Some(line.source);
            self.outcome = Some((*state, error.as_ref().map(|error| error.kind)));
        }
        self.lines.push(line);
        Ok(())
    }

    /// Compares the time between two events with the time between their lines in the log. The tolerance is small for
    /// two events of one agent process. Otherwise it covers what relay and agent can't know of the other side's clock.
    fn check_time(
        &mut self,
        spooled: SpoolTime,
        at: Timestamp,
        job: &Job,
        model: &Model,
    ) -> Result<(), String> {
        let clock_error =
            |agent_process: u32| model.clock_errors.get(&agent_process).copied().unwrap_or_default();
        let launched = self.lines.first().and_then(|line| line.event.as_ref()).map(|event| event.at);
        let first = *self.first_event.get_or_insert((spooled, at));
        let previous = self
            .newest_event
            .replace((spooled, at))
            .filter(|(event, _)| event.agent_process == spooled.agent_process);
        let is_later_process = first.0.agent_process != spooled.agent_process;
        let tolerance = OTHER_PROCESS_TOLERANCE + clock_error(spooled.agent_process);
        let checks = [
            previous.map(|(event, logged)| (event.at, logged, SAME_PROCESS_TOLERANCE)),
            is_later_process.then_some((first.0.at, first.1, tolerance + clock_error(first.0.agent_process))),
            launched.map(|launched| (job.launched_at, launched, tolerance)),
        ];
        for (from, logged_from, tolerance) in checks.into_iter().flatten() {
            let (passed, logged) = (spooled.at.saturating_sub(from), at.duration_since(logged_from));
            let error = (logged - SignedDuration::try_from(passed).unwrap_or_default()).unsigned_abs();
            if error > tolerance {
                return Err(format!("{passed:?} passed, {logged:?} by the clock of its log"));
            }
        }
        Ok(())
    }
}

/// Tolerance between two events of one agent process: logs hold whole milliseconds.
const SAME_PROCESS_TOLERANCE: Duration = Duration::from_millis(2);
/// Tolerance between other events: the product treats clocks that differ by less than a second as equal.
const OTHER_PROCESS_TOLERANCE: Duration = Duration::from_secs(3);
