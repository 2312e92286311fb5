//! Content of the relay's logs: checks every line as soon as it is durable, and that it stays there from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::event::{EventBody, FailureKind, FinalState};
use common::event_line::{EventLine, Source};
use common::ids::JobId;
use common::record::JobRecord;
use jiff::{SignedDuration, Timestamp};

use crate::model::{Job, Model, Spooled, Walk};

/// The durable part of the logs.
#[derive(Debug, Default)]
pub(crate) struct Book {
    logs: BTreeMap<JobId, Log>,
    /// Highest id of all lines.
    newest: u64,
}

#[derive(Debug, Default)]
struct Log {
    bytes: Vec<u8>,
    lines: Vec<EventLine>,
    walk: Walk,
    agent: u64,
    relay: u64,
    /// Source that recorded the outcome.
    ended: Option<Source>,
    /// State in which the job ended, and kind of its failure.
    outcome: Option<(FinalState, Option<FailureKind>)>,
    /// Newest and first event of the agent, with their times in the log.
    told: Option<(Spooled, Timestamp)>,
    begun: Option<(Spooled, Timestamp)>,
}

/// Path of a job's file in the registry.
pub(crate) fn file(registry: &Path, job: &JobId, ending: &str) -> PathBuf {
    registry.join(format!("{}.{ending}", job.file_stem()))
}

impl Book {
    /// Checks what a commit or a start has made durable.
    pub(crate) fn look(&mut self, registry: &Path, model: &Model) -> Result<(), String> {
        let mut ids = BTreeSet::new();
        for (id, job) in &model.jobs {
            let bytes = fs::read(file(registry, id, "events.jsonl")).unwrap_or_default();
            let log = self.logs.entry(id.clone()).or_default();
            let told = |error: String| format!("{id}: {error}");
            log.take(&bytes, job, model, self.newest, &mut ids).map_err(told)?;
        }
        self.newest = ids.last().copied().unwrap_or(0).max(self.newest);
        Ok(())
    }

    /// Returns true if the log holds any event.
    pub(crate) fn begun(&self, job: &JobId) -> bool {
        self.logs.get(job).is_some_and(|log| !log.lines.is_empty())
    }

    /// Returns true if the log holds the job's outcome.
    pub(crate) fn ended(&self, job: &JobId) -> bool {
        self.logs.get(job).is_some_and(|log| log.ended.is_some())
    }

    /// Returns true if the log says that the job completed.
    pub(crate) fn completed(&self, job: &JobId) -> bool {
        self.logs
            .get(job)
            .is_some_and(|log| log.outcome.is_some_and(|(state, _)| state == FinalState::Completed))
    }

    /// Returns true if the relay ended the job because a job that it waited for did not complete.
    fn failed_with_dependency(&self, id: &JobId, job: &Job, model: &Model) -> bool {
        let failed = |dependency: &JobId| {
            (self.ended(dependency) && !self.completed(dependency))
                || model.jobs.get(dependency).is_some_and(|dependency| dependency.was_spoiled)
        };
        let kind = self.logs.get(id).and_then(|log| log.outcome).and_then(|(_, kind)| kind);
        kind == Some(FailureKind::DependencyFailed) && !job.is_spooled() && job.after.iter().any(failed)
    }

    /// Sequence number of the newest agent event in a job's log.
    pub(crate) fn agent_seq(&self, job: &JobId) -> u64 {
        self.logs.get(job).map_or(0, |log| log.agent)
    }

    /// Number of a job's entries that its log is past.
    pub(crate) fn walked(&self, job: &JobId) -> usize {
        self.logs.get(job).map_or(0, |log| log.walk.passed())
    }

    /// Number of lines from agents so far.
    pub(crate) fn events(&self) -> u64 {
        self.logs.values().map(|log| log.agent).sum()
    }

