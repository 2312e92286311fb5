//! Benchmark: measures the figures that the design promises, in one run with comparable tools:
//!
//! ```text
//! cargo bench -p relay-tests --bench figures [-- GROUP…]
//! ```
//!
//! Prints a table with medians, ratios and the target of each figure. A missed target is no error, because the machine
//! may be loaded. If a figure could not be measured, its row says so, and the exit code is 1. `GROUP` selects groups of
//! figures by the beginning of their names: commands, lines, overhead, memory, observation, crowd-agents, short-jobs,
//! places, boxes, gateway, size.
//!
//! * [`setup`]: builds the release programs. * [`table`]: rows, units and targets. * [`samples`]: medians, and commands
//!   that run in turn. * [`stop`]: Ctrl-C ends the run cleanly. * [`peers`]: pueue, task-spooler, Docker, NATS and nginx.
//!   `--install-peers` lets the group `gateway` install nginx from Debian's packages.
//! * [`stand_in`]: the stand-in for Codex: this program, which the agent starts instead of Codex.
//! * One module per group of figures: [`commands`] (with [`crowd`] and [`restart`]), [`codex_lines`], [`overhead`],
//!   [`memory`] (with [`proc`]), [`observation`], [`crowd_agents`], [`short_jobs`], [`places`], [`boxes`],
//!   [`gateway`] (with [`model_stream`]), [`size`].

mod boxes;
mod codex_lines;
mod commands;
mod crowd;
mod crowd_agents;
mod gateway;
mod memory;
mod model_stream;
mod observation;
mod overhead;
mod peers;
mod places;
mod proc;
mod restart;
mod samples;
mod setup;
mod short_jobs;
mod size;
mod stand_in;
mod stop;
mod table;

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use table::Report;

/// Result of a measurement. The text of an error is shown in a row of the table.
type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// A group of figures: its name, and the function that measures it and adds its rows to the report.
type Group = (&'static str, fn(&mut Report) -> Fallible<()>);

const GROUPS: [Group; 11] = [
    ("commands", commands::measure),
    ("lines", codex_lines::measure),
    ("overhead", overhead::measure),
    ("memory", memory::measure),
    ("observation", observation::measure),
    ("crowd-agents", crowd_agents::measure),
    ("short-jobs", short_jobs::measure),
    ("places", places::measure),
    ("gateway", gateway::measure),
    ("boxes", boxes::measure),
    ("size", size::measure),
];

/// Figures of the design that this benchmark does not measure, with the reasons.
const NOT_MEASURED: [&str; 2] = [
    "deadline → last process gone: the end-to-end tests of the limits measure it",
    "engine docker: launch, status and the log are the same files and the same daemon with every engine",
];

fn main() -> ExitCode {
    if stand_in::is_called() {
        return stand_in::run();
    }
    match setup::prepare().and_then(|()| run()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("figures: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Measures every group; returns true if every figure could be measured.
fn run() -> Fallible<bool> {
    stop::listen_for_signals()?;
    let begun = Instant::now();
    let mut report = Report::default();
    let prefixes: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, measure) in GROUPS {
        if !prefixes.is_empty() && !prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        say(&format!("measuring: {name}"));
        // The harness panics if something fails. Here a panic becomes a row.
        let result = catch_unwind(AssertUnwindSafe(|| measure(&mut report)));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => report.add_failure(name, &error.to_string()),
            Err(panic) => report.add_failure(name, &panic_text(panic.as_ref())),
        }
        if stop::is_requested() {
            report.add_failure("the rest", "the run was interrupted");
            break;
        }
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{}\n\n{report}\nnot measured here:", setup::machine())?;
    for line in NOT_MEASURED {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "the run took {:.0} s", begun.elapsed().as_secs_f64())?;
    Ok(report.is_complete())
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it broke off").to_owned()
}

/// Prints a line to stderr. The table goes to stdout.
fn say(line: &str) {
    // A closed stderr is not an error.
    let _ = writeln!(io::stderr(), "{line}");
}
