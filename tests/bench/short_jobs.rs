//! Cost of a job that does next to nothing.

use std::process::Command;
use std::time::{Duration, Instant};

use relay_tests::harness::Site;

use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, crowd, proc};

/// Number of jobs in a run.
const JOBS: u32 = 200;
/// Number of simultaneous jobs, as without any settings.
const AT_ONCE: u32 = 4;

/// Adds the rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let site = crowd::empty(AT_ONCE)?;
    repository(&site)?;
    site.relay(&["up"]);
    let (agent, relay) = (proc::agent(&site)?, site.daemon_pid());
    let (begun, before) = (Instant::now(), [proc::cpu(agent)?, proc::cpu(relay)?]);
    let jobs: Vec<String> = (0..JOBS).map(|_| site.launch_shell("true", &[])).collect();
    let wait: Vec<&str> = std::iter::once("wait").chain(jobs.iter().map(String::as_str)).collect();
    site.relay(&wait);
    let all = begun.elapsed();
    let each = |n: usize, after: Duration| {
        Figure::Millis(after.saturating_sub(before[n]).as_secs_f64() * 1000.0 / f64::from(JOBS))
    };
    report.section(
        &format!(
            "{JOBS} shell jobs that do nothing, {AT_ONCE} at once, launched one after the other; git looks at their \
             repository before and after each"
        ),
        [
            Row::new("all launched and ended", Figure::Millis(all.as_secs_f64() * 1000.0))
                .target(Target::AtMost(2000.0)),
            Row::new("agent: CPU of each, without its shim", each(0, proc::cpu(agent)?))
                .target(Target::AtMost(8.0)),
            Row::new("relay: CPU of each", each(1, proc::cpu(relay)?)),
        ],
    );
    Ok(())
}

/// Makes the workspace a repository of its own with one commit, so that the size of the repository around the site has
/// no influence.
fn repository(site: &Site) -> Fallible<()> {
    let workspace = site.workspace();
    std::fs::write(workspace.join("a.txt"), "a\n")?;
    let identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.com"];
    for arguments in [&["init", "-q"][..], &["add", "a.txt"], &["commit", "-q", "-m", "one"]] {
        let status = Command::new("git").current_dir(&workspace).args(identity).args(arguments).status()?;
        if !status.success() {
            return Err(format!("git {}: {status}", arguments.join(" ")).into());
        }
    }
    Ok(())
}
