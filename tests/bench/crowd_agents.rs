//! A thousand agents on one relay.

use std::time::{Duration, Instant};

use relay_tests::harness::Site;
use relay_tests::simulated_agent::{block_on, load};

use crate::samples::{self, Samples};
use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, crowd, proc, stop};

/// Agents, each with a job that runs.
const AGENTS: usize = 1000;
/// How long jobs end and are replaced.
const SECONDS: usize = 30;
/// How often a command is run.
const ROUNDS: usize = 50;
/// What the gathering leaves to do is done by then.
const SETTLE: Duration = Duration::from_secs(2);

/// Adds the rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let site = crowd::empty(1)?;
    let first = site.launch_shell("true", &[]);
    site.ended(&first);
    let alone = status(&site)?;
    let rows = block_on(async {
        let mut crowd = load::gather(&site, AGENTS).await;
        stop::pause(SETTLE)?;
        let relay = site.daemon_pid();
        let (begun, before) = (Instant::now(), proc::cpu(relay)?);
        let acks = load::turnover(&site, &mut crowd, SECONDS).await;
        let cpu = proc::cpu(relay)?.saturating_sub(before).as_secs_f64() / begun.elapsed().as_secs_f64();
        let memory = Figure::MiB(proc::resident(relay)?);
        // The crowd answers no pings meanwhile, for less time than would make it dead.
        let crowded = status(&site)?;
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
                .beside("the same, none", Ok(alone))
                .target(Target::Times(1.2)),
            Row::new("relay: CPU", Figure::Percent(cpu * 100.0)),
        ])
    })?;
    report.section(
        &format!(
            "relay with {AGENTS} simulated agents over real sockets, a job on each; {} jobs end each second and are \
             replaced, for {SECONDS} s",
            load::A_SECOND
        ),
        rows,
    );
    Ok(())
}

fn status(site: &Site) -> Fallible<Figure> {
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        samples.push(samples::time(&mut site.command(&["status", "--json", "--latest"]))?);
    }
    samples.median()
}
