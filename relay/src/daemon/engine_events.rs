//! Follows the engine's events about the platform's container and the boxes of jobs while the daemon lives.
//!
//! ```text
//!  Starting ──stream open──► Following ──stream ends──► Waiting (0.5 s … 30 s) ──► Starting
//!                 └── the containers are inspected, which shows what happened while the stream was closed
//! ```
//!
//! The stream is a child process that never outlives the relay: the relay starts it through a shell, and the shell ends
//! the process when the shell's stdin closes. Only the relay holds that stdin open.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::core::{AgentId, BoxChange, ContainerChange, Input};
use super::message::Message;
use super::platform::Platform;
use crate::container_state::{ContainerExit, ContainerState};
use crate::engine::events::{ContainerEvent, MAX_LINE_BYTES, implies_stop, parse_event};
use crate::job_box::BoxId;

/// Pause before an event stream that ended is opened again. It doubles with each attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Maximum pause before the stream is opened again, for an engine that stays unreachable. An attempt to start the
/// platform also detects that the engine is back.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Stream lifetime that resets the backoff.
const RESET_AFTER: Duration = Duration::from_secs(10);
/// Maximum time between the kernel's out-of-memory event and the resulting exit, normally some milliseconds.
const OOM_WINDOW: Duration = Duration::from_secs(2);
/// Shell script that runs the engine's command and ends it at the end of stdin. Only the command keeps stdout open, so
/// that the reader sees when the command ends.
const GUARD_SCRIPT: &str = r#""$@" & exec >/dev/null; read -r _; kill "$!" 2>/dev/null"#;

/// Starts a task that follows the events; does nothing for a platform that is not a container.
pub(super) fn spawn(platform: Platform, core: mpsc::Sender<Message>) {
    if platform.engine().is_container() {
        tokio::spawn(follow_repeatedly(platform, core));
    }
}

/// Earlier events of the running container that explain its next exit.
#[derive(Debug, Default)]
struct ExitHints {
    /// Time of the kernel's last out-of-memory event.
    oom_at: Option<Instant>,
    /// True if the engine reported a stop before the exit. The stop counts once the container has ended.
    is_stop_reported: bool,
}

async fn follow_repeatedly(platform: Platform, core: mpsc::Sender<Message>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let stream_start = Instant::now();
        if let Err(e) = follow_stream(&platform, &core).await {
            tracing::warn!("the engine's events can't be followed: {e}");
        }
        pause = if stream_start.elapsed() >= RESET_AFTER { FIRST_PAUSE } else { (pause * 2).min(MAX_PAUSE) };
        sleep(pause).await;
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
    let asked_at = Instant::now();
    match platform.list_boxes().await {
        Ok(found) => drop(core.send(Input::BoxesListed { found, asked_at }.into()).await),
        Err(e) => tracing::warn!("the containers of the jobs can't be listed: {e}"),
    }
    let mut lines = BufReader::new(stdout);
    let mut hints = ExitHints::default();
    let mut box_hints: BTreeMap<BoxId, Instant> = BTreeMap::new();
    while let Some(line) = next_line(&mut lines).await? {
        let event = match parse_event(&line) {
            None => continue,
            Some((Some(job_box), event)) => {
                follow_box(platform, core, job_box, event, &mut box_hints).await;
                continue;
            }
            Some((None, event)) => event,
        };
        let change = match event {
            ContainerEvent::OutOfMemory => {
                hints.oom_at = Some(Instant::now());
                continue;
            }
            ContainerEvent::Died { exit_code } => {
                let ExitHints { oom_at, is_stop_reported } = std::mem::take(&mut hints);
                let is_oom = oom_at.is_some_and(|at| at.elapsed() < OOM_WINDOW);
                let exit = complete_exit(platform.container_state().await, exit_code, is_oom);
                let is_stopped = is_stop_reported || implies_stop(platform.engine(), exit.exit_code);
                send_change(core, ContainerChange::Died(exit)).await;
                if !is_stopped {
                    continue;
                }
                ContainerChange::Stopped
            }
            ContainerEvent::Started => {
                hints = ExitHints::default();
                ContainerChange::Started
            }
            ContainerEvent::Stopped => {
                hints.is_stop_reported = true;
                ContainerChange::Stopped
            }
            ContainerEvent::Paused => ContainerChange::Paused,
            ContainerEvent::Unpaused => ContainerChange::Unpaused,
            ContainerEvent::Removed => ContainerChange::Removed,
        };
        send_change(core, change).await;
    }
    // The shell ends when its stdin ends.
    drop(child.stdin.take());
    child.wait().await.map(|_| ())
}

