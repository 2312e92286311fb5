//! Time from a launch to the first command of the job: in a container of its own, beside the shared container.

use std::time::Duration;

use relay_tests::harness::{Engine, Site};

use crate::samples::Samples;
use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, stop};

/// Number of measured rounds; each round launches one job of either kind.
const ROUNDS: usize = 20;
/// Maximum additional time of a job with a container of its own, in milliseconds.
const MAX_ADDITIONAL_MS: f64 = 800.0;

/// Adds the rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let [own, shared] = ["job", "shared"].map(|isolation| {
        let site = Site::new(Engine::Docker);
        site.configure(&format!("isolation = \"{isolation}\"\n"));
        site.relay(&["up"]);
        site
    });
    let [mut own_times, mut shared_times] = <[Samples; 2]>::default();
    for round in 0..=ROUNDS {
        stop::pause(Duration::ZERO)?;
        let times = [&own, &shared].map(time_to_first_command);
        own.wait_for_no_box();
        // The first round warms up the caches of the machine.
        if round > 0 {
            let [own, shared] = times;
            own_times.push(own?);
            shared_times.push(shared?);
        }
    }
    let (own, shared) = (own_times.median()?, shared_times.median()?);
    let most = match shared {
        Figure::Millis(shared) => shared + MAX_ADDITIONAL_MS,
        _ => MAX_ADDITIONAL_MS,
    };
    let row = Row::new("launch → first command, container of its own", own)
        .beside("shared container", Ok(shared))
        .target(Target::AtMost(most.round()));
    report.section("relay's own times of 20 jobs each, medians in turn", [row]);
    Ok(())
}

/// Launches a job and returns the time until its command began.
fn time_to_first_command(site: &Site) -> Fallible<Duration> {
    let record = site.ended(&site.launch_shell("true", &[]));
    let started_at = record.started_at.ok_or("the job did not start")?;
    Ok(Duration::try_from(started_at.duration_since(record.created_at))?)
}
