//! Follows the engine's events of the container while the daemon lives.
//!
//! ```text
//!  Starting ──stream open──► Following ──stream ends──► Waiting (0.5 s … 30 s) ──► Starting
//!                 └── the container is inspected, which shows what happened while the stream was closed
//! ```
//!
//! The stream is a child process that never outlives the relay: the relay starts it through a shell, and the shell ends
//! it when its own stdin closes. Only the relay holds that stdin open.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::core::{ContainerChange, Input};
use super::message::Message;
use super::platform::Platform;
use crate::container_state::{ContainerExit, ContainerState};
use crate::engine::events::{ContainerEvent, MAX_LINE, parse_event};

/// Pause before a stream that ended is opened again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Maximum pause, for an engine that stays unreachable. An attempt to start the platform also detects that the engine
/// is back.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Stream lifetime that resets the backoff.
const RESET_AFTER: Duration = Duration::from_secs(10);
/// Maximum time between the kernel's out-of-memory event and the exit. They are normally milliseconds apart.
const OOM_WINDOW: Duration = Duration::from_secs(2);
/// Shell script that runs the engine's command and ends it at the end of stdin. Only the command keeps the stdout open,
/// so that the reader sees when the command ends.
const GUARD_SCRIPT: &str = r#""$@" & exec >/dev/null; read -r _; kill "$!" 2>/dev/null"#;

/// Starts to follow the events; does nothing for a platform that is not a container.
pub(super) fn spawn(platform: Platform, core: mpsc::Sender<Message>) {
    if platform.engine().is_container() {
        tokio::spawn(follow_repeatedly(platform, core));
    }
}

async fn follow_repeatedly(platform: Platform, core: mpsc::Sender<Message>) {
    let mut wait = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        if let Err(e) = follow_stream(&platform, &core).await {
            tracing::warn!("the engine's events can't be followed: {e}");
        }
        wait = if begun.elapsed() >= RESET_AFTER { FIRST_PAUSE } else { (wait * 2).min(MAX_PAUSE) };
        sleep(wait).await;
    }
}

async fn follow_stream(platform: &Platform, core: &mpsc::Sender<Message>) -> std::io::Result<()> {
    let mut child = Command::new("sh")
        .args(["-c", GUARD_SCRIPT, "sh"])
        .args(platform.events_command())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A Ctrl-C in the relay's terminal must not end this child before the relay itself.
        .process_group(0)
        .spawn()?;
    let Some(stdout) = child.stdout.take() else { return Ok(()) };
    if let Ok(state) = platform.container_state().await {
        send_change(core, ContainerChange::Inspected(state)).await;
    }
    let mut lines = BufReader::new(stdout);
    let mut oom: Option<Instant> = None;
    while let Some(line) = next_line(&mut lines).await? {
        let change = match parse_event(&line) {
            None => continue,
            Some(ContainerEvent::OutOfMemory) => {
                oom = Some(Instant::now());
                continue;
            }
            Some(ContainerEvent::Died { exit_code }) => {
                let oom = oom.take().is_some_and(|at| at.elapsed() < OOM_WINDOW);
                ContainerChange::Died(container_exit(platform, exit_code, oom).await)
            }
            Some(ContainerEvent::Started) => ContainerChange::Started,
            Some(ContainerEvent::Stopped) => ContainerChange::Stopped,
            Some(ContainerEvent::Paused) => ContainerChange::Paused,
            Some(ContainerEvent::Unpaused) => ContainerChange::Unpaused,
            Some(ContainerEvent::Removed) => ContainerChange::Removed,
        };
        send_change(core, change).await;
    }
    // The end of its stdin ends the shell.
    drop(child.stdin.take());
    child.wait().await.map(|_| ())
}

/// Combines the event with an inspection of the container.
async fn container_exit(platform: &Platform, exit_code: Option<i32>, oom: bool) -> ContainerExit {
    let oom_killed = oom && exit_code == Some(137);
    match platform.container_state().await {
        Ok(state @ ContainerState::Exited { .. }) => {
            let seen = ContainerExit::from_state(&state);
            ContainerExit {
                exit_code: exit_code.or(seen.exit_code),
                oom_killed: oom_killed || seen.oom_killed,
                ..seen
            }
        }
        // The container was already started again or removed.
        _ => ContainerExit::from_exit_code(exit_code, oom_killed),
    }
}

async fn send_change(core: &mpsc::Sender<Message>, change: ContainerChange) {
    // Sending can't fail, because the core exists until the process ends.
    let _ = core.send(Input::ContainerChanged(change).into()).await;
}

/// Reads the next line; returns `None` at the end. Truncates a line that is too long.
async fn next_line(reader: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut limited = (&mut *reader).take(MAX_LINE as u64);
    if limited.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    let mut whole = line.ends_with(b"\n") || line.len() < MAX_LINE;
    while !whole {
        let mut rest = Vec::new();
        let read = (&mut *reader).take(MAX_LINE as u64).read_until(b'\n', &mut rest).await?;
        whole = read == 0 || rest.ends_with(b"\n");
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let long = [vec![b'x'; 3 * MAX_LINE + 7], b"\nshort\nlast".to_vec()].concat();
        let mut reader = BufReader::new(long.as_slice());
        assert_eq!(next_line(&mut reader).await.unwrap().map(|line| line.len()), Some(MAX_LINE));
        assert_eq!(next_line(&mut reader).await.unwrap().as_deref(), Some(&b"short\n"[..]));
        assert_eq!(next_line(&mut reader).await.unwrap().as_deref(), Some(&b"last"[..]));
        assert_eq!(next_line(&mut reader).await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_command_ends_with_whoever_holds_its_stdin_and_its_own_end_shows() {
        let guarded = |args: &[&str]| {
            let mut command = Command::new("sh");
            command.args(["-c", GUARD_SCRIPT, "sh"]).args(args);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let mut told = guarded(&["echo", "hello"]);
        let mut said = String::new();
        told.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "hello\n");

        let mut endless = guarded(&["sleep", "1000"]);
        drop(endless.stdin.take());
        // Its stdout ends when the last process that holds it ends: the command itself.
        let (mut said, mut stdout) = (String::new(), endless.stdout.take().unwrap());
        let ended = stdout.read_to_string(&mut said);
        tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap().unwrap();
    }
}
