//! The command `relay verify`.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use common::evidence::CheckEvidence;
use common::ids::{JobId, JobName};
use common::job::{JobSpec, Runner};
use common::origin::Origin;
use common::record::JobRecord;
use common::result::ResultState;
use common::text_format::one_line;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::claim_notice::claim_and_show;
use super::follow_up::EarlierJob;
use super::help::after_help;
use super::job_result::PlacedJob;
use super::place::PlaceRequest;
use super::receipt::{project_receipts, read_receipt, receipt_key};
use super::resolve::{Launch, ResolveContext};
use super::submit::{self, DaemonState};
use super::{Context, candidates, follow, job_result, place, session};
use crate::exit::{ExitCode, Failure};
use crate::git::{digest, discard};
use crate::receipt::envelope::Envelope;
use crate::receipt::key::ReceiptKey;
use crate::receipt::statement::{CheckClaim, Claims, Statement};
use crate::registry::create::{CreateResult, Schedule};
use crate::registry::log_file::LogReader;
use crate::{failure_text, start_daemon};

/// Maximum time between the end of the verifying job and its result.
const RESULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum length of a command line in the output, in bytes.
const MAX_COMMAND_LENGTH: usize = 100;

/// Flags of `relay verify`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Checks the signature of the receipt and the digest of the change. Then runs setup and checks of the job \
     again, in a fresh clone at the commit of the receipt, and compares exit codes. Output that differs is \
     named, but does not count. Exit code 1 if anything else differs.",
    ["relay verify demo", "relay verify demo#2 --env NPM_TOKEN"]
))]
pub struct VerifyArgs {
    /// NAME#N, NAME.N, or NAME for its newest job
    #[arg(value_name = "JOB", add = candidates::ended_jobs())]
    pub(super) job: String,
    /// Environment variable for the checks: KEY (with its value here) or KEY=VALUE; repeatable [default: the names of
    /// JOB, with their values here]
    #[arg(long, value_name = "KEY")]
    pub(super) env: Vec<String>,
}

/// Result of the check of one claim in the receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// The claim, such as `signature`, `change` or `check 1`.
    what: String,
    agrees: bool,
    /// Result of the check, in one line.
    found: String,
}

impl Finding {
    fn new(what: impl Into<String>, agrees: bool, found: impl Into<String>) -> Self {
        Self { what: what.into(), agrees, found: found.into() }
    }
}

/// Output of `relay verify --json`.
#[derive(Serialize)]
struct Verification<'a> {
    job: &'a JobId,
    verified: bool,
    findings: &'a [Finding],
}

/// Checks the receipt of a job, and runs the job's checks again.
///
/// # Errors
/// Exit code 3 if the job does not exist, 2 if it is ambiguous or has no receipt, 5 if no relay can run the checks.
pub fn run(args: &VerifyArgs, context: &Context) -> Result<ExitCode, Failure> {
    let receipts = project_receipts(context)?;
    let job = PlacedJob::find(context, Some(&args.job))?;
    let receipt = read_receipt(&receipts, &job, context)?;
    let mut findings = Vec::new();
    match read_claims(&receipt, &receipt_key(&receipts)?, &job) {
        Ok(claims) => {
            findings.push(Finding::new("signature", true, "that of this project's key"));
            findings.extend(compare_change(&job, &claims)?);
            if findings.iter().all(|finding| finding.agrees) {
                findings.extend(verify_checks(args, context, &job, &claims)?);
            }
        }
        Err(reason) => findings.push(Finding::new("receipt", false, reason)),
    }
    let verified = findings.iter().all(|finding| finding.agrees);
    if context.output.json {
        context.output.print_json(&Verification { job: job.job(), verified, findings: &findings });
    } else {
        for Finding { what, agrees, found } in &findings {
            context.output.print(&format!("{what}: {}{found}", if *agrees { "" } else { "NOT VERIFIED: " }));
        }
        context.output.print(&format!("{} is {}verified", job.job(), if verified { "" } else { "not " }));
    }
    Ok(if verified { ExitCode::Done } else { ExitCode::JobFailed })
}

