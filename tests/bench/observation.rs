//! Cost of observing a job's processes: the agent's CPU time while one job with many sleeping processes runs.

use std::time::{Duration, Instant};

use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, crowd, proc, stop};

/// Time for which the agent is measured.
const MEASURED_TIME: Duration = Duration::from_secs(20);
/// Time after which the agent has finished the work that the start of a job causes. It reads the command lines of new
/// processes several times.
const SETTLE_TIME: Duration = Duration::from_secs(12);
/// Number of the job's processes.
const PROCESSES: usize = 300;

/// Measures the group `observation` and adds its rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let site = crowd::empty_site(1)?;
    site.relay(&["up"]);
    let script = format!("for i in $(seq {PROCESSES}); do sleep 100000 & done; wait\n");
    for name in ["many", "npm"] {
        site.write(&format!("workspace-projects/demo/{name}"), &script);
    }
    let mut rows = Vec::new();
    // In a step of a network kind, the agent also counts the bytes of sockets.
    for (what, line) in [("a command", "sh ./many"), ("an install: sockets too", "sh ./npm install")] {
        let job = site.launch_running(line, &["--stall", "1h", "--step-timeout", "install=2h"]);
        stop::pause(SETTLE_TIME)?;
        let agent = proc::agent_pid(&site)?;
        let (begun, cpu_before) = (Instant::now(), proc::cpu_time(agent)?);
        stop::pause(MEASURED_TIME)?;
        let (time, cpu) = (begun.elapsed(), proc::cpu_time(agent)?.saturating_sub(cpu_before));
        let percent = Figure::Percent(cpu.as_secs_f64() / time.as_secs_f64() * 100.0);
        rows.push(Row::new(what, percent).target(Target::AtMost(1.0)));
        site.relay(&["cancel", "--grace", "1s", &job]);
    }
    report.section(
        &format!(
            "the agent's CPU over {} s while it observes {PROCESSES} processes of one job",
            MEASURED_TIME.as_secs()
        ),
        rows,
    );
    Ok(())
}
