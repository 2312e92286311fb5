//! Runner of an engine's programs, always with a time limit.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::engine_kind::EngineKind;

/// Name of the agent's program.
const AGENT_PROGRAM: &str = "worker-agent";

/// Returns the path of the agent's program: beside this program, else on `PATH`.
pub fn agent_program() -> Result<PathBuf, String> {
    let sibling = std::env::current_exe().ok().map(|exe| exe.with_file_name(AGENT_PROGRAM));
    let path = std::env::var_os("PATH").unwrap_or_default();
    sibling
        .into_iter()
        .chain(std::env::split_paths(&path).map(|dir| dir.join(AGENT_PROGRAM)))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            format!("{AGENT_PROGRAM} was found neither beside relay nor on PATH: install it there")
        })
}

/// Time limit of a query. An engine on another machine needs a second to answer, or more under load.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit to start, stop or remove a container, or to run a short command in it.
pub const ACTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit to build an image: the build downloads packages.
pub const BUILD_TIMEOUT: Duration = Duration::from_secs(3600);
/// Maximum number of bytes that are kept of each output stream; the rest is discarded.
const MAX_OUTPUT_BYTES: u64 = 1024 * 1024;
/// Maximum wait for remaining output after the command has ended: a leftover process may hold the pipe open.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs a command with `input` on its stdin, for at most `limit`.
///
/// # Errors
/// Returns the last line of the command's output if the command failed, or a message that it took too long.
pub fn run_with_input(command: &mut Command, input: &[u8], limit: Duration) -> io::Result<()> {
    run_with_timeout(command, Some(input), limit, MAX_OUTPUT_BYTES).map(|_| ())
}

/// Runs a command for at most `limit`; returns its stdout without surrounding whitespace.
///
/// # Errors
/// Returns the last line of the command's output if the command failed, or a message that it took too long.
pub fn run_with_output(command: &mut Command, limit: Duration) -> io::Result<String> {
    run_with_timeout(command, None, limit, MAX_OUTPUT_BYTES)
        .map(|stdout| String::from_utf8_lossy(&stdout).trim().to_owned())
}

/// Runs a command for at most `limit`; returns its stdout, which may have at most `max_bytes` bytes.
///
/// # Errors
/// Returns the last line of the command's output if the command failed, or a message that it took or printed too much.
pub fn run_with_bytes(command: &mut Command, limit: Duration, max_bytes: u64) -> io::Result<Vec<u8>> {
    let stdout = run_with_timeout(command, None, limit, max_bytes.saturating_add(1))?;
    if stdout.len() as u64 > max_bytes {
        return Err(io::Error::other(format!("its output is longer than {max_bytes} bytes")));
    }
    Ok(stdout)
}

/// Runs a command for at most `limit` and shows its output. The command stays in the terminal's process group, so that
/// Ctrl-C ends it.
///
/// # Errors
/// Returns an error if the command can't be run, or took too long.
pub fn run_attached(command: &mut Command, limit: Duration) -> io::Result<ExitStatus> {
    let program = program_name(command);
    let child = command.spawn()?;
    let pid = pid_of(&child);
    wait_in_thread(child).recv_timeout(limit).unwrap_or_else(|_| {
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::KILL);
        }
        Err(timeout_error(&program, limit))
    })
}

/// Runs a command in a process group of its own, which is killed at the limit, and returns the command's stdout.
fn run_with_timeout(
    command: &mut Command,
    input: Option<&[u8]>,
    limit: Duration,
    max_output: u64,
) -> io::Result<Vec<u8>> {
    let program = program_name(command);
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child =
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn()?;
    let group = pid_of(&child);
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        let input = input.to_vec();
        // A failed write is ignored: if the child ends early, its error output is more useful than the error of the
        // pipe.
        thread::spawn(move || stdin.write_all(&input));
    }
    let stdout = read_in_thread(child.stdout.take(), max_output);
    let stderr = read_in_thread(child.stderr.take(), MAX_OUTPUT_BYTES);
    let Ok(status) = wait_in_thread(child).recv_timeout(limit) else {
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        return Err(timeout_error(&program, limit));
    };
    let (stdout, stderr) = (stdout.recv_timeout(DRAIN_TIMEOUT), stderr.recv_timeout(DRAIN_TIMEOUT));
    if status?.success() {
        return Ok(stdout.unwrap_or_default());
    }
    // Docker reports on stdout why it could not start a program in a container.
    let message = stderr.ok().filter(|stderr| !stderr.trim_ascii().is_empty()).or(stdout.ok());
    Err(io::Error::other(last_line(&message.unwrap_or_default())))
}

