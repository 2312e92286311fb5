//! Cost of observing a job's processes: the agent's CPU time while a job of many processes runs, and nothing else.

use std::time::{Duration, Instant};

use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, crowd, proc, stop};

/// Time for which the agent is watched.
const WATCHED: Duration = Duration::from_secs(20);
/// Time after which the work that follows a job's start is done: command lines are read again while processes are
/// young.
const SETTLE: Duration = Duration::from_secs(12);
/// Number of the job's processes.
const PROCESSES: usize = 300;

/// Adds the rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let site = crowd::empty(1)?;
    site.relay(&["up"]);
    let script = format!("for i in $(seq {PROCESSES}); do sleep 100000 & done; wait\n");
    for name in ["many", "npm"] {
        site.write(&format!("workspace-projects/demo/{name}"), &script);
    }
    let mut rows = Vec::new();
    // Below a step of a network kind the bytes of sockets are counted too.
    for (what, line) in [("a command", "sh ./many"), ("an install: sockets too", "sh ./npm install")] {
        let job = site.launch_running(line, &["--stall", "1h", "--step-timeout", "install=2h"]);
        stop::pause(SETTLE)?;
        let agent = proc::agent(&site)?;
        let (begun, before) = (Instant::now(), proc::cpu(agent)?);
        stop::pause(WATCHED)?;
        let (time, used) = (begun.elapsed(), proc::cpu(agent)?.saturating_sub(before));
        let percent = Figure::Percent(used.as_secs_f64() / time.as_secs_f64() * 100.0);
        rows.push(Row::new(what, percent).target(Target::AtMost(1.0)));
        site.relay(&["cancel", "--grace", "1s", &job]);
    }
    report.section(
        &format!(
            "the agent's CPU over {} s while it looks at {PROCESSES} processes of one job",
            WATCHED.as_secs()
        ),
        rows,
    );
    Ok(())
}
