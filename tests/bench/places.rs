//! Time until a job's place (its own clone) is ready, beside a clone by git of the same repository.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::event::EventBody;
use common::job::StepKind;
use relay_tests::harness::figures::times;
use relay_tests::harness::repository::{self, git, git_command, prepared_clone};
use relay_tests::harness::{Engine, Site, until_by};

use crate::peers::Pueue;
use crate::samples::{Contender, Samples, take_turns};
use crate::table::{Report, Row, Target};
use crate::{Fallible, stop};

/// Sizes of the repositories in megabytes, each with its number of rounds. The last one only in nightly runs.
const SIZES: [(usize, usize); 3] = [(1, 20), (100, 5), (1000, 2)];
/// Number of measured rounds; each round runs every command once.
const LAUNCH_ROUNDS: usize = 60;
/// Maximum time of a job on the largest repository.
const PATIENCE: Duration = Duration::from_secs(600);

/// Adds the rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    // First: a disk that still writes large repositories is slow for everyone.
    let launches = launches()?;
    let mut rows = Vec::new();
    for (megabytes, rounds) in &SIZES[..times(2, 3)] {
        rows.extend(ready(*megabytes, *rounds)?);
    }
    report.section(
        "from the end of a job's launch until its own place is ready, beside git clone of the same repository, medians \
         in turn",
        rows,
    );
    report.section("spawn to exit, medians in turn; one worker is busy, pueue is paused", launches);
    Ok(())
}

/// Measures places of one repository: of a platform that has nothing of it, and of one that had a job on it before.
fn ready(megabytes: usize, rounds: usize) -> Fallible<Vec<Row>> {
    let open = site(false, megabytes)?;
    let source = format!("file://{}", open.workspace().display());
    let [mut cloned, mut made] = <[Samples; 2]>::default();
    for round in 0..=rounds {
        stop::pause(Duration::ZERO)?;
        let clone = open.root().join("clone");
        let begun = Instant::now();
        git(open.root(), &["clone", "-q", "--depth", "1", &source, "clone"]);
        let by_git = begun.elapsed();
        fs::remove_dir_all(clone)?;
        let by_relay = time_to_ready(&open)?;
        // The first round warms up the caches of the machine.
        if round > 0 {
            cloned.push(by_git);
            made.push(by_relay);
        }
    }
    let mut rows = vec![
        Row::new(&format!("{megabytes} MB: place of a job"), made.median()?)
            .beside("git clone --depth 1", Ok(cloned.median()?))
            .target(Target::Times(1.2)),
    ];
    rows.extend(ready_in_sandbox(megabytes, rounds)?);
    Ok(rows)
}

/// Measures places of workers in a sandbox: their agent keeps a cache of the repository and prepares the next clone.
fn ready_in_sandbox(megabytes: usize, rounds: usize) -> Fallible<[Row; 2]> {
    let site = site(true, megabytes)?;
    let [mut first, mut second, mut advanced] = <[Samples; 3]>::default();
    for round in 0..=rounds {
        stop::pause(Duration::ZERO)?;
        forget_repository(&site)?;
        let by_first = time_to_ready(&site)?;
        prepared_clone(&site);
        let by_second = time_to_ready(&site)?;
        prepared_clone(&site);
        site.write("workspace-projects/demo/round", &round.to_string());
        git(&site.workspace(), &["add", "round"]);
        git(&site.workspace(), &["commit", "-qm", "round"]);
        let by_advanced = time_to_ready(&site)?;
        prepared_clone(&site);
        if round > 0 {
            first.push(by_first);
            second.push(by_second);
            advanced.push(by_advanced);
        }
    }
    let row = |which: &str, samples: &Samples| -> Fallible<Row> {
        let name = format!("{megabytes} MB, sandbox: place of {which}");
        Ok(Row::new(&name, samples.median()?).beside("the first job", Ok(first.median()?)))
    };
    Ok([
        row("a second job", &second)?.target(Target::Times(0.3)),
        row("a second job, from one more commit", &advanced)?,
    ])
}

/// Creates a site whose workspace is a generated repository of this size.
fn site(in_sandbox: bool, megabytes: usize) -> Fallible<Site> {
    let site = Site::new(Engine::Local);
    if in_sandbox {
        site.configure_in_sandbox("");
    }
    fs::remove_file(site.workspace().join("README"))?;
    repository::generate(&site.workspace(), megabytes << 20)?;
    site.relay(&["up"]);
    Ok(site)
}

/// Removes everything that the agent has kept of the repositories of earlier jobs.
fn forget_repository(site: &Site) -> Fallible<()> {
    match fs::remove_dir_all(site.home().join(".local/share/relay/repositories")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Runs a job with a place of its own; returns the time from the end of its launch to the end of the step that made the
/// place. The job is offered to the agent after its launch has written it, so this is not less than the time from the
/// offer.
fn time_to_ready(site: &Site) -> Fallible<Duration> {
    let job = site.launch_shell("true", &["--branch"]);
    let launched = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let ended = until_by(Instant::now() + PATIENCE, "the job ends", || {
        let record = site.record(&job);
        record.state.is_final().then_some(record)
    });
    let mut clone_steps = HashSet::new();
    let mut ready = None;
    for event in site.events(&job).into_iter().filter_map(|line| line.event) {
        match event.body {
            EventBody::StepStarted { n, kind: StepKind::Clone, .. } => _ = clone_steps.insert(n),
            EventBody::StepFinished { n, .. } if clone_steps.contains(&n) => ready = Some(event.at),
            _ => {}
        }
    }
    let ready = ready.ok_or_else(|| format!("{job}: no place: {:?}", ended.error))?;
    let ready = Duration::from_millis(u64::try_from(ready.as_millisecond())?);
    Ok(ready.saturating_sub(launched))
}

/// Measures launches with a place and without one, beside pueue.
fn launches() -> Fallible<[Row; 2]> {
    let site = site(false, 1)?;
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
    take_turns(&mut contenders, LAUNCH_ROUNDS)?;
    let [plain, branch, pueue, status] = &contenders;
    Ok([
        Row::new(plain.name(), plain.median()?)
            .beside(pueue.name(), pueue.median())
            .target(Target::Times(0.8)),
        Row::new(branch.name(), branch.median()?).beside(status.name(), status.median()),
    ])
}
