//! This program in Codex's place: it prints the lines of `codex exec --json` that its prompt selects.
//!
//! `[codex] program` leads here, so the agent calls it as it calls Codex:
//! * `ticks COUNT MILLIS`: this many commands, one after the other, each of that length; the command line of each
//!   contains the wall-clock time in nanoseconds at which its line was written;
//! * `flood COUNT`: this many commands as fast as the pipe takes them.

use std::env;
use std::io::{self, BufWriter, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Fallible;

/// Returns true if the program was called as Codex.
pub(crate) fn is_asked() -> bool {
    matches!(env::args().nth(1).as_deref(), Some("exec" | "--version"))
}

/// Acts as Codex.
pub(crate) fn run() -> ExitCode {
    let result = if env::args().nth(1).as_deref() == Some("exec") { exec() } else { version() };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn version() -> Fallible<()> {
    // Any version that the agent does not reject as too old.
    Ok(writeln!(io::stdout(), "codex-cli 0.169.0")?)
}

fn exec() -> Fallible<()> {
    let mut prompt = String::new();
    io::stdin().read_to_string(&mut prompt)?;
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, r#"{{"type":"thread.started","thread_id":"00000000-0000-7000-8000-000000000000"}}"#)?;
    writeln!(out, r#"{{"type":"turn.started"}}"#)?;
    match prompt.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["ticks", count, millis] => ticks(&mut out, count.parse()?, Duration::from_millis(millis.parse()?))?,
        ["flood", count] => flood(&mut out, count.parse()?)?,
        _ => return Err(format!("the stand-in does not know how to '{prompt}'").into()),
    }
    let usage = r#"{"input_tokens":1,"cached_input_tokens":0,"output_tokens":1,"reasoning_output_tokens":0}"#;
    writeln!(out, r#"{{"type":"turn.completed","usage":{usage}}}"#)?;
    Ok(out.flush()?)
}

fn ticks(out: &mut impl Write, count: u64, length: Duration) -> Fallible<()> {
    for n in 0..count {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        started(out, n, &format!("echo {now}"))?;
        out.flush()?;
        std::thread::park_timeout(length);
        completed(out, n, &format!("echo {now}"))?;
        out.flush()?;
        std::thread::park_timeout(length);
    }
    Ok(())
}

fn flood(out: &mut impl Write, count: u64) -> Fallible<()> {
    for n in 0..count {
        let command = format!("echo {n}");
        started(out, n, &command)?;
        completed(out, n, &command)?;
    }
    Ok(())
}

fn started(out: &mut impl Write, n: u64, command: &str) -> io::Result<()> {
    item(out, "item.started", n, command, r#""aggregated_output":"","exit_code":null,"status":"in_progress""#)
}

fn completed(out: &mut impl Write, n: u64, command: &str) -> io::Result<()> {
    let end = r#""aggregated_output":"done\n","exit_code":0,"status":"completed""#;
    item(out, "item.completed", n, command, end)
}

fn item(out: &mut impl Write, kind: &str, n: u64, command: &str, end: &str) -> io::Result<()> {
    let item = format!(r#""id":"item_{n}","type":"command_execution","command":"/bin/bash -lc '{command}'""#);
    writeln!(out, r#"{{"type":"{kind}","item":{{{item},{end}}}}}"#)
}
