//! Advice about a job: a fixed table by kind of failure and kind of step.
//!
//! Placeholders: `{job}`, `{thread}` (the job if it has a thread to resume), `{no_thread}` (the job if not), `{kind}`
//! (of the step), `{more}` (twice the step's limit), `{stall}` (half of the step's limit), `{total}` (duration of the
//! job), `{budget_flag}` (the flag of the budget that is used up) and `{address}` (the address that a process waited
//! for). A line is omitted if the value of one of its placeholders is unknown. `{not_found}` is only such a condition: its value is empty text if the output reports a
//! missing file or program, and otherwise unknown.

use common::budget;
use common::duration;
use common::event::FailureKind;
use common::job::StepKind;
use common::record::{JobRecord, State};
use common::step::Step;
use jiff::Timestamp;

use super::Explanation;
use crate::times::millis_between;

/// Maximum number of lines of advice that are shown.
const MAX_ADVICE_LINES: usize = 4;

/// Filter for the steps that a row of the table applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepFilter {
    /// Steps that mainly wait for the network.
    Network,
    Other,
    Any,
}

/// Advice for a script whose first line ends with a carriage return: the shell can't find the interpreter, but reports
/// the script as missing.
const CRLF_SCRIPT_ADVICE: &str =
    "{not_found}a script that is there and 'not found' may have CRLF line ends: `sed -i 's/\\r$//' FILE`";

/// Advice for a job that was interrupted from outside; one of the two lines applies.
const INTERRUPTED_ADVICE: &[&str] = &[RESUME_ADVICE, RETRY_ADVICE];
const RESUME_ADVICE: &str = "`relay resume {thread} 'go on'` continues: the worker's changes are still there, and it remembers its \
    work";
const RETRY_ADVICE: &str = "`relay retry {no_thread}` runs it again: its changes are still there";