    /// Checks that every spooled event is there, or that the relay had a reason to end the job by itself.
    pub(crate) fn complete(&self, id: &JobId, job: &Job, model: &Model) -> Result<(), String> {
        let none = Log::default();
        let log = self.logs.get(id).unwrap_or(&none);
        match (log.ended, job.missing(&log.walk)) {
            (None, _) => Err(format!("{id}: the log has no end")),
            (Some(Source::Relay), _) if job.wiped || job.cancelled || job.damaged => Ok(()),
            (Some(Source::Relay), _) if self.failed_with_dependency(id, job, model) => Ok(()),
            (Some(Source::Relay), _) => {
                Err(format!("{id}: the relay ended it by itself: {:?}", log.lines.last()))
            }
            (Some(Source::Agent), Some(body)) => Err(format!("{id}: {body:?} is lost")),
            (Some(Source::Agent), None) => Ok(()),
        }
    }

    /// Checks that the record on the disk is the fold of the log, byte for byte.
    pub(crate) fn record(&self, registry: &Path, id: &JobId) -> Result<(), String> {
        let Some(log) = self.logs.get(id) else { return Ok(()) };
        let there = fs::read(file(registry, id, "json")).map_err(|e| format!("{id} has no record: {e}"))?;
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
    fn take(
        &mut self,
        bytes: &[u8],
        job: &Job,
        model: &Model,
        floor: u64,
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
                // The log of a job whose record can't be read is not repaired either: no line is written after its torn
                // end.
                Err(_) if job.was_spoiled => break,
                line => line?,
            };
            if line.id <= floor.max(last) || !ids.insert(line.id) {
                return Err(format!("id {} was used before", line.id));
            }
            last = line.id;
            self.add(line, job, model)?;
            taken += raw.len();
        }
        self.bytes.extend_from_slice(&new[..taken]);
        Ok(())
    }

    fn add(&mut self, line: EventLine, job: &Job, model: &Model) -> Result<(), String> {
        let event = line.event.as_ref().ok_or("an event of no known type")?;
        let body = &event.body;
        if self.ended.is_some() {
            return Err(format!("{body:?} follows the end"));
        }
        let (seq, epoch) = match line.source {
            Source::Agent => (&mut self.agent, 1),
            Source::Relay => (&mut self.relay, 0),
        };
        *seq += 1;
        if (line.seq, line.epoch) != (*seq, epoch) {
            return Err(format!("{body:?} is {}.{}, not {epoch}.{seq}", line.epoch, line.seq));
        }
        if line.source == Source::Agent
            && let Some(spooled) = job.walk(&mut self.walk, body)?
            && !job.was_spoiled
        {
            self.timed(spooled, event.at, job, model)?;
        }
        if let EventBody::Finished { state, error, .. } = body {
            self.ended = Some(line.source);
            self.outcome = Some((*state, error.as_ref().map(|error| error.kind)));
        }
        self.lines.push(line);
        Ok(())
    }

    /// Compares an event's age with the log's: exactly if the event beside it comes from the same agent process;
    /// otherwise as exactly as relay and agent can know the other side's time.
    fn timed(&mut self, spooled: Spooled, at: Timestamp, job: &Job, model: &Model) -> Result<(), String> {
        let unsure = |life: u32| model.unsure.get(&life).copied().unwrap_or_default();
        let launched = self.lines.first().and_then(|line| line.event.as_ref()).map(|event| event.at);
        let begun = *self.begun.get_or_insert((spooled, at));
        let own = self.told.replace((spooled, at)).filter(|(last, _)| last.life == spooled.life);
        let since_begin = begun.0.life != spooled.life;
        let checks = [
            own.map(|(last, told)| (last.at, told, EXACT)),
            since_begin.then_some((begun.0.at, begun.1, ROUGH + unsure(begun.0.life) + unsure(spooled.life))),
            launched.map(|launched| (job.launched, launched, ROUGH + unsure(spooled.life))),
        ];
        for (from, told_from, patience) in checks.into_iter().flatten() {
            let (passed, told) = (spooled.at.saturating_sub(from), at.duration_since(told_from));
            let off = (told - SignedDuration::try_from(passed).unwrap_or_default()).unsigned_abs();
            if off > patience {
                return Err(format!("{passed:?} passed, {told:?} by the clock of its log"));
            }
        }
        Ok(())
    }
}

/// Tolerance of times, which are recorded in milliseconds.
const EXACT: Duration = Duration::from_millis(2);
/// Tolerance across clocks: clocks that differ by less than a second count as equal.
const ROUGH: Duration = Duration::from_secs(3);
