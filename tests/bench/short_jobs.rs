//! Cost of short jobs: time and CPU time of shell jobs whose command is `true`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use relay_tests::harness::{Engine, Site};

use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, proc};

/// Number of jobs in a run.
const JOBS: u32 = 200;
/// Maximum number of simultaneous jobs: the default.
const MAX_JOBS: u32 = 4;

/// Measures the group `short-jobs` and adds its rows: for a workspace outside of any repository, and for one inside,
/// where the agent asks git for the changes of each job.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let title =
        format!("{JOBS} shell jobs that do nothing, {MAX_JOBS} at once, launched one after the other");
    let mut rows = Vec::new();
    for in_repository in [false, true] {
        rows.extend(run_jobs(in_repository)?);
    }
    report.section(&title, rows);
    Ok(())
}

fn run_jobs(in_repository: bool) -> Fallible<[Row; 3]> {
    let site = Site::new(Engine::Local);
    let location = if in_repository { "in a repository" } else { "outside of a repository" };
    let outside = tempfile::tempdir()?;
    let workspace = if in_repository { site.workspace() } else { outside.path().canonicalize()? };
    if in_repository {
        create_repository(&workspace)?;
    }
    let workspace = workspace.display().to_string();
    site.configure(&format!("max_jobs = {MAX_JOBS}\nworkspaces = \"{workspace}\"\n"));
    site.relay(&["up"]);
    let (agent, relay) = (proc::agent_pid(&site)?, site.daemon_pid());
    let (begun, cpu_before) = (Instant::now(), [proc::cpu_time(agent)?, proc::cpu_time(relay)?]);
    let launch = ["launch", "-q", "--share", "--runner", "shell", "-w", &workspace, "true"];
    let jobs: Vec<String> = (0..JOBS).map(|_| site.relay(&launch).trim().to_owned()).collect();
    let wait: Vec<&str> = std::iter::once("wait").chain(jobs.iter().map(String::as_str)).collect();
    site.relay(&wait);
    let total = begun.elapsed();
    let cpu_per_job = |n: usize, after: Duration| {
        Figure::Millis(after.saturating_sub(cpu_before[n]).as_secs_f64() * 1000.0 / f64::from(JOBS))
    };
    Ok([
        Row::new(
            &format!("{location}: all launched and ended"),
            Figure::Millis(total.as_secs_f64() * 1000.0),
        )
        .target(Target::AtMost(2000.0)),
        Row::new(
            &format!("{location}: agent, CPU of each job without its shim"),
            cpu_per_job(0, proc::cpu_time(agent)?),
        )
        .target(Target::AtMost(8.0)),
        Row::new(&format!("{location}: relay, CPU of each job"), cpu_per_job(1, proc::cpu_time(relay)?)),
    ])
}

/// Creates a repository with one commit in the workspace. Otherwise git would find the repository that contains the
/// site, whose size would affect the times.
fn create_repository(workspace: &Path) -> Fallible<()> {
    std::fs::write(workspace.join("a.txt"), "a\n")?;
    let identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.com"];
    for arguments in [&["init", "-q"][..], &["add", "a.txt"], &["commit", "-q", "-m", "one"]] {
        let status = Command::new("git").current_dir(workspace).args(identity).args(arguments).status()?;
        if !status.success() {
            return Err(format!("git {}: {status}", arguments.join(" ")).into());
        }
    }
    Ok(())
}