/// Table of advice. The lines of all matching rows are shown, in this order.
const ADVICE_TABLE: &[(FailureKind, StepFilter, &[&str])] = &[
    (
        FailureKind::Stalled,
        StepFilter::Network,
        &[
            "check that {address}, which it waited for, answers from where the worker runs",
            "check the registry, mirror or proxy that it uses: `relay logs {job}` shows its last output",
            "if it is only slow: `relay retry {job} --stall {kind}={stall}`",
        ],
    ),
    (
        FailureKind::Stalled,
        StepFilter::Other,
        &[
            "`relay logs {job}` shows its last output: it may wait for an answer to a question",
            "if no progress is normal there: raise its stall limit (`--stall {kind}={stall}`, or its \
            [[step]] rule)",
        ],
    ),
    (
        FailureKind::StepTimeout,
        StepFilter::Network,
        &["a cache or a nearer mirror makes it faster; `--setup CMD` does it once, before the worker"],
    ),
    (
        FailureKind::StepTimeout,
        StepFilter::Other,
        &[
            "a command that serves, watches or asks never ends by itself: `relay logs {job}` shows its last output",
        ],
    ),
    (
        FailureKind::StepTimeout,
        StepFilter::Any,
        &[
            "if it needs more time: `relay retry {job} --step-timeout {kind}={more}`",
            "next time, while it is still running: `relay extend {job} --step 10m`",
        ],
    ),
    (
        FailureKind::StartTimeout,
        StepFilter::Any,
        &["`relay logs {job}` shows its output; `relay up` reports whether Codex can run"],
    ),
    (
        FailureKind::ModelSilent,
        StepFilter::Any,
        &[
            "check the network and proxy between the worker and the model's server, and the provider's status",
            "if it may think that long: `relay retry {job} --step-timeout model={more}`",
            "`relay retry {job}` runs it again: the worker's changes are still there",
        ],
    ),
    (
        FailureKind::JobTimeout,
        StepFilter::Any,
        &[
            "the table above shows what to make faster; more time at a launch: `--timeout D` with D above {total}",
            "next time, while it is still running: `relay extend {job} 1h`",
        ],
    ),
    (
        FailureKind::CodexError,
        StepFilter::Any,
        &["act on the message: a refusal will be repeated, a broken connection may work next time"],
    ),
    (
        FailureKind::UsageLimit,
        StepFilter::Any,
        &[
            "wait until the limit is lifted, add credits, or give the worker another key or model",
            RESUME_ADVICE,
            RETRY_ADVICE,
        ],
    ),
    (
        FailureKind::RateLimited,
        StepFilter::Any,
        &["wait a little, and run fewer workers at once ([platform] max_jobs)", RESUME_ADVICE, RETRY_ADVICE],
    ),
    (
        FailureKind::Auth,
        StepFilter::Any,
        &[
            "log in again where the worker's Codex runs (`codex login`), or give `relay up` a CODEX_API_KEY that is valid",
            RESUME_ADVICE,
            RETRY_ADVICE,
        ],
    ),
    (
        FailureKind::ContextWindow,
        StepFilter::Any,
        &["split the task, and launch its parts as new jobs: the thread is full, so don't resume it"],
    ),
    (
        FailureKind::Overloaded,
        StepFilter::Any,
        &["wait a little, or choose another model with --model", RESUME_ADVICE, RETRY_ADVICE],
    ),
    (
        FailureKind::CodexOutdated,
        StepFilter::Any,
        &[
            "update Codex: `npm install -g @openai/codex` on this machine, `relay up --build` for a container",
            "or choose a model that this Codex knows, with --model",
            RESUME_ADVICE,
            RETRY_ADVICE,
        ],
    ),
    (
        FailureKind::NoProgress,
        StepFilter::Any,
        &[
            "`relay logs {job}` shows why the step fails: remove that cause, or do it once before the worker (`--setup CMD`)",
            "`relay resume {thread} 'HINT'`: say what it did not find out; it remembers what it tried",
            "if it was waiting for something: `relay retry {job} --on-loop warn`",
        ],
    ),
    (
        FailureKind::DependencyFailed,
        StepFilter::Any,
        &[
            "`relay retry --failed` runs the job that failed and the jobs that wait for it again, in the same order",
            "`relay retry {job} --after OTHER`, with the new job that takes the place of the failed one",
        ],
    ),
    (
        FailureKind::BudgetExceeded,
        StepFilter::Any,
        &[
            "`relay resume {thread} 'go on' {budget_flag}` continues with a new budget; it remembers its work",
            "a smaller task or another model (--model) needs less",
        ],
    ),
    (
        FailureKind::DiskLimit,
        StepFilter::Any,
        &[
            "raise the limit: [platform] disk in platform/relay.toml, then `relay restart`",
            "`relay logs {job}` shows what it wrote; large results belong into the workspace or $RELAY_OUTPUT",
        ],
    ),
    (FailureKind::CodexExit, StepFilter::Any, &["`relay logs {job}` shows its last output"]),
    (FailureKind::Exited, StepFilter::Any, &["`relay logs {job}` shows its last output"]),
    (
        FailureKind::SetupFailed,
        StepFilter::Any,
        &["run the command by itself until it works: `relay run -w DIR -- CMD`", CRLF_SCRIPT_ADVICE],
    ),
    (
        FailureKind::CheckFailed,
        StepFilter::Any,
        &[
            "the worker's changes are still there: run the check by itself with `relay run -w DIR -- CMD`",
            "hand it back to a Codex worker, which remembers its work: `relay resume {job} 'make the check pass'`",
            CRLF_SCRIPT_ADVICE,
        ],
    ),
    (
        FailureKind::ExpectationFailed,
        StepFilter::Any,
        &[
            "`relay logs {job}` shows what it did instead",
            "`relay resume {thread} 'HINT'`: say what is missing; it remembers its work",
            "if the task does not ask for it clearly, launch it again with a clearer task, or without --expect",
        ],
    ),
    (FailureKind::SpawnFailed, StepFilter::Any, &["make sure that the program exists where the worker runs"]),
    (FailureKind::AgentLost, StepFilter::Any, INTERRUPTED_ADVICE),
    (FailureKind::ContainerExited, StepFilter::Any, INTERRUPTED_ADVICE),
    (
        FailureKind::OomKilled,
        StepFilter::Any,
        &["give the platform more memory, or run fewer processes at once (`make -j2`, fewer test threads)"],
    ),
    (FailureKind::Refused, StepFilter::Any, &["act on the message, then `relay retry {job}`"]),
];

