//! The command `relay prune`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::Args;
use common::duration;
use common::ids::JobId;
use serde::Serialize;

use super::Context;
use super::help::after_help;
use crate::exit::{ExitCode, Failure};
use crate::files::watch::FolderWatch;
use crate::git::job_repository::JobRepository;
use crate::job_identity::JobIdentity;
use crate::output::store::Outputs;
use crate::receipt::store::Receipts;
use crate::registry::lease::DaemonId;
use crate::registry::prune::{Retention, prune_archive};
use crate::registry::requests::{AwaitedRequest, DaemonRequest};
use crate::registry::{Registry, lease, read};
use crate::state_dir::StateDir;

/// Default number of archived jobs to keep: some weeks of work.
const DEFAULT_KEPT_JOBS: u64 = 1000;
/// Time limit for the daemon to remove the jobs. The daemon removes some ten thousand files per second.
const PRUNE_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of removed jobs listed by name.
const MAX_NAMED_JOBS: usize = 10;

/// Flags of `relay prune`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Removes archived jobs that neither flag keeps. relay archives ended jobs beyond the newest 200. A \
     job that has not ended is never removed, and no number is used twice.",
    ["relay prune --keep 50", "relay prune --older-than 30d"]
))]
pub struct PruneArgs {
    /// Number of newest archived jobs to keep [default: 1000; 0 with --older-than]
    #[arg(long, value_name = "N")]
    keep: Option<u64>,
    /// Keep jobs that ended within this time
    #[arg(long, value_name = "D", value_parser = duration::parse_duration)]
    older_than: Option<Duration>,
}

#[derive(Serialize)]
struct RemovedLine<'a> {
    removed: &'a JobId,
}

/// Removes archived jobs. A running daemon removes them on request, since only the daemon may write to the registry. If
/// no daemon is running, this process removes them.
///
/// # Errors
/// Exit code 5 if the archive can't be read or written, or if the daemon does not finish in time.
pub fn run(args: &PruneArgs, context: &Context) -> Result<ExitCode, Failure> {
    let registry = &context.registry;
    registry.check_owner()?;
    let retention = Retention {
        newest: args.keep.unwrap_or(if args.older_than.is_some() { 0 } else { DEFAULT_KEPT_JOBS }),
        since: args.older_than.and_then(|age| lease::current_time(registry).checked_sub(age).ok()),
    };
    let archived_before = archived_jobs(registry)?;
    if !archived_before.is_empty() {
        match lease::holder(registry) {
            Some(relay) => request_prune(registry, &relay, retention)?,
            None if lease::is_held(registry) => {
                return Err(Failure::unreachable("a relay is starting: try again"));
            }
            None => {
                let jobs = prune_archive(registry, &retention).map_err(|e| registry.not_writable(&e))?;
                remove_results(context, &jobs);
            }
        }
    }
    let archived_after = archived_jobs(registry)?;
    let removed: Vec<&JobId> = archived_before.difference(&archived_after).collect();
    if context.output.json {
        for job in removed {
            context.output.print_json(&RemovedLine { removed: job });
        }
    } else {
        context.output.print(&format_removed_jobs(&removed, archived_after.len()));
        if removed.is_empty() {
            context.output.print_note(&nothing_removed_reason(registry, archived_after.len()));
        }
    }
    Ok(ExitCode::Done)
}

/// Returns the jobs in the archive, which is a folder of the same form as the registry.
fn archived_jobs(registry: &Registry) -> Result<BTreeSet<JobId>, Failure> {
    let archive = registry.archive_registry();
    let jobs = read::jobs_in_folder(&archive).map_err(|e| archive.not_readable(&e))?;
    Ok(jobs.into_iter().collect())
}

/// Asks the daemon to remove jobs, and waits until the daemon has removed the request file.
fn request_prune(registry: &Registry, relay: &DaemonId, retention: Retention) -> Result<(), Failure> {
    let watch = FolderWatch::registry_folder(&registry.requests());
    let request = DaemonRequest::Prune { relay: Some(relay.clone()), keep: retention };
    let request = AwaitedRequest::file(registry, &request).map_err(|e| registry.not_writable(&e))?;
    let deadline = Instant::now() + PRUNE_TIMEOUT;
    while request.is_filed() {
        if lease::holder(registry).is_some_and(|holder| holder != *relay) || !lease::is_held(registry) {
            return Err(Failure::unreachable("the relay ended meanwhile: run `relay prune` again"));
        }
        if !watch.wait(Some(deadline)) {
            return Err(Failure::unreachable("the relay has not removed anything yet: see `relay status`"));
        }
    }
    Ok(())
}

/// Returns the reason why nothing was removed.
fn nothing_removed_reason(registry: &Registry, archived: usize) -> String {
    if archived > 0 {
        return "the archived jobs are kept by --keep or --older-than".to_owned();
    }
    let jobs = read::jobs_in_folder(registry).map_or(0, |jobs| jobs.len());
    let (noun, verb) = if jobs == 1 { ("job", "is") } else { ("jobs", "are") };
    format!("the archive is empty: {jobs} {noun} {verb} among the newest 200, which are never removed")
}

/// Removes the repositories, output files and receipts of removed jobs.
fn remove_results(context: &Context, jobs: &[JobIdentity]) {
    let Ok(state) = StateDir::for_project(&context.root) else { return };
    for job in jobs {
        if let Err(e) = JobRepository::of_job(&state.repositories(), job).remove() {
            context.output.print_note(&format!("the repository of {job} can't be removed: {e}"));
        }
        if let Err(e) = Outputs::in_folder(state.outputs()).remove(job) {
            context.output.print_note(&format!("the output of {job} can't be removed: {e}"));
        }
        if let Err(e) = Receipts::in_folder(state.receipts()).remove(job) {
            context.output.print_note(&format!("the receipt of {job} can't be removed: {e}"));
        }
    }
}

fn format_removed_jobs(removed: &[&JobId], archived: usize) -> String {
    if removed.is_empty() {
        return format!("nothing removed, {archived} archived");
    }
    let named: Vec<String> = removed.iter().take(MAX_NAMED_JOBS).map(ToString::to_string).collect();
    let unnamed = match removed.len().saturating_sub(MAX_NAMED_JOBS) {
        0 => String::new(),
        unnamed => format!(" and {unnamed} more"),
    };
    format!("{} removed ({}{unnamed}), {archived} archived", removed.len(), named.join(", "))
}
