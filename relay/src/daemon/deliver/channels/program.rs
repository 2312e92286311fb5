//! Runs a process within a time limit and ends it with all its children.

use std::process::Stdio;
use std::time::Duration;

use common::text_format;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, Command};
use tokio::time::timeout;

/// Maximum number of bytes that are kept of a process's stderr: the last ones.
const MAX_STDERR: usize = 4096;
/// Time limit for reading the rest of stderr after a process has ended: a child may hold the stream open.
const STDERR_DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// Process group that is killed unless its leader has ended by itself.
struct ProcessGroup(Option<Pid>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Killing fails if the group has just ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs a program in a process group of its own, with `input` on its stdin.
///
/// # Errors
/// A one-line message: the program can't be started, ended with a failure, or was killed because it took longer than
/// `limit`.
pub(super) async fn run_with_limit(
    mut command: Command,
    input: Vec<u8>,
    limit: Duration,
) -> Result<(), String> {
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(|e| format!("{name} can't be started: {e}"))?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let mut group = ProcessGroup(pid);
    let (stdin, mut stderr, mut stderr_bytes) = (child.stdin.take(), child.stderr.take(), Vec::new());
    let exit = timeout(limit, async {
        let transfer = async {
            tokio::join!(write_stdin(stdin, &input), read_stderr(stderr.as_mut(), &mut stderr_bytes));
            std::future::pending::<()>().await;
        };
        // Cancel-safe: the bytes read so far are in the buffer.
        tokio::select! {
            status = child.wait() => status,
            () = transfer => Err(std::io::ErrorKind::Other.into()),
        }
    });
    let Ok(status) = exit.await else {
        drop(group);
        let _ = child.wait().await;
        return Err(format!("{name} did not end within {} s and was killed", limit.as_secs()));
    };
    group.0 = None;
    let status = status.map_err(|e| format!("{name} can't be waited for: {e}"))?;
    if status.success() {
        return Ok(());
    }
    let _ = timeout(STDERR_DRAIN_TIMEOUT, read_stderr(stderr.as_mut(), &mut stderr_bytes)).await;
    let last_line = String::from_utf8_lossy(&stderr_bytes)
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .map(str::to_owned);
    let detail = last_line.map(|line| format!(": {}", text_format::one_line(&line, 200))).unwrap_or_default();
    Err(format!("{name} ended with {status}{detail}"))
}

async fn write_stdin(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        // Writing fails if the program does not read its input, which is allowed.
        let _ = stdin.write_all(input).await;
    }
}

/// Reads to the end of the stream and keeps its last bytes.
async fn read_stderr(stderr: Option<&mut ChildStderr>, last_bytes: &mut Vec<u8>) {
    let Some(stderr) = stderr else { return };
    let mut chunk = [0; 1024];
    while let Ok(len @ 1..) = stderr.read(&mut chunk).await {
        last_bytes.extend_from_slice(&chunk[..len]);
        if last_bytes.len() > MAX_STDERR {
            last_bytes.drain(..last_bytes.len() - MAX_STDERR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        command
    }

    #[tokio::test]
    async fn a_program_gets_its_input_and_its_last_error_line_is_the_reason() {
        let limit = Duration::from_secs(120);
        assert_eq!(
            run_with_limit(shell("read -r line; test \"$line\" = hello"), b"hello\n".to_vec(), limit).await,
            Ok(())
        );
        // More than a pipe holds, to a program that reads nothing.
        assert_eq!(run_with_limit(shell("exit 0"), vec![b'x'; 1 << 20], limit).await, Ok(()));
        let refused =
            run_with_limit(shell("echo one >&2; printf '\\033[1mtwo' >&2; exit 3"), Vec::new(), limit).await;
        assert_eq!(refused, Err("sh ended with exit status: 3: [1mtwo".to_owned()));
        let absent = run_with_limit(Command::new("/nowhere/program"), Vec::new(), limit).await.unwrap_err();
        assert!(absent.starts_with("/nowhere/program can't be started: "), "{absent}");
    }

    #[tokio::test]
    async fn a_hanging_program_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let line = format!("trap '' TERM; sleep 1000 & echo $! >{}; wait", pid.display());
        let hung = run_with_limit(shell(&line), Vec::new(), Duration::from_secs(2)).await;
        assert_eq!(hung, Err("sh did not end within 2 s and was killed".to_owned()));
        let child: u32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let is_gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(120);
        while !is_gone() {
            assert!(std::time::Instant::now() < deadline, "the program's child is still running");
            tokio::task::yield_now().await;
        }
    }
}