/// Reports an event of a box to the core. `oom_events` has the newest out-of-memory event of each box.
async fn follow_box(
    platform: &Platform,
    core: &mpsc::Sender<Message>,
    job_box: BoxId,
    event: ContainerEvent,
    oom_events: &mut BTreeMap<BoxId, Instant>,
) {
    let agent: AgentId = job_box.agent().as_str().into();
    let change = match event {
        ContainerEvent::OutOfMemory => {
            oom_events.insert(job_box, Instant::now());
            return;
        }
        ContainerEvent::Died { exit_code } => {
            let is_oom = oom_events.get(&job_box).is_some_and(|at| at.elapsed() < OOM_WINDOW);
            BoxChange::Exited(complete_exit(platform.box_state(job_box).await, exit_code, is_oom))
        }
        ContainerEvent::Removed => {
            oom_events.remove(&job_box);
            BoxChange::Removed
        }
        ContainerEvent::Started
        | ContainerEvent::Stopped
        | ContainerEvent::Paused
        | ContainerEvent::Unpaused => return,
    };
    let _ = core.send(Input::BoxChanged { agent, change }.into()).await;
}

/// Returns the exit that an event reports, completed by an inspection of the container.
fn complete_exit(
    state: Result<ContainerState, String>,
    exit_code: Option<i32>,
    is_oom: bool,
) -> ContainerExit {
    let oom_killed = is_oom && exit_code == Some(137);
    match state {
        Ok(state @ ContainerState::Exited { .. }) => {
            let inspected = ContainerExit::from_state(&state);
            ContainerExit {
                exit_code: exit_code.or(inspected.exit_code),
                oom_killed: oom_killed || inspected.oom_killed,
                ..inspected
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
    let mut limited = (&mut *reader).take(MAX_LINE_BYTES as u64);
    if limited.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    let mut is_complete = line.ends_with(b"\n") || line.len() < MAX_LINE_BYTES;
    while !is_complete {
        let mut rest = Vec::new();
        let read = (&mut *reader).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut rest).await?;
        is_complete = read == 0 || rest.ends_with(b"\n");
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_too_long_is_truncated_and_the_next_one_is_complete() {
        let long = [vec![b'x'; 3 * MAX_LINE_BYTES + 7], b"\nshort\nlast".to_vec()].concat();
        let mut reader = BufReader::new(long.as_slice());
        assert_eq!(next_line(&mut reader).await.unwrap().map(|line| line.len()), Some(MAX_LINE_BYTES));
        assert_eq!(next_line(&mut reader).await.unwrap().as_deref(), Some(&b"short\n"[..]));
        assert_eq!(next_line(&mut reader).await.unwrap().as_deref(), Some(&b"last"[..]));
        assert_eq!(next_line(&mut reader).await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_command_ends_with_its_stdin_and_its_end_closes_stdout() {
        let guarded = |args: &[&str]| {
            let mut command = Command::new("sh");
            command.args(["-c", GUARD_SCRIPT, "sh"]).args(args);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let mut short_command = guarded(&["echo", "hello"]);
        let mut output = String::new();
        short_command.stdout.take().unwrap().read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "hello\n");

        let mut endless_command = guarded(&["sleep", "1000"]);
        drop(endless_command.stdin.take());
        // The pipe of stdout ends when the last process that holds it ends: the command itself.
        let (mut output, mut stdout) = (String::new(), endless_command.stdout.take().unwrap());
        let reading = stdout.read_to_string(&mut output);
        tokio::time::timeout(Duration::from_secs(120), reading).await.unwrap().unwrap();
    }
}
