//! The stand-in for Codex: this program, called as Codex. It prints lines in the format of `codex exec --json`.
//!
//! `[codex] program` names this program, so the agent calls it with Codex's arguments. The prompt selects the lines:
//! * `ticks COUNT MILLIS`: COUNT commands, each with this duration and followed by a pause as long. Each command line
//!   contains the wall-clock time in nanoseconds at which it was written.
//! * `stream COUNT FILE`: COUNT answers of the model at once, at the address in the arguments; the times of their events
//!   go into FILE, in nanoseconds.
//! * `flood COUNT`: COUNT commands as fast as the pipe takes them.

use std::env;
use std::io::{self, BufWriter, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Fallible, model_stream};

/// Returns true if this program was called as Codex.
pub(crate) fn is_called() -> bool {
    matches!(env::args().nth(1).as_deref(), Some("exec" | "--version"))
}

/// Runs the stand-in.
pub(crate) fn run() -> ExitCode {
    let result = if env::args().nth(1).as_deref() == Some("exec") { run_task() } else { print_version() };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn print_version() -> Fallible<()> {
    // A version that the agent does not refuse as too old.
    Ok(writeln!(io::stdout(), "codex-cli 0.169.0")?)
}

fn run_task() -> Fallible<()> {
    let mut prompt = String::new();
    io::stdin().read_to_string(&mut prompt)?;
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, r#"{{"type":"thread.started","thread_id":"00000000-0000-7000-8000-000000000000"}}"#)?;
    writeln!(out, r#"{{"type":"turn.started"}}"#)?;
    match prompt.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["ticks", count, millis] => {
            print_ticks(&mut out, count.parse()?, Duration::from_millis(millis.parse()?))?;
        }
        ["stream", count, file] => stream(count.parse()?, file)?,
        ["flood", count] => print_flood(&mut out, count.parse()?)?,
        _ => return Err(format!("the stand-in does not know how to '{prompt}'").into()),
    }
    let usage = r#"{"input_tokens":1,"cached_input_tokens":0,"output_tokens":1,"reasoning_output_tokens":0}"#;
    writeln!(out, r#"{{"type":"turn.completed","usage":{usage}}}"#)?;
    Ok(out.flush()?)
}

/// Receives answers of the model through the gateway.
fn stream(count: usize, file: &str) -> Fallible<()> {
    let provider = env::args().find(|arg| arg.starts_with("model_providers.relay=")).ok_or("no gateway")?;
    let address = provider.split_once("base_url=\"http://").and_then(|(_, url)| url.split_once('/'));
    let (address, _) = address.ok_or("the gateway has no address")?;
    let times = model_stream::receive(address.parse()?, &env::var("RELAY_JOB_TOKEN")?, count)?;
    let lines: Vec<String> = times.iter().map(|time| time.as_nanos().to_string()).collect();
    Ok(std::fs::write(file, lines.join("\n"))?)
}

fn print_ticks(out: &mut impl Write, count: u64, duration: Duration) -> Fallible<()> {
    for n in 0..count {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        print_started(out, n, &format!("echo {now}"))?;
        out.flush()?;
        std::thread::park_timeout(duration);
        print_completed(out, n, &format!("echo {now}"))?;
        out.flush()?;
        std::thread::park_timeout(duration);
    }
    Ok(())
}

fn print_flood(out: &mut impl Write, count: u64) -> Fallible<()> {
    for n in 0..count {
        let command = format!("echo {n}");
        print_started(out, n, &command)?;
        print_completed(out, n, &command)?;
    }
    Ok(())
}

fn print_started(out: &mut impl Write, n: u64, command: &str) -> io::Result<()> {
    let state = r#""aggregated_output":"","exit_code":null,"status":"in_progress""#;
    print_item(out, "item.started", n, command, state)
}

fn print_completed(out: &mut impl Write, n: u64, command: &str) -> io::Result<()> {
    let state = r#""aggregated_output":"done\n","exit_code":0,"status":"completed""#;
    print_item(out, "item.completed", n, command, state)
}

/// Prints a line of Codex about a command. `state` has the JSON fields that follow the command.
fn print_item(out: &mut impl Write, event_type: &str, n: u64, command: &str, state: &str) -> io::Result<()> {
    let item = format!(r#""id":"item_{n}","type":"command_execution","command":"/bin/bash -lc '{command}'""#);
    writeln!(out, r#"{{"type":"{event_type}","item":{{{item},{state}}}}}"#)
}