/// Advice for a step that makes no progress but may continue.
const NO_PROGRESS_ADVICE: &[&str] = &[
    "check that {address}, which it waits for, answers from where the worker runs",
    "`relay logs -f {job}` shows its output; `relay cancel {job}` ends the job",
];
/// Advice for a step or job that has used half of its limit.
const HALF_USED_ADVICE: &[&str] = &["if it needs longer: `relay extend {job} --step 10m`"];
/// Advice for a job that is still queued.
const QUEUED_ADVICE: &[&str] = &["`relay status {job}` shows what it waits for"];

/// Returns the advice for a job. `current_step` is the innermost running step; `end_at` is the end of the job, or the
/// time of the newest information about a job that has not ended.
pub fn advice_for(
    record: &JobRecord,
    explanation: &Explanation,
    current_step: Option<&Step>,
    end_at: Timestamp,
) -> Vec<String> {
    let step = explanation.cause.as_ref().map_or(current_step, |cause| cause.step.as_ref());
    let rows: Vec<&str> = match &explanation.cause {
        Some(cause) => matching_rows(cause.kind, step.map(|step| step.kind)),
        None if record.state == State::Queued => QUEUED_ADVICE.to_vec(),
        None if record.state.is_final() => Vec::new(),
        None => advice_for_running(explanation, current_step, end_at),
    };
    rows.into_iter()
        .filter_map(|row| fill_placeholders(row, record, explanation, step))
        .take(MAX_ADVICE_LINES)
        .collect()
}

fn matching_rows(kind: FailureKind, step: Option<StepKind>) -> Vec<&'static str> {
    let filter = if step.is_some_and(StepKind::is_network) { StepFilter::Network } else { StepFilter::Other };
    let rows = ADVICE_TABLE
        .iter()
        .filter(|(failure, steps, _)| *failure == kind && [filter, StepFilter::Any].contains(steps));
    rows.flat_map(|(_, _, lines)| lines.iter().copied()).collect()
}

fn advice_for_running(
    explanation: &Explanation,
    current_step: Option<&Step>,
    end_at: Timestamp,
) -> Vec<&'static str> {
    let Some(step) = current_step else { return Vec::new() };
    let mut rows = Vec::new();
    if explanation.signs.iter().any(|sign| sign.what == "stalled" && sign.step == Some(step.n)) {
        rows.extend(NO_PROGRESS_ADVICE);
    }
    if step.limit_ms.is_some_and(|limit| millis_between(step.started_at, end_at) > limit / 2) {
        rows.extend(HALF_USED_ADVICE);
    }
    rows
}

fn fill_placeholders(
    row: &str,
    record: &JobRecord,
    explanation: &Explanation,
    step: Option<&Step>,
) -> Option<String> {
    let job = || record.job.to_string();
    let limit = step.and_then(|step| step.limit_ms);
    let values = [
        ("{job}", Some(job())),
        ("{thread}", record.has_codex_thread().then(job)),
        ("{no_thread}", (!record.has_codex_thread()).then(job)),
        ("{not_found}", reports_missing_file(explanation).then(String::new)),
        ("{kind}", step.map(|step| step.kind.to_string())),
        ("{more}", limit.map(|ms| duration::format_limit(ms.saturating_mul(2)))),
        ("{stall}", limit.map(|ms| duration::format_limit(ms / 2))),
        ("{total}", Some(duration::format_duration(explanation.total_ms))),
        ("{budget_flag}", budget_flag(explanation).map(str::to_owned)),
        ("{address}", explanation.waited_for_address().map(str::to_owned)),
    ];
    let mut text = row.to_owned();
    for (name, value) in values {
        if text.contains(name) {
            text = text.replace(name, &value?);
        }
    }
    Some(text)
}

