//! Load on a relay, caused by a [`Crowd`] of agents: jobs end and are replaced, and the latencies are measured.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::{interval, timeout};

use super::crowd::Report;
use super::{Crowd, Endpoint};
use crate::harness::Site;

/// Maximum time for a crowd to reach a wanted state.
const PATIENCE: Duration = Duration::from_secs(240);
/// Interval between the ends of two jobs.
const END_INTERVAL: Duration = Duration::from_millis(100);
/// Number of jobs that end each second.
pub const ENDS_PER_SECOND: usize = 10;

/// Waits for the next `count` reports for which `wanted` returns something.
pub async fn reports<T>(crowd: &mut Crowd, count: usize, wanted: impl Fn(&Report) -> Option<T>) -> Vec<T> {
    let mut found = Vec::with_capacity(count);
    let collected = timeout(PATIENCE, async {
        while found.len() < count {
            found.extend(wanted(&crowd.report().await));
        }
    });
    let in_time = collected.await.is_ok();
    assert!(in_time, "{} of {count} reports", found.len());
    found
}

/// Returns the time at which an agent received the welcome, if this is the report's content.
pub fn welcomed_at(report: &Report) -> Option<Instant> {
    if let Report::Welcomed(at) = report { Some(*at) } else { None }
}

/// Connects a crowd of `agents` agents to a running relay, and starts a job on each. Kills the site's own agent; the
/// relay does not restart it as long as other agents are connected.
pub async fn start_crowd(site: &Site, agents: usize) -> Crowd {
    let mut crowd = Crowd::start(&Endpoint::of_site(site), agents);
    reports(&mut crowd, agents, welcomed_at).await;
    let lock = fs::read_to_string(site.agent().join("agent.lock")).unwrap_or_default();
    let own = lock.trim().parse().ok().and_then(Pid::from_raw);
    let ended = own.map(|own| kill_process(own, Signal::KILL));
    assert!(matches!(ended, Some(Ok(()))), "the site's own agent: {lock:?}: {ended:?}");
    for _ in 0..agents {
        launch(site).await;
    }
    let running = |report: &Report| matches!(report, Report::Running(_)).then_some(());
    reports(&mut crowd, agents, running).await;
    crowd
}

/// Ends [`ENDS_PER_SECOND`] jobs each second and launches others; returns the delays of the acknowledgements.
pub async fn replace_jobs(site: &Site, crowd: &mut Crowd, seconds: usize) -> Vec<Duration> {
    let acked = |report: &Report| if let Report::Acked(after) = report { Some(*after) } else { None };
    let mut acks = Vec::new();
    let mut ticks = interval(END_INTERVAL);
    for number in 0..ENDS_PER_SECOND * seconds {
        ticks.tick().await;
        crowd.end_job_of(number);
        launch(site).await;
        acks.extend(reports(crowd, 1, acked).await);
    }
    acks
}

async fn launch(site: &Site) {
    let workspace = site.workspace();
    let args = ["launch", "-q", "--share", "--runner", "shell", "-w", &workspace.to_string_lossy(), "unused"];
    run(site, &args).await;
}

/// Runs a `relay` command that must succeed, without blocking the crowd.
pub async fn run(site: &Site, args: &[&str]) {
    let output = Command::from(site.command(args)).output().await;
    let output = output.unwrap_or_else(|e| panic!("relay {args:?}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "relay {args:?}: {}: {stderr}", output.status);
}
