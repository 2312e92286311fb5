//! Memory of relay and agent, and their CPU time while no job runs.

use std::time::{Duration, Instant};

use common::record::State;
use relay_tests::harness::Site;

use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, crowd, proc, stop};

/// Time for which idle processes are measured: several of the relay's pings, which it sends every 5 s.
const IDLE_TIME: Duration = Duration::from_secs(20);
/// Time after which the programs have finished the work that a start or the end of a job causes.
const SETTLE_TIME: Duration = Duration::from_secs(2);
/// Number of simultaneous jobs.
const JOBS: u32 = 10;

/// Measures the relay and the agent of a site whose relay is up and runs no job.
pub(crate) fn measure_idle(site: &Site) -> Fallible<Vec<Row>> {
    stop::pause(SETTLE_TIME)?;
    let (relay, agent) = (site.daemon_pid(), proc::agent_pid(site)?);
    let (begun, cpu_before) = (Instant::now(), [proc::cpu_time(relay)?, proc::cpu_time(agent)?]);
    stop::pause(IDLE_TIME)?;
    let (time, cpu_after) = (begun.elapsed(), [proc::cpu_time(relay)?, proc::cpu_time(agent)?]);
    let percent = |n: usize| {
        Figure::Percent(cpu_after[n].saturating_sub(cpu_before[n]).as_secs_f64() / time.as_secs_f64() * 100.0)
    };
    Ok(vec![
        Row::new("relay, idle: resident memory", Figure::MiB(proc::resident_mib(relay)?))
            .target(Target::AtMost(16.0)),
        Row::new(&format!("relay, idle: CPU over {} s", IDLE_TIME.as_secs()), percent(0))
            .target(Target::AtMost(0.1)),
        Row::new(&format!("agent, idle: CPU over {} s", IDLE_TIME.as_secs()), percent(1))
            .target(Target::AtMost(0.2)),
    ])
}

/// Measures the group `memory` (the agent's memory) and adds its rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let site = crowd::empty_site(JOBS)?;
    site.relay(&["up"]);
    stop::pause(SETTLE_TIME)?;
    let agent = proc::agent_pid(&site)?;
    let idle = Figure::MiB(proc::resident_mib(agent)?);
    for _ in 0..JOBS {
        site.launch_shell("sleep 100000", &[]);
    }
    for n in 1..=JOBS {
        site.record_when(&format!("demo#{n}"), "runs", |record| record.state == State::Running);
    }
    stop::pause(SETTLE_TIME)?;
    let mut agent_and_shims = proc::proportional_mib(agent)?;
    for shim in proc::children(agent)? {
        agent_and_shims += proc::proportional_mib(shim)?;
    }
    let with_jobs = Figure::MiB(proc::resident_mib(agent)?);
    report.section(
        "the agent's memory: resident, with shared pages; for agent and shims, shared pages counted in parts",
        [
            Row::new("agent, idle", idle).target(Target::AtMost(8.0)),
            Row::new(&format!("agent with {JOBS} jobs"), with_jobs).target(Target::AtMost(16.0)),
            Row::new(&format!("agent with {JOBS} jobs and their shims"), Figure::MiB(agent_and_shims))
                .target(Target::AtMost(16.0)),
        ],
    );
    Ok(())
}