/// Checks signature and subject of a receipt, and reads its claims.
fn read_claims(receipt: &[u8], key: &ReceiptKey, job: &PlacedJob) -> Result<Claims, String> {
    let envelope: Envelope =
        serde_json::from_slice(receipt).map_err(|e| format!("it is not a DSSE envelope: {e}"))?;
    let claims = Statement::claims(&envelope.verify(key)?)?;
    if claims.job != job.job().to_string() {
        return Err(format!("it is that of {}", one_line(&claims.job, 80)));
    }
    let recorded = job.record.result.as_ref().and_then(|result| result.commit.as_deref());
    if recorded != Some(claims.commit.as_str()) {
        return Err(format!("its commit {:.12} is not that of the recorded result", claims.commit));
    }
    Ok(claims)
}

/// Computes the digest of the change again. Returns `None` if relay no longer has the job's repository.
fn compare_change(job: &PlacedJob, claims: &Claims) -> Result<Option<Finding>, Failure> {
    if !job.repository.exists() {
        return Ok(None);
    }
    let digest = digest::digest_change(&job.repository, &claims.base, &claims.commit)?;
    let agrees = digest.diff_sha256 == claims.diff_sha256;
    let found = format!("{:.12} to {:.12}, sha256 {}", claims.base, claims.commit, digest.diff_sha256);
    Ok(Some(Finding::new("change", agrees, found)))
}

/// Runs the checks of the receipt again and compares their exit codes.
fn verify_checks(
    args: &VerifyArgs,
    context: &Context,
    job: &PlacedJob,
    claims: &Claims,
) -> Result<Vec<Finding>, Failure> {
    let claimed_checks = match &claims.checks {
        Some(claimed_checks) if !claimed_checks.is_empty() => claimed_checks,
        Some(_) => return Ok(vec![Finding::new("checks", true, "none ran")]),
        None => {
            let why = "not in the receipt: another relay was running when the agent reported them";
            return Ok(vec![Finding::new("checks", true, why)]);
        }
    };
    let earlier = EarlierJob::find(&context.registry, &job.job().to_string())?;
    if !starts_with_claimed_checks(&earlier.spec, claimed_checks) {
        let found = "the job's spec lists other checks than the receipt: it was changed after the job ended";
        return Ok(vec![Finding::new("checks", false, found)]);
    }
    let record = repeat_checks(args, context, &earlier, claims, claimed_checks.len())?;
    let repeated = record.evidence.as_ref().map(|evidence| &*evidence.checks).unwrap_or_default();
    let findings = claimed_checks.iter().enumerate().map(|(at, claim)| {
        let what = format!("check {} ({})", at + 1, one_line(&earlier.spec.checks[at], MAX_COMMAND_LENGTH));
        compare_check(&what, claim, repeated.get(at), &record, context)
    });
    Ok(findings.collect())
}

/// Returns true if the job's checks begin with those of the receipt. Checks after a failed one did not run.
fn starts_with_claimed_checks(spec: &JobSpec, claimed_checks: &[CheckClaim]) -> bool {
    spec.checks.len() >= claimed_checks.len()
        && spec
            .checks
            .iter()
            .zip(claimed_checks)
            .all(|(line, claim)| hex::encode(Sha256::digest(line.as_bytes())) == claim.command_sha256)
}

fn compare_check(
    what: &str,
    claim: &CheckClaim,
    repeated: Option<&CheckEvidence>,
    record: &JobRecord,
    context: &Context,
) -> Finding {
    let text = |code: Option<i32>| code.map_or("no exit code".to_owned(), |code| format!("exit code {code}"));
    let Some(repeated) = repeated else {
        let why = record.error.as_ref().map(|_| failure_text::failure_reason(record));
        let why = why.unwrap_or_else(|| format!("{} ended before it", record.job));
        return Finding::new(what, false, format!("did not run again: {why}"));
    };
    if repeated.exit_code != claim.exit_code {
        let found = format!("{}, but {} in the receipt", text(repeated.exit_code), text(claim.exit_code));
        return Finding::new(what, false, found);
    }
    if repeated.output_sha256 != claim.output_sha256 {
        context.output.print_note(&format!("{what}: its output differs from that of the receipt"));
    }
    Finding::new(what, true, format!("{}, as in the receipt", text(repeated.exit_code)))
}