/// Returns the flag of the budget that is used up. The job's error names it as tokens or as a cost.
fn budget_flag(explanation: &Explanation) -> Option<&'static str> {
    flag_of_message(&explanation.cause.as_ref()?.message)
}

fn flag_of_message(message: &str) -> Option<&'static str> {
    let (_, used) = message.split_once(budget::USED_UP)?;
    Some(if used.contains('$') { "--max-cost USD" } else { "--max-tokens N" })
}

fn reports_missing_file(explanation: &Explanation) -> bool {
    let Some(cause) = &explanation.cause else { return false };
    cause.output.iter().chain([&cause.message]).any(|line| {
        line.contains("not found")
            || line.contains("bad interpreter")
            || line.contains("No such file or directory")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns every kind of failure. The match must be exhaustive, so that a new kind is not forgotten.
    fn all_failure_kinds() -> Vec<FailureKind> {
        use FailureKind as Kind;
        let next = |kind| match kind {
            Kind::SpawnFailed => Some(Kind::StartTimeout),
            Kind::StartTimeout => Some(Kind::StepTimeout),
            Kind::StepTimeout => Some(Kind::Stalled),
            Kind::Stalled => Some(Kind::ModelSilent),
            Kind::ModelSilent => Some(Kind::JobTimeout),
            Kind::JobTimeout => Some(Kind::CodexError),
            Kind::CodexError => Some(Kind::CodexExit),
            Kind::CodexExit => Some(Kind::SetupFailed),
            Kind::SetupFailed => Some(Kind::CheckFailed),
            Kind::CheckFailed => Some(Kind::AgentLost),
            Kind::AgentLost => Some(Kind::ContainerExited),
            Kind::ContainerExited => Some(Kind::OomKilled),
            Kind::OomKilled => Some(Kind::Refused),
            Kind::Refused => Some(Kind::Exited),
            Kind::Exited => Some(Kind::UsageLimit),
            Kind::UsageLimit => Some(Kind::RateLimited),
            Kind::RateLimited => Some(Kind::Auth),
            Kind::Auth => Some(Kind::ContextWindow),
            Kind::ContextWindow => Some(Kind::Overloaded),
            Kind::Overloaded => Some(Kind::CodexOutdated),
            Kind::CodexOutdated => Some(Kind::NoProgress),
            Kind::NoProgress => Some(Kind::ExpectationFailed),
            Kind::ExpectationFailed => Some(Kind::DependencyFailed),
            Kind::DependencyFailed => Some(Kind::BudgetExceeded),
            Kind::BudgetExceeded => Some(Kind::DiskLimit),
            Kind::DiskLimit => None,
        };
        std::iter::successors(Some(Kind::SpawnFailed), |kind| next(*kind)).collect()
    }

    #[test]
    fn the_advice_after_a_budget_names_the_limit_that_was_reached() {
        for (used, flag) in [("5 of 5 tokens", "--max-tokens N"), ("$1.00 of $1.00", "--max-cost USD")] {
            assert_eq!(flag_of_message(&format!("{}{used}", budget::USED_UP)), Some(flag));
        }
        assert_eq!(flag_of_message("the job's cost can't be limited"), None);
    }

    #[test]
    fn every_failure_in_every_kind_of_step_has_advice() {
        for failure in all_failure_kinds() {
            for step in StepKind::ALL.iter().copied().map(Some).chain([None]) {
                let rows = matching_rows(failure, step);
                assert!((1..=MAX_ADVICE_LINES).contains(&rows.len()), "{failure:?} in {step:?}: {rows:?}");
            }
        }
    }
}
