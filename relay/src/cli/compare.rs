//! The command `relay compare`.

use clap::Args;
use common::duration;
use common::event::{FailureKind, StepOutcome};
use common::ids::{JobId, JobName};
use common::job::{JobSpec, StepKind};
use common::record::{JobRecord, State};
use common::result::ResultState;
use jiff::Timestamp;
use serde::Serialize;

use super::help::after_help;
use super::job_filter::{self, JobFilter};
use super::{Context, candidates, job_ref};
use crate::exit::{ExitCode, Failure};
use crate::registry::read::{self, StoredRecord};
use crate::render::table;
use crate::times::millis_between;

/// Flags of `relay compare`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Shows how each job ended, which of its checks passed, the size of its change, its tokens and its time.",
    ["relay compare demo-1", "relay compare demo#1 demo#3 --json"]
))]
pub struct CompareArgs {
    /// A group, or jobs: NAME#N, NAME.N, or NAME for its newest job
    #[arg(value_name = "GROUP|JOB", add = candidates::any_job(), required = true)]
    pub(super) jobs: Vec<String>,
}

/// A job in the comparison: a row of the table, or a line of `--json`.
#[derive(Debug, Serialize)]
struct ComparedJob {
    job: JobId,
    state: State,
    /// Kind of the failure.
    error: Option<FailureKind>,
    checks: Checks,
    /// Size of the change; `null` if it is not known.
    change: Option<ChangeSize>,
    /// Other jobs whose changes `change` may include, because they worked in the same folder at the same time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shared_with: Vec<JobId>,
    tokens: Option<Tokens>,
    /// Run time, in milliseconds; `null` for a job that has not started.
    time_ms: Option<u64>,
    branch: Option<String>,
    /// State of the branch.
    result: Option<ResultState>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Checks {
    passed: usize,
    failed: usize,
    /// Number of checks of the job. A check after a failed one does not run.
    total: usize,
}

#[derive(Debug, Serialize)]
struct ChangeSize {
    files: u32,
    insertions: u32,
    deletions: u32,
}

#[derive(Debug, Serialize)]
struct Tokens {
    input: u64,
    output: u64,
}

/// Compares the jobs of a group, or the given jobs.
///
/// # Errors
/// Exit code 3 if there is no such group or job, 2 if a job is ambiguous, 5 if the registry can't be read.
pub fn run(args: &CompareArgs, context: &Context) -> Result<ExitCode, Failure> {
    let now = job_filter::registry_time(context);
    let mut compared = Vec::new();
    for job in find_jobs(args, context)? {
        compared.push(ComparedJob::new(&job_ref::read_record(&context.registry, &job)?, now));
    }
    if context.output.json {
        for job in &compared {
            context.output.print_json(job);
        }
    } else {
        for job in &compared {
            context.output.capture_data(job);
        }
        let header = ["JOB", "STATE", "CHECKS", "CHANGE", "TOKENS", "TIME", "BRANCH"];
        let rows: Vec<[String; 7]> = compared.iter().map(ComparedJob::cells).collect();
        context.output.print(&table::format_table(header, &rows, context.output.paint));
    }
    Ok(ExitCode::Done)
}

/// Finds the jobs to compare. A single word names a group if a job belongs to that group.
fn find_jobs(args: &CompareArgs, context: &Context) -> Result<Vec<JobId>, Failure> {
    if let [word] = args.jobs.as_slice()
        && let Ok(group) = word.parse::<JobName>()
    {
        let heads = job_filter::select_jobs(context, &JobFilter::jobs_of_group(&group))?;
        if !heads.is_empty() {
            return Ok(heads.into_iter().map(|head| head.job).collect());
        }
    }
    job_ref::resolve_jobs(context, &args.jobs).map_err(|failure| match (failure.code, args.jobs.as_slice()) {
        (ExitCode::NoSuchJob, [word]) => Failure::no_such_job(format!("no group or job '{word}'")),
        _ => failure,
    })
}

impl ComparedJob {
    fn new(stored: &StoredRecord, now: Timestamp) -> Self {
        let record = &stored.record;
        let place = read::place_of(&stored.registry, &record.job);
        let result = record.result.as_ref();
        let change = match (result, record.changes) {
            (Some(result), _) => Some((result.files, result.insertions, result.deletions)),
            (None, Some(changes)) => Some((changes.files, changes.insertions, changes.deletions)),
            (None, None) => None,
        };
        let branch = result.map(|result| result.branch.clone());
        Self {
            job: record.job.clone(),
            state: record.state,
            error: record.error.as_ref().map(|error| error.kind),
            checks: Checks::of_record(record, count_checks(stored)),
            change: change.map(|(files, insertions, deletions)| ChangeSize { files, insertions, deletions }),
            shared_with: record.shared_with.clone(),
            tokens: record
                .usage
                .map(|usage| Tokens { input: usage.input_tokens, output: usage.output_tokens }),
            time_ms: record.started_at.map(|at| millis_between(at, record.finished_at.unwrap_or(now))),
            branch: branch.or_else(|| place.map(|place| place.branch().to_owned())),
            result: result.map(|result| result.state),
        }
    }

