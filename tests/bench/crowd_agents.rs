//! Memory, CPU time and latency of a relay with a thousand simulated agents.

use std::time::{Duration, Instant};

use relay_tests::harness::Site;
use relay_tests::simulated_agent::{block_on, load};

use crate::samples::{self, Samples};
use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, crowd, proc, stop};

/// Number of agents, each with a running job.
const AGENTS: usize = 1000;
/// Time for which the load lasts, in seconds: jobs end and are replaced.
const LOAD_SECONDS: usize = 30;
/// Number of runs of the measured command.
const ROUNDS: usize = 50;
/// Time after which the relay has finished the work that the connection of the agents causes.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// Measures the group `crowd-agents` and adds its rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let site = crowd::empty_site(1)?;
    site.ended(&site.launch_shell("true", &[]));
    let without_agents = time_status(&site)?;
    let rows = block_on(async {
        let mut crowd = load::start_crowd(&site, AGENTS).await;
        stop::pause(SETTLE_TIME)?;
        let relay = site.daemon_pid();
        let (begun, before) = (Instant::now(), proc::cpu_time(relay)?);
        let acks = load::replace_jobs(&site, &mut crowd, LOAD_SECONDS).await;
        let cpu = proc::cpu_time(relay)?.saturating_sub(before).as_secs_f64() / begun.elapsed().as_secs_f64();
        let memory = Figure::MiB(proc::resident_mib(relay)?);
        // The crowd answers no pings meanwhile, for a shorter time than the limit after which it would count as dead.
        let crowded = time_status(&site)?;
        let mut samples = Samples::default();
        for ack in acks {
            samples.push(ack);
        }
        Fallible::Ok(vec![
            Row::new("relay: resident memory", memory).target(Target::AtMost(64.0)),
            Row::new("end of a job sent → acknowledged, median", samples.median()?),
            Row::new("end of a job sent → acknowledged, p99", samples.quantile(0.99)?)
                .target(Target::AtMost(100.0)),
            Row::new("relay status --json --latest", crowded)
                .beside("the same, none", Ok(without_agents))
                .target(Target::Times(1.2)),
            Row::new("relay: CPU", Figure::Percent(cpu * 100.0)),
        ])
    })?;
    report.section(
        &format!(
            "relay with {AGENTS} simulated agents over real sockets, a job on each; {} jobs end each second and are \
             replaced, for {LOAD_SECONDS} s",
            load::ENDS_PER_SECOND
        ),
        rows,
    );
    Ok(())
}

fn time_status(site: &Site) -> Fallible<Figure> {
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        samples.push(samples::time(&mut site.command(&["status", "--json", "--latest"]))?);
    }
    samples.median()
}
