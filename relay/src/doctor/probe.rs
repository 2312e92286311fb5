//! Runs programs that may hang, flood their output or leave processes behind.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Time limit of a program: engines on another machine need a second, and no working program needs more than this.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// Wait for remaining output after a program has ended: a process that it left behind may hold the pipe open.
const DRAIN: Duration = Duration::from_millis(200);
/// Maximum number of bytes read of each stream.
const MAX_OUTPUT: u64 = 64 * 1024;

/// Result of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProbeOutput {
    /// The program ended.
    Ended {
        /// True for exit code 0.
        well: bool,
        /// Output, without surrounding whitespace.
        stdout: String,
        /// Error output.
        stderr: String,
    },
    /// The program can't be run, with the reason.
    NotRun(String),
    /// The program did not end in time and was killed.
    Silent,
}

impl ProbeOutput {
    /// Returns its output, if it ended with exit code 0.
    pub(super) fn answer(&self) -> Option<&str> {
        match self {
            Self::Ended { well: true, stdout, .. } => Some(stdout),
            _ => None,
        }
    }

    /// Describes the failure in one line.
    pub(super) fn error_text(&self) -> String {
        match self {
            Self::Ended { well: true, .. } => "its output can't be parsed".to_owned(),
            Self::Ended { stderr, stdout, .. } => {
                let text = if stderr.is_empty() { stdout } else { stderr };
                crate::engine::command::last_line(text.as_bytes())
            }
            Self::NotRun(why) => why.clone(),
            Self::Silent => format!("no answer within {} s", LIMIT.as_secs()),
        }
    }
}

/// Runs a program to its end, for at most [`LIMIT`].
pub(super) fn run_probe(program: &str, args: &[&str]) -> ProbeOutput {
    run_probe_within(Command::new(program).args(args), LIMIT)
}

/// Runs a command to its end, for at most `limit`; kills its whole process group then.
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
    // Each reader holds a sender until its stream has ended.
    let (open, streams) = channel::<()>();
    let stdout = child.stdout.take().map(|pipe| read(pipe, open.clone())).unwrap_or_default();
    let stderr = child.stderr.take().map(|pipe| read(pipe, open)).unwrap_or_default();
    let Some(well) = ended(child, deadline) else {
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        return ProbeOutput::Silent;
    };
    let _ = streams.recv_timeout(DRAIN);
    ProbeOutput::Ended { well, stdout: text(&stdout), stderr: text(&stderr) }
}

/// Waits for the end; `None` if the deadline passes.
fn ended(mut child: Child, deadline: Instant) -> Option<bool> {
    let (sender, end) = channel();
    thread::spawn(move || sender.send(child.wait().is_ok_and(|status| status.success())));
    end.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

type Bytes = Arc<Mutex<Vec<u8>>>;

fn read(pipe: impl Read + Send + 'static, open: Sender<()>) -> Bytes {
    let bytes = Bytes::default();
    let filled = Arc::clone(&bytes);
    thread::spawn(move || {
        let mut pipe = pipe.take(MAX_OUTPUT);
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = pipe.read(&mut piece) {
            let read = piece.get(..n).unwrap_or_default();
            filled.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(read);
        }
        drop(open);
    });
    bytes
}

fn text(bytes: &Bytes) -> String {
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
    fn a_program_answers_complains_hangs_or_is_not_there() {
        let long = Duration::from_secs(20);
        assert_eq!(sh("echo yes", long).answer(), Some("yes"));
        assert_eq!(sh("echo first >&2; echo no >&2; exit 1", long).error_text(), "no");
        assert_eq!(sh("sleep 60", Duration::from_millis(50)), ProbeOutput::Silent);
        assert_eq!(run_probe("no-such-program", &[]).error_text(), "it is not installed");
    }

    #[test]
    fn what_a_program_leaves_behind_or_floods_is_not_waited_for() {
        let began = Instant::now();
        assert_eq!(sh("echo here; sleep 30 & exit 0", Duration::from_secs(20)).answer(), Some("here"));
        let flood = sh("yes", Duration::from_secs(20));
        assert!(matches!(&flood, ProbeOutput::Ended { stdout, .. } if stdout.len() < 70_000));
        assert!(began.elapsed() < Duration::from_secs(15));
    }
}
