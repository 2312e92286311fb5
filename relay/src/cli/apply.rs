//! The command `relay apply`.

use std::path::Path;

use clap::Args;
use common::ids::JobId;
use common::result::ResultState;
use common::text_format;
use serde::Serialize;

use super::help::after_help;
use super::job_result::PlacedJob;
use super::{Context, candidates, job_result};
use crate::exit::{ExitCode, Failure};
use crate::git::apply::{self, Change};
use crate::plural;

/// Maximum number of files with conflicts that are printed.
const MAX_PRINTED_CONFLICTS: usize = 20;

/// Flags of `relay apply`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "The change is merged into your files; nothing is committed. Exit code: 0 if it was applied; 1 if it was applied \
     with conflicts, which are marked in the files; 2 if it would overwrite files: nothing is changed then.",
    ["relay apply demo", "relay apply demo#2 --again"]
))]
pub struct ApplyArgs {
    /// NAME#N, NAME.N, or NAME for its newest job [default: the newest job]
    #[arg(value_name = "JOB", add = candidates::any_job())]
    pub(super) job: Option<String>,
    /// Apply a result again that was already applied or merged
    #[arg(long)]
    pub(super) again: bool,
}

/// Output of `relay apply --json`: an applied result.
#[derive(Debug, Serialize)]
struct AppliedResult<'a> {
    job: &'a JobId,
    branch: &'a str,
    commit: &'a str,
    /// Number of files that were changed.
    files: usize,
    /// Files with conflicts.
    conflicts: Vec<String>,
}

/// Puts the change of a job into the user's work tree.
///
/// # Errors
/// Exit code 3 if the job does not exist, 2 if it is ambiguous, has no result or overwrites files, 5 if git fails.
pub fn run(args: &ApplyArgs, context: &Context) -> Result<ExitCode, Failure> {
    let job = PlacedJob::find(context, args.job.as_deref())?;
    let (result, commit) = job.open_result(context)?;
    if let Some(state) = job.result_state(context, &commit).filter(|_| !args.again) {
        let again = "`--again` applies it once more";
        context.output.print(&format!("the result of {} was {} already: {again}", job.job(), state.as_str()));
        return Ok(ExitCode::Done);
    }
    let change = Change { base: &result.base, commit: &commit, branch: &result.branch };
    let applied = apply::apply(Path::new(&job.record.workspace), &job.repository, change)?;
    let state_requested = job_result::request_state(context, job.job(), &commit, ResultState::Applied);
    let printable = |path: &Path| text_format::one_line(&path.to_string_lossy(), 200);
    let conflicts: Vec<String> = applied.conflicts.iter().map(|path| printable(path)).collect();
    if context.output.json {
        let (job, files) = (job.job(), applied.files.len());
        let (branch, commit) = (&result.branch, &commit);
        context.output.print_json(&AppliedResult {
            job,
            branch,
            commit,
            files,
            conflicts: conflicts.clone(),
        });
    } else {
        let files = plural::format_count(applied.files.len() as u64, "file", "files");
        let root = applied.root.display();
        context.output.print(&format!("{} applied to {root}: {files} changed, nothing committed", job.job()));
        for path in conflicts.iter().take(MAX_PRINTED_CONFLICTS) {
            context.output.print(&format!("conflict  {path}"));
        }
        if let Some(unlisted @ 1..) = conflicts.len().checked_sub(MAX_PRINTED_CONFLICTS) {
            context.output.print(&format!("… and {unlisted} more"));
        }
    }
    state_requested?;
    Ok(if conflicts.is_empty() { ExitCode::Done } else { ExitCode::JobFailed })
}
