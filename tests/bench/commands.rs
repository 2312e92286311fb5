//! Duration of the usual commands with an empty and a full registry, and of comparable commands of other tools.

use std::process::Command;

use relay_tests::harness::Site;

use crate::peers::{Container, Pueue, Spooler};
use crate::samples::{self, Contender, take_turns};
use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, crowd, memory, restart};

/// Number of measured runs of each command.
const ROUNDS: usize = 100;

/// The other tools, or the reasons why they are missing.
struct Peers {
    pueue: Result<Pueue, String>,
    spooler: Result<Spooler, String>,
    container: Result<Container, String>,
}

/// Measures the group `commands` and adds its rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let full = crowd::empty_site(1)?;
    let events = crowd::fill_with_jobs(&full)?;
    let restarts = restart::measure(&full)?;
    let idle = memory::measure_idle(&full)?;
    let empty = crowd::empty_site(1)?;
    for site in [&empty, &full] {
        occupy_slot(site);
    }
    let peers = Peers {
        pueue: Pueue::start(empty.root()).map_err(|e| e.to_string()),
        spooler: Spooler::start(empty.root()).map_err(|e| e.to_string()),
        container: Container::start().map_err(|e| e.to_string()),
    };
    // Before the launches, because the number of tasks affects the other tools.
    let status = status(&empty, &full, &peers)?;
    let launch = launch(&empty, &full, &peers)?;
    report.section(
        &format!(
            "spawn to exit, medians of {ROUNDS} rounds in turn; the daemons are up and what is launched waits (relay's \
             one worker is busy, pueue is paused, tsp's slot is taken)"
        ),
        launch.into_iter().chain(status),
    );
    report.section(
        &format!("relay over {} jobs with {events} events", crowd::JOBS),
        restarts.into_iter().chain(idle),
    );
    Ok(())
}

/// Occupies a site's only worker and queues a job, so that every later launch waits.
fn occupy_slot(site: &Site) {
    site.relay(&["up"]);
    site.launch_running("sleep 100000", &["-n", "busy"]);
    site.launch_shell("true", &[]);
}

fn launch(empty: &Site, full: &Site, peers: &Peers) -> Fallible<Vec<Row>> {
    let relay = |site: &Site| {
        site.command(&[
            "launch",
            "-q",
            "--share",
            "--runner",
            "shell",
            "-w",
            "workspace-projects/demo",
            "true",
        ])
    };
    let mut contenders = [
        Contender::new("relay launch -q", || relay(empty)),
        Contender::new("relay launch -q", || relay(full)),
        Contender::of("pueue add", &peers.pueue, |pueue| pueue.command(&["add", "true"])),
        Contender::of("tsp -n", &peers.spooler, |spooler| spooler.command(&["-n", "true"])),
        Contender::of("docker exec -d", &peers.container, Container::exec),
        Contender::new("/bin/true", || Command::new("/bin/true")),
        Contender::new("dd conv=fsync", || durable_write(empty)),
    ];
    take_turns(&mut contenders, ROUNDS)?;
    let [relay, full_relay, pueue, spooler, docker, process, disk] = &contenders;
    let row = |peer: &Contender<'_>| -> Fallible<Row> {
        Ok(Row::new(relay.name(), relay.median()?).beside(peer.name(), peer.median()))
    };
    Ok(vec![
        row(pueue)?.target(Target::Times(0.8)),
        row(docker)?.target(Target::Times(1.0 / 30.0)),
        row(spooler)?,
        row(process)?,
        row(disk)?,
        row_of_full_registry("relay launch -q", full_relay.median()?, relay.median()),
    ])
}

/// Returns a command that writes one small file and synchronises it. A launch does this with two files and a folder.
fn durable_write(site: &Site) -> Command {
    let mut command = Command::new("dd");
    command.args(["if=/dev/zero", "bs=1000", "count=1", "conv=fsync"]);
    command.arg(format!("of={}", site.root().join("durable").display()));
    command
}

fn status(empty: &Site, full: &Site, peers: &Peers) -> Fallible<Vec<Row>> {
    if let Ok(pueue) = &peers.pueue {
        // As many tasks as the relay has jobs that have not ended.
        for _ in 0..2 {
            samples::time(&mut pueue.command(&["add", "true"]))?;
        }
    }
    let relay = |site: &Site| site.command(&["status", "--json", "--latest"]);
    let mut contenders = [
        Contender::new("relay status --json --latest", || relay(empty)),
        Contender::new("relay status --json --latest", || relay(full)),
        Contender::of("pueue status --json", &peers.pueue, |pueue| pueue.command(&["status", "--json"])),
        Contender::of("tsp", &peers.spooler, |spooler| spooler.command(&[])),
    ];
    take_turns(&mut contenders, ROUNDS)?;
    let [relay, full_relay, pueue, spooler] = &contenders;
    let row = |peer: &Contender<'_>| -> Fallible<Row> {
        Ok(Row::new(relay.name(), relay.median()?).beside(peer.name(), peer.median()))
    };
    Ok(vec![
        row(pueue)?.target(Target::Times(0.4)),
        row(spooler)?,
        row_of_full_registry(relay.name(), full_relay.median()?, relay.median()),
    ])
}

/// Returns the row that compares a command in a registry with 10,000 jobs with the same command in an empty registry.
fn row_of_full_registry(command: &str, full: Figure, empty: Result<Figure, String>) -> Row {
    Row::new(&format!("{command}, 10,000 jobs"), full)
        .beside("the same, none", empty)
        .target(Target::Times(1.2))
}
