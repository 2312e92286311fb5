//! Memory of the programs, and the cost of an idle daemon.

use std::time::{Duration, Instant};

use common::record::State;
use relay_tests::harness::Site;

use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, crowd, proc, stop};

/// Time for which idle processes are watched: the relay's heartbeat comes every 5 s.
const IDLE: Duration = Duration::from_secs(20);
/// Time after which the work that follows a start or an end is done.
const SETTLE: Duration = Duration::from_secs(2);
/// Number of simultaneous jobs.
const JOBS: u32 = 10;

/// Measures the relay and the agent of a site that is up and runs no job.
pub(crate) fn idle(site: &Site) -> Fallible<Vec<Row>> {
    stop::pause(SETTLE)?;
    let (relay, agent) = (site.daemon_pid(), proc::agent(site)?);
    let (begun, before) = (Instant::now(), [proc::cpu(relay)?, proc::cpu(agent)?]);
    stop::pause(IDLE)?;
    let (time, after) = (begun.elapsed(), [proc::cpu(relay)?, proc::cpu(agent)?]);
    let percent = |n: usize| {
        Figure::Percent(after[n].saturating_sub(before[n]).as_secs_f64() / time.as_secs_f64() * 100.0)
    };
    Ok(vec![
        Row::new("relay, idle: resident memory", Figure::MiB(proc::resident(relay)?))
            .target(Target::AtMost(16.0)),
        Row::new(&format!("relay, idle: CPU over {} s", IDLE.as_secs()), percent(0))
            .target(Target::AtMost(0.1)),
        Row::new(&format!("agent, idle: CPU over {} s", IDLE.as_secs()), percent(1))
            .target(Target::AtMost(0.2)),
    ])
}

/// Adds the rows of the agent.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let site = crowd::empty(JOBS)?;
    site.relay(&["up"]);
    stop::pause(SETTLE)?;
    let agent = proc::agent(&site)?;
    let idle = Figure::MiB(proc::resident(agent)?);
    for _ in 0..JOBS {
        site.launch_shell("sleep 100000", &[]);
    }
    for n in 1..=JOBS {
        site.record_when(&format!("demo#{n}"), "runs", |record| record.state == State::Running);
    }
    stop::pause(SETTLE)?;
    let mut family = proc::share(agent)?;
    for shim in proc::children(agent)? {
        family += proc::share(shim)?;
    }
    let busy = Figure::MiB(proc::resident(agent)?);
    report.section(
        "the agent's memory: resident, with shared pages; and the share of it and its shims, one for each command",
        [
            Row::new("agent, idle", idle).target(Target::AtMost(8.0)),
            Row::new(&format!("agent with {JOBS} jobs"), busy).target(Target::AtMost(16.0)),
            Row::new(&format!("agent with {JOBS} jobs and their shims"), Figure::MiB(family))
                .target(Target::AtMost(16.0)),
        ],
    );
    Ok(())
}
