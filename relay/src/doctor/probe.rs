//! Runner of programs that may hang, flood their output or leave processes behind.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Time limit of a program. An engine on another machine needs a second to answer.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum wait for remaining output after a program has ended: a leftover process may hold the pipe open.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);
/// Maximum number of bytes that are read of each output stream.
const MAX_OUTPUT_BYTES: u64 = 64 * 1024;

/// Result of running a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProbeOutput {
    /// The program ended.
    Ended {
        /// True for exit code 0.
        succeeded: bool,
        /// Output, without surrounding whitespace.
        stdout: String,
        /// Error output.
        stderr: String,
    },
    /// The program can't be run, with the reason.
    NotRun(String),
    /// The program did not end in time and was killed.
    TimedOut,
}

impl ProbeOutput {
    /// Returns the program's output, if it ended with exit code 0.
    pub(super) fn stdout_on_success(&self) -> Option<&str> {
        match self {
            Self::Ended { succeeded: true, stdout, .. } => Some(stdout),
            _ => None,
        }
    }

    /// Describes the failure in one line.
    pub(super) fn describe_failure(&self) -> String {
        match self {
            Self::Ended { succeeded: true, .. } => "its output can't be parsed".to_owned(),
            Self::Ended { stderr, stdout, .. } => {
                let text = if stderr.is_empty() { stdout } else { stderr };
                crate::engine::command::last_line(text.as_bytes())
            }
            Self::NotRun(reason) => reason.clone(),
            Self::TimedOut => format!("no answer within {} s", PROBE_TIMEOUT.as_secs()),
        }
    }
}

/// Runs a program to its end, for at most [`PROBE_TIMEOUT`].
pub(super) fn run_probe(program: &str, args: &[&str]) -> ProbeOutput {
    run_probe_within(Command::new(program).args(args), PROBE_TIMEOUT)
}

/// Runs a command to its end. After `limit` its whole process group is killed.
pub(super) fn run_probe_within(command: &mut Command, limit: Duration) -> ProbeOutput {
    let deadline = Instant::now() + limit;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return ProbeOutput::NotRun("it is not installed".into());
        }
        Err(e) => return ProbeOutput::NotRun(format!("it can't be run: {e}")),
    };
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // Each reader thread holds a sender until its stream has ended.
    let (stream_guard, streams) = channel::<()>();
    let stdout =
        child.stdout.take().map(|pipe| read_in_thread(pipe, stream_guard.clone())).unwrap_or_default();
    let stderr = child.stderr.take().map(|pipe| read_in_thread(pipe, stream_guard)).unwrap_or_default();
    let Some(has_succeeded) = wait_for_exit(child, deadline) else {
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        return ProbeOutput::TimedOut;
    };
    let _ = streams.recv_timeout(DRAIN_TIMEOUT);
    ProbeOutput::Ended {
        succeeded: has_succeeded,
        stdout: output_text(&stdout),
        stderr: output_text(&stderr),
    }
}

/// Waits for the child to exit. Returns true for exit code 0, and `None` if the deadline passes.
fn wait_for_exit(mut child: Child, deadline: Instant) -> Option<bool> {
    let (sender, exits) = channel();
    thread::spawn(move || sender.send(child.wait().is_ok_and(|status| status.success())));
    exits.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

type SharedOutput = Arc<Mutex<Vec<u8>>>;

fn read_in_thread(pipe: impl Read + Send + 'static, stream_guard: Sender<()>) -> SharedOutput {
    let bytes = SharedOutput::default();
    let shared_bytes = Arc::clone(&bytes);
    thread::spawn(move || {
        let mut pipe = pipe.take(MAX_OUTPUT_BYTES);
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = pipe.read(&mut piece) {
            let read = piece.get(..n).unwrap_or_default();
            shared_bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(read);
        }
        drop(stream_guard);
    });
    bytes
}

fn output_text(bytes: &SharedOutput) -> String {
    let bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(line: &str, limit: Duration) -> ProbeOutput {
        run_probe_within(Command::new("sh").args(["-c", line]), limit)
    }

    #[test]
    fn a_program_succeeds_fails_hangs_or_is_not_installed() {
        let long = Duration::from_secs(200);
        assert_eq!(sh("echo yes", long).stdout_on_success(), Some("yes"));
        assert_eq!(sh("echo first >&2; echo no >&2; exit 1", long).describe_failure(), "no");
        assert_eq!(sh("sleep 60", Duration::from_millis(50)), ProbeOutput::TimedOut);
        assert_eq!(run_probe("no-such-program", &[]).describe_failure(), "it is not installed");
    }

    #[test]
    fn leftover_processes_and_endless_output_are_not_waited_for() {
        let began = Instant::now();
        let long = Duration::from_secs(200);
        assert_eq!(sh("echo here; sleep 200 & exit 0", long).stdout_on_success(), Some("here"));
        let flood = sh("yes", long);
        assert!(matches!(&flood, ProbeOutput::Ended { stdout, .. } if stdout.len() < 70_000));
        assert!(began.elapsed() < Duration::from_secs(100));
    }
}