    fn cells(&self) -> [String; 7] {
        let dash = || "-".to_owned();
        let state = match self.error.and_then(|kind| serde_json::to_value(kind).ok()) {
            Some(kind) => format!("{}: {}", self.state.as_str(), kind.as_str().unwrap_or_default()),
            None => self.state.as_str().to_owned(),
        };
        let change = self.change.as_ref().map(|change| {
            let files = crate::plural::format_count(change.files.into(), "file", "files");
            let sharing = match self.shared_with.as_slice() {
                [] => String::new(),
                [job] => format!(" (shared with {job})"),
                [job, ..] => format!(" (shared with {job} and others)"),
            };
            format!("{files} +{} -{}{sharing}", change.insertions, change.deletions)
        });
        let tokens = self.tokens.as_ref().map(|tokens| format!("{} in, {} out", tokens.input, tokens.output));
        let branch = self.branch.as_ref().map(|branch| match self.result {
            Some(state) if state != ResultState::Open => format!("{branch} ({})", describe_result(state)),
            _ => branch.clone(),
        });
        [
            self.job.to_string(),
            state,
            self.checks.describe(),
            change.unwrap_or_else(dash),
            tokens.unwrap_or_else(dash),
            self.time_ms.map_or_else(dash, duration::format_duration),
            branch.unwrap_or_else(dash),
        ]
    }
}

fn describe_result(state: ResultState) -> &'static str {
    if state == ResultState::None { "no changes" } else { state.as_str() }
}

/// Returns the number of checks in a job's spec.
fn count_checks(stored: &StoredRecord) -> usize {
    let spec = stored.registry.spec(&stored.record.job).read(read::MAX_FILE_SIZE).ok();
    let spec = spec.and_then(|bytes| serde_json::from_slice::<JobSpec>(&bytes).ok());
    spec.map_or(0, |spec| spec.checks.len())
}

impl Checks {
    fn of_record(record: &JobRecord, total: usize) -> Self {
        let outcomes =
            record.steps.iter().filter(|step| step.kind == StepKind::Check).filter_map(|step| step.outcome);
        let (passed, failed): (Vec<_>, Vec<_>) = outcomes.partition(|outcome| *outcome == StepOutcome::Ok);
        Self { passed: passed.len(), failed: failed.len(), total }
    }

    /// Formats the counts, as in `2 of 2 passed` or `1 of 3 passed, 1 failed`.
    fn describe(&self) -> String {
        match self {
            Self { total: 0, .. } => "-".to_owned(),
            Self { passed, failed: 0, total } => format!("{passed} of {total} passed"),
            Self { passed, failed, total } => format!("{passed} of {total} passed, {failed} failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_that_did_not_run_are_not_counted_as_failed() {
        let text = |passed, failed, total| Checks { passed, failed, total }.describe();
        assert_eq!(text(0, 0, 0), "-");
        assert_eq!(text(2, 0, 2), "2 of 2 passed");
        assert_eq!(text(1, 1, 3), "1 of 3 passed, 1 failed");
    }
}