fn wait_in_thread(mut child: Child) -> Receiver<io::Result<ExitStatus>> {
    let (sender, exit_status) = channel();
    thread::spawn(move || sender.send(child.wait()));
    exit_status
}

fn read_in_thread(pipe: Option<impl Read + Send + 'static>, max_bytes: u64) -> Receiver<Vec<u8>> {
    let (sender, output) = channel();
    thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut bytes = Vec::new();
        // Output before a read error is still shown.
        let _ = (&mut pipe).take(max_bytes).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
        let _ = io::copy(&mut pipe, &mut io::sink());
    });
    output
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn program_name(command: &Command) -> String {
    let program = Path::new(command.get_program());
    program.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn timeout_error(program: &str, limit: Duration) -> io::Error {
    let message = format!("{program} did not answer within {} s", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// Returns the last line that a command printed, sanitized.
pub fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output");
    common::text_format::one_line(line, 400)
}

/// Builds the message for an engine whose command can't be run.
pub fn not_installed_message(engine: EngineKind, error: &io::Error) -> String {
    format!("the command {engine} can't be run ({error}): install it, or use `relay up --engine local`")
}

/// Returns a command of an engine.
pub(super) fn engine_command(engine: EngineKind, args: &[&str]) -> Command {
    let mut command = Command::new(engine.as_str());
    command.args(args);
    command
}

/// Runs a command of an engine, with the time limit of its kind. Returns what it prints.
///
/// # Errors
/// One line with the reason.
pub(super) fn query(engine: EngineKind, args: &[&str]) -> Result<String, String> {
    let is_query = matches!(args.first(), Some(&("version" | "info" | "container" | "image")));
    run_with_output(&mut engine_command(engine, args), if is_query { QUERY_TIMEOUT } else { ACTION_TIMEOUT })
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => not_installed_message(engine, &e),
            _ => e.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn sh(line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        command
    }

    #[test]
    fn a_command_succeeds_fails_or_is_killed_with_its_process_group() {
        let long = Duration::from_secs(200);
        assert_eq!(run_with_output(&mut sh("echo yes"), long).unwrap(), "yes");
        assert_eq!(
            run_with_output(&mut sh("echo first >&2; echo no >&2; exit 1"), long).unwrap_err().to_string(),
            "no"
        );
        run_with_input(&mut sh("grep -q input"), b"some input", long).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let mut hanging_command = sh(&format!("sleep 1000 & echo $! >{}; wait", pid.display()));
        let error = run_with_output(&mut hanging_command, Duration::from_secs(2)).unwrap_err();
        assert_eq!(error.to_string(), "sh did not answer within 2 s");
        let pid: i32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        let deadline = Instant::now() + long;
        // A zombie that init has not reaped yet counts as gone.
        let is_alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while is_alive() {
            assert!(Instant::now() < deadline, "{pid} lives on");
            thread::yield_now();
        }
    }

    #[test]
    fn leftover_processes_and_unread_input_are_not_waited_for() {
        let long = Duration::from_secs(200);
        let began = Instant::now();
        assert!(run_with_output(&mut sh("echo here; sleep 200 & exit 0"), long).is_ok());
        run_with_input(&mut sh("exit 0"), &vec![b'x'; 1 << 20], long).unwrap();
        assert_eq!(
            run_attached(&mut sh("sleep 200"), Duration::from_millis(50)).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        assert!(began.elapsed() < Duration::from_secs(100));
    }
}
