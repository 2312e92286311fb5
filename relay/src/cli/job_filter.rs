//! Selection of jobs by state, time, group and text.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use common::duration;
use common::ids::{JobId, JobName};
use common::record::State;
use jiff::Timestamp;
use serde::Deserialize;

use super::Context;
use crate::exit::Failure;
use crate::registry::heads::{self, RecordHead};
use crate::registry::{Registry, lease, read};

const ALL_STATES: [State; 7] = [
    State::Queued,
    State::Starting,
    State::Running,
    State::Stopping,
    State::Completed,
    State::Failed,
    State::Cancelled,
];

/// Flags that select jobs.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct FilterFlags {
    /// List jobs in this state; several are separated by commas
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = state_parser(), conflicts_with_all = ["jobs", "latest"])]
    pub(super) state: Vec<State>,
    /// List jobs with an event within this time
    #[arg(long, value_name = "D", value_parser = duration::parse_duration, conflicts_with_all = ["jobs", "latest"])]
    pub(super) since: Option<Duration>,
    /// List jobs of this group
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["jobs", "latest"])]
    pub(super) group: Option<JobName>,
    /// List jobs with this text in their name, task or summary; upper and lower case are the same
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["jobs", "latest"])]
    pub(super) grep: Option<String>,
}

fn state_parser() -> impl TypedValueParser<Value = State> {
    // The parser passes only these names.
    PossibleValuesParser::new(ALL_STATES.map(State::as_str))
        .map(|name| state_named(&name).unwrap_or(State::Queued))
}

/// Returns the state with this name.
pub(super) fn state_named(name: &str) -> Option<State> {
    ALL_STATES.into_iter().find(|state| state.as_str() == name)
}

/// Conditions that select jobs. A job is selected if it meets all of them.
#[derive(Debug, Default)]
pub(super) struct JobFilter {
    states: Vec<State>,
    since: Option<Timestamp>,
    group: Option<JobName>,
    /// Text that the job's name, task or summary contains, in lower case.
    text: Option<String>,
}

/// The searched part of a job's spec.
#[derive(Deserialize)]
struct SpecText {
    prompt: String,
}

impl FilterFlags {
    /// Returns true if no flag is given.
    pub(super) fn is_empty(&self) -> bool {
        self.state.is_empty() && self.since.is_none() && self.group.is_none() && self.grep.is_none()
    }

    /// Returns the filter of these flags. `now` is the current time by the registry's clock.
    pub(super) fn resolve(&self, now: Timestamp) -> JobFilter {
        JobFilter {
            states: self.state.clone(),
            since: self.since.and_then(|age| time_before(now, age)),
            group: self.group.clone(),
            text: self.grep.as_ref().map(|text| text.to_lowercase()),
        }
    }
}

impl JobFilter {
    /// Returns a filter for the jobs of a group.
    pub(super) fn jobs_of_group(group: &JobName) -> Self {
        Self { group: Some(group.clone()), ..Self::default() }
    }

    /// Returns a filter for the jobs that have not ended.
    pub(super) fn unfinished_jobs() -> Self {
        let states = ALL_STATES.into_iter().filter(|state| !state.is_final()).collect();
        Self { states, ..Self::default() }
    }

    /// Returns a filter for failed jobs: if given, only those with an event after `since`, and only those of `group`.
    pub(super) fn failed_jobs(since: Option<Timestamp>, group: Option<&JobName>) -> Self {
        Self { states: vec![State::Failed], since, group: group.cloned(), text: None }
    }

    /// Returns true if the filter selects every job.
    pub(super) fn selects_all(&self) -> bool {
        self.states.is_empty() && self.since.is_none() && self.group.is_none() && self.text.is_none()
    }

    /// Returns true if the filter selects the job. `registry` contains the job's files.
    pub(super) fn selects(&self, head: &RecordHead, registry: &Registry) -> bool {
        (self.states.is_empty() || self.states.contains(&head.state))
            && self.since.is_none_or(|since| head.last_event_at >= since)
            && (self.group.is_none() || head.group == self.group)
            && self.text.as_ref().is_none_or(|text| has_text(head, registry, text))
    }
}

/// Returns the time that lies `age` before `now`; `None` if that time can't be represented.
pub(super) fn time_before(now: Timestamp, age: Duration) -> Option<Timestamp> {
    now.checked_sub(age).ok()
}

fn has_text(head: &RecordHead, registry: &Registry, text: &str) -> bool {
    let contains = |field: &str| field.to_lowercase().contains(text);
    let in_prompt = || {
        let bytes = registry.spec(&head.job).read(read::MAX_FILE_SIZE).ok()?;
        let spec: SpecText = serde_json::from_slice(&bytes).ok()?;
        Some(contains(&spec.prompt))
    };
    contains(&head.job.to_string())
        || contains(&head.prompt_summary)
        || head.summary.as_deref().is_some_and(contains)
        || in_prompt().unwrap_or(false)
}

/// Returns the selected jobs, archived ones included, oldest first.
///
/// # Errors
/// Exit code 5 if the registry can't be read.
pub(super) fn select_jobs(context: &Context, filter: &JobFilter) -> Result<Vec<RecordHead>, Failure> {
    let mut selected = Vec::new();
    let mut found_jobs: BTreeSet<JobId> = BTreeSet::new();
    // The registry is read before its archive, so that a job that is archived meanwhile is found.
    for registry in [context.registry.clone(), context.registry.archive_registry()] {
        let heads = heads::read_heads(&registry).map_err(|e| registry.not_readable(&e))?;
        selected.extend(
            heads.filter(|head| filter.selects(head, &registry) && found_jobs.insert(head.job.clone())),
        );
    }
    selected.sort_by(|a, b| (a.created_at, &a.job).cmp(&(b.created_at, &b.job)));
    Ok(selected)
}

/// Returns the jobs of a group, oldest first.
///
/// # Errors
/// Exit code 3 if no job belongs to the group, 5 if the registry can't be read.
pub(super) fn select_group(context: &Context, group: &JobName) -> Result<Vec<RecordHead>, Failure> {
    let jobs = select_jobs(context, &JobFilter::jobs_of_group(group))?;
    if jobs.is_empty() {
        return Err(Failure::no_such_job(format!(
            "no job of a group '{group}': `relay status JOB` shows the group of a job"
        )));
    }
    Ok(jobs)
}

/// Returns the ids of the jobs of a group, oldest first.
///
/// # Errors
/// Those of [`select_group`].
pub(super) fn select_group_ids(context: &Context, group: &JobName) -> Result<Vec<JobId>, Failure> {
    Ok(select_group(context, group)?.into_iter().map(|head| head.job).collect())
}

/// Returns the current time by the registry's clock, which also gave the times in the records.
pub(super) fn registry_time(context: &Context) -> Timestamp {
    lease::current_time(&context.registry)
}