/// Runs setup and the first `check_count` checks of a job at the commit of the receipt. Returns the new job's record.
fn repeat_checks(
    args: &VerifyArgs,
    context: &Context,
    earlier: &EarlierJob,
    claims: &Claims,
    check_count: usize,
) -> Result<JobRecord, Failure> {
    let config = context.read_config()?;
    let target = submit::find_target(context, &config);
    let variable = |key: &str| context.caller_variable(key);
    let resolve_context = ResolveContext {
        config: &config,
        engine: target.engine,
        cwd: &context.cwd,
        caller_variable: &variable,
    };
    let mut launch = verifying_launch(args, earlier, &resolve_context, check_count)?;
    place::prepare_place(context, &mut launch, &PlaceRequest::at_commit(&claims.commit), true)?;
    if let DaemonState::Absent(settings) = &target.daemon {
        start_daemon::ensure_daemon(&context.root, &context.registry, settings, context.initiator())
            .map_err(|failure| Failure::unreachable(format!("no relay is running: {failure}")))?;
    }
    start_daemon::wait_for_platform(&context.registry)?;
    let (CreateResult::New(job) | CreateResult::Existing(job)) =
        submit::submit_job(context, &launch, None, &target, None)?;
    context.output.print_note(&format!("{job} runs the checks again: `relay logs {job}` shows their output"));
    let record = follow::follow_log(context, &job, LogReader::default(), |_| {})?.record;
    claim_and_show(context, &record, "verify", || {});
    discard_result(context, &job)?;
    Ok(record)
}

fn verifying_launch(
    args: &VerifyArgs,
    earlier: &EarlierJob,
    context: &ResolveContext<'_>,
    check_count: usize,
) -> Result<Launch, Failure> {
    let earlier_spec = &earlier.spec;
    Launch {
        name: JobName::from_folder(&format!("verify-{}", earlier.record.job.name())),
        workspace: earlier.follow_up_workspace(context)?,
        engine: context.engine,
        runner: Runner::Shell,
        prompt: "true".to_owned(),
        env: earlier.follow_up_env(&args.env, context)?,
        setup: earlier_spec.setup.clone(),
        checks: earlier_spec.checks[..check_count].to_vec(),
        expect: Vec::new(),
        images: None,
        limits: earlier_spec.limits.clone(),
        rules: earlier_spec.rules.clone(),
        on_limit: earlier_spec.on_limit,
        on_loop: earlier_spec.on_loop,
        on_quota: earlier_spec.on_quota,
        codex: context.config.codex.job_settings(context.engine),
        thread_id: None,
        origin: Origin {
            session: session::calling_session(context.caller_variable),
            attended: true,
            ..Origin::default()
        },
        // Set by `prepare_place`: a fresh clone at the commit of the receipt.
        place: None,
        shares_workspace: false,
        schedule: Schedule::default(),
    }
    .validate(context)
}

/// Discards the result of the verifying job: files that its checks wrote.
fn discard_result(context: &Context, job: &JobId) -> Result<(), Failure> {
    let mut follower = follow::JobFollower::new(context);
    let deadline = Some(Instant::now() + RESULT_TIMEOUT);
    while job_result::is_pending(context, &follower.read_record(job)?) && follower.wait_for_change(deadline) {
    }
    let placed = PlacedJob::find(context, Some(&job.to_string()))?;
    // Usually there is nothing to discard.
    let Ok((result, commit)) = placed.open_result(context) else { return Ok(()) };
    discard::discard(Path::new(&placed.record.workspace), &result.branch, &commit, true)?;
    job_result::request_state(context, job, &commit, ResultState::Discarded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_that_lists_other_checks_is_not_run() {
        let mut spec = JobSpec::new("a#1".parse().unwrap(), Runner::Shell, "true", "/w");
        spec.checks = vec!["one".to_owned(), "two".to_owned()];
        let claim = |line: &str| CheckClaim {
            command_sha256: hex::encode(Sha256::digest(line.as_bytes())),
            exit_code: Some(0),
            output_sha256: String::new(),
        };
        assert!(starts_with_claimed_checks(&spec, &[claim("one")]), "the second one did not run");
        assert!(starts_with_claimed_checks(&spec, &[claim("one"), claim("two")]));
        assert!(!starts_with_claimed_checks(&spec, &[claim("two")]));
        assert!(!starts_with_claimed_checks(&spec, &[claim("one"), claim("two"), claim("three")]));
    }
}
