//! Cost of a job that does next to nothing.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use relay_tests::harness::{Engine, Site};

use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, proc};

/// Number of jobs in a run.
const JOBS: u32 = 200;
/// Number of simultaneous jobs, as without any settings.
const AT_ONCE: u32 = 4;

/// Adds the rows: for a workspace outside of any repository, and for one that git looks at after each job.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let title = format!("{JOBS} shell jobs that do nothing, {AT_ONCE} at once, launched one after the other");
    let mut rows = Vec::new();
    for in_repository in [false, true] {
        rows.extend(run_jobs(in_repository)?);
    }
    report.section(&title, rows);
    Ok(())
}

fn run_jobs(in_repository: bool) -> Fallible<[Row; 3]> {
    let site = Site::new(Engine::Local);
    let place = if in_repository { "in a repository" } else { "outside of a repository" };
    let outside = tempfile::tempdir()?;
    let workspace = if in_repository { site.workspace() } else { outside.path().canonicalize()? };
    if in_repository {
        repository(&workspace)?;
    }
    let workspace = workspace.display().to_string();
    site.configure(&format!("max_jobs = {AT_ONCE}\nworkspaces = \"{workspace}\"\n"));
    site.relay(&["up"]);
    let (agent, relay) = (proc::agent(&site)?, site.daemon_pid());
    let (begun, before) = (Instant::now(), [proc::cpu(agent)?, proc::cpu(relay)?]);
    let launch = ["launch", "-q", "--share", "--runner", "shell", "-w", &workspace, "true"];
    let jobs: Vec<String> = (0..JOBS).map(|_| site.relay(&launch).trim().to_owned()).collect();
    let wait: Vec<&str> = std::iter::once("wait").chain(jobs.iter().map(String::as_str)).collect();
    site.relay(&wait);
    let all = begun.elapsed();
    let each = |n: usize, after: Duration| {
        Figure::Millis(after.saturating_sub(before[n]).as_secs_f64() * 1000.0 / f64::from(JOBS))
    };
    Ok([
        Row::new(&format!("{place}: all launched and ended"), Figure::Millis(all.as_secs_f64() * 1000.0))
            .target(Target::AtMost(2000.0)),
        Row::new(&format!("{place}: agent, CPU of each job without its shim"), each(0, proc::cpu(agent)?))
            .target(Target::AtMost(8.0)),
        Row::new(&format!("{place}: relay, CPU of each job"), each(1, proc::cpu(relay)?)),
    ])
}

/// Makes the workspace a repository of its own with one commit, so that the size of the repository around the site has
/// no influence.
fn repository(workspace: &Path) -> Fallible<()> {
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
