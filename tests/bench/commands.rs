//! Duration of the usual commands, with an empty registry and with a full one, beside other tools' commands.

use std::process::Command;

use relay_tests::harness::Site;

use crate::peers::{Container, Pueue, Spooler};
use crate::samples::{self, Contender, take_turns};
use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, crowd, memory, restart};

/// Number of runs of each command.
const ROUNDS: usize = 100;

/// The other tools, or the reasons why they are missing.
struct Peers {
    pueue: Result<Pueue, String>,
    spooler: Result<Spooler, String>,
    container: Result<Container, String>,
}

/// Adds the rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let full = crowd::empty(1)?;
    let events = crowd::fill(&full)?;
    let restarts = restart::measure(&full)?;
    let idle = memory::idle(&full)?;
    let empty = crowd::empty(1)?;
    for site in [&empty, &full] {
        block(site);
    }
    let peers = Peers {
        pueue: Pueue::start(empty.root()).map_err(|e| e.to_string()),
        spooler: Spooler::start(empty.root()).map_err(|e| e.to_string()),
        container: Container::start().map_err(|e| e.to_string()),
    };
    // Measured before the launches, while every tool has few tasks.
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

/// Occupies a site's only worker, so that every later launch waits.
fn block(site: &Site) {
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
    let [relay, crowded, pueue, spooler, docker, floor, disk] = &contenders;
    let row = |peer: &Contender<'_>| -> Fallible<Row> {
        Ok(Row::new(relay.name(), relay.median()?).beside(peer.name(), peer.median()))
    };
    Ok(vec![
        row(pueue)?.target(Target::Times(0.8)),
        row(docker)?.target(Target::Times(1.0 / 30.0)),
        row(spooler)?,
        row(floor)?,
        row(disk)?,
        among_many("relay launch -q", crowded.median()?, relay.median()),
    ])
}

/// A process that writes one small file durably; a launch writes two, and their folder.
fn durable_write(site: &Site) -> Command {
    let mut command = Command::new("dd");
    command.args(["if=/dev/zero", "bs=1000", "count=1", "conv=fsync"]);
    command.arg(format!("of={}", site.root().join("durable").display()));
    command
}

fn status(empty: &Site, full: &Site, peers: &Peers) -> Fallible<Vec<Row>> {
    if let Ok(pueue) = &peers.pueue {
        // As many tasks as there are jobs that have not ended.
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
    let [relay, crowded, pueue, spooler] = &contenders;
    let row = |peer: &Contender<'_>| -> Fallible<Row> {
        Ok(Row::new(relay.name(), relay.median()?).beside(peer.name(), peer.median()))
    };
    Ok(vec![
        row(pueue)?.target(Target::Times(0.4)),
        row(spooler)?,
        among_many(relay.name(), crowded.median()?, relay.median()),
    ])
}

fn among_many(what: &str, crowded: Figure, empty: Result<Figure, String>) -> Row {
    Row::new(&format!("{what}, 10,000 jobs"), crowded)
        .beside("the same, none", empty)
        .target(Target::Times(1.2))
}
