//! Time until a job's own place is ready, beside a clone by git of the same repository.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use relay_tests::harness::figures::times;
use relay_tests::harness::repository::{self, git, git_command};
use relay_tests::harness::{Engine, Site, until_by};

use crate::peers::Pueue;
use crate::samples::{Contender, Samples, take_turns};
use crate::table::{Report, Row, Target};
use crate::{Fallible, stop};

/// Sizes of the repositories in megabytes, each with its number of rounds. The last one only in nightly runs.
const SIZES: [(usize, usize); 3] = [(1, 20), (100, 5), (1000, 2)];
/// Number of launches.
const LAUNCHES: usize = 60;
/// Maximum time of a job on the largest repository.
const PATIENCE: Duration = Duration::from_secs(600);

/// Adds the rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let mut rows = Vec::new();
    for (megabytes, rounds) in &SIZES[..times(2, 3)] {
        rows.extend(ready(*megabytes, *rounds)?);
    }
    report.section(
        "a job's own place, from the end of its launch to its first command, beside git clone of the same repository, \
         medians in turn; the second job starts from one more commit",
        rows,
    );
    report.section("spawn to exit, medians in turn; one worker is busy, pueue is paused", launches()?);
    Ok(())
}

/// Measures places of one repository: of a platform that has nothing of it, and of one that had a job on it before.
fn ready(megabytes: usize, rounds: usize) -> Fallible<[Row; 2]> {
    let (open, confined) = (site(megabytes, false)?, site(megabytes, true)?);
    let source = format!("file://{}", open.workspace().display());
    let mut samples: [Samples; 4] = Default::default();
    let [cloned, first, cold, warm] = &mut samples;
    for round in 0..=rounds {
        stop::pause(Duration::ZERO)?;
        let clone = open.root().join("clone");
        let begun = Instant::now();
        git(open.root(), &["clone", "-q", "--depth", "1", &source, "clone"]);
        let by_git = begun.elapsed();
        fs::remove_dir_all(clone)?;
        let by_first = time_to_first_command(&open)?;
        forget(&confined)?;
        let by_cold = time_to_first_command(&confined)?;
        confined.write("workspace-projects/demo/round", &round.to_string());
        git(&confined.workspace(), &["add", "round"]);
        git(&confined.workspace(), &["commit", "-qm", "round"]);
        let by_warm = time_to_first_command(&confined)?;
        // The first round warms up the caches of the machine.
        if round > 0 {
            cloned.push(by_git);
            first.push(by_first);
            cold.push(by_cold);
            warm.push(by_warm);
        }
    }
    let name = |which: &str| format!("{megabytes} MB: place of {which}");
    Ok([
        Row::new(&name("a job"), first.median()?)
            .beside("git clone --depth 1", Ok(cloned.median()?))
            .target(Target::Times(1.2)),
        Row::new(&name("a second job, in Codex's sandbox"), warm.median()?)
            .beside("the first job", Ok(cold.median()?))
            .target(Target::Times(0.3)),
    ])
}

/// Creates a site whose workspace is a generated repository of this size. Only workers in a sandbox have a cache.
fn site(megabytes: usize, in_sandbox: bool) -> Fallible<Site> {
    let site = Site::new(Engine::Local);
    if in_sandbox {
        site.configure_in_sandbox("");
    }
    fs::remove_file(site.workspace().join("README"))?;
    repository::generate(&site.workspace(), megabytes << 20)?;
    site.relay(&["up"]);
    Ok(site)
}

/// Removes what the platform has kept of earlier jobs' repositories.
fn forget(site: &Site) -> Fallible<()> {
    let caches = site.home().join(".local/share/relay/repositories");
    match fs::remove_dir_all(caches) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Runs a job with a place of its own; returns the time from the end of its launch to its first command. The job is
/// offered to the agent after its launch has written it, so this is not less than the time from the offer.
fn time_to_first_command(site: &Site) -> Fallible<Duration> {
    // A worker in a sandbox can write there, too.
    let ready = env::temp_dir().join(format!("relay-bench-{}", std::process::id()));
    let job = site.launch_shell(&format!("date +%s%N > {}", ready.display()), &["--branch"]);
    let launched = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let ended = until_by(Instant::now() + PATIENCE, "the job ends", || {
        let record = site.record(&job);
        record.state.is_final().then_some(record)
    });
    let at = fs::read_to_string(&ready).map_err(|e| format!("{job}: {e}: {:?}", ended.error))?;
    fs::remove_file(&ready)?;
    Ok(Duration::from_nanos(at.trim().parse()?).saturating_sub(launched))
}

/// Measures launches with a place and without one, beside pueue.
fn launches() -> Fallible<[Row; 2]> {
    let site = site(1, false)?;
    site.launch_running("sleep 100000", &["-n", "busy"]);
    let pueue = Pueue::start(site.root()).map_err(|e| e.to_string());
    let launch = |more: &[&str]| {
        let line = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo"];
        site.command(&[&line[..], more, &["true"]].concat())
    };
    let mut contenders = [
        Contender::new("relay launch -q", || launch(&[])),
        Contender::new("relay launch -q --branch", || launch(&["--branch"])),
        Contender::of("pueue add", &pueue, |pueue| pueue.command(&["add", "true"])),
        Contender::new("git status", || {
            git_command(Path::new(&site.workspace()), &["status", "--porcelain"])
        }),
    ];
    take_turns(&mut contenders, LAUNCHES)?;
    let [plain, branch, pueue, status] = &contenders;
    Ok([
        Row::new(plain.name(), plain.median()?)
            .beside(pueue.name(), pueue.median())
            .target(Target::Times(0.8)),
        Row::new(branch.name(), branch.median()?).beside(status.name(), status.median()),
    ])
}
