//! Outer shim of a command in a sandbox. It starts the sandbox with an inner shim, and forwards messages between that
//! shim and the agent.
//!
//! ```text
//!  agent ◄──► outer shim ──► codex sandbox ──► bwrap ──► its first process ──► inner shim ──► the command
//!                 ▲                                                                 ▲
//!                 └──────────────────── a socket, as the inner shim's stdin ────────┘
//! ```
//!
//! The inner shim does the work of a shim: it finds, ends and counts the processes of the command, and reports the
//! leader's exit. Process ids differ inside the sandbox, so they are translated here. The programs of the sandbox do
//! not belong to the command: they are ended without being counted, after all processes of the command have ended.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::kill::{self, SignalledProcesses};
use super::orphan_report::ShimReport;
use super::output_fds::OutputFds;
use super::protocol::{Command, Decoder, Report, Request, SandboxLauncher, encode};
use super::tree::{self, Leader};

/// Time that the inner shim may take beyond the grace period: 3 s for killing processes, and a margin.
const INNER_OVERTIME: Duration = Duration::from_millis(3500);
/// Grace period that the inner shim gives the command after the agent's death and in a sweep.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);
/// Maximum time for the sandbox's own programs to end after the command. They usually need 20 ms.
const TEARDOWN_TIME: Duration = Duration::from_secs(2);
/// Maximum number of attempts to create a sandbox for one command. An attempt fails if the machine's mounts change
/// during it: a new mount would be writable in the sandbox, and a removed one breaks it. Docker adds mounts with each
/// container that it starts.
const MAX_ATTEMPTS: u32 = 5;
/// Maximum wait for an event; dead orphans are reaped in between.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Maximum number of bytes read of the sandbox's error output.
const MAX_STDERR: u64 = 4096;

/// Starts the sandbox, and forwards messages until all processes have ended.
pub(super) fn run_in_sandbox(
    control: UnixStream,
    decoder: Decoder,
    orphan_report: Option<ShimReport>,
    command: &Command,
    confine: &SandboxLauncher,
) {
    let mut outer = OuterShim {
        control,
        requests: decoder,
        is_agent_gone: false,
        orphan_report,
        unsent_outputs: None,
        inner: InnerShimState::default(),
        deadline: None,
        signalled: SignalledProcesses::default(),
    };
    for attempt in 1..=MAX_ATTEMPTS {
        if let Err(error) = outer.run_sandbox(command, confine) {
            let message = format!("the sandbox can't be started: {error}");
            return outer.send_report(&Report::SpawnFailed { message });
        }
        let Some(message) = outer.inner.sandbox_error.take() else { return };
        if attempt == MAX_ATTEMPTS || outer.is_agent_gone || outer.deadline.is_some() {
            return outer.send_report(&Report::SpawnFailed { message });
        }
        outer.inner = InnerShimState::default();
    }
}

/// Reports received from the inner shim.
#[derive(Debug, Default)]
struct InnerShimState {
    has_spawned: bool,
    has_exited: bool,
    /// Numbers of killed processes and of survivors; set once all processes have ended or can't be killed.
    end_counts: Option<(u32, u32)>,
    has_spawn_failed: bool,
    /// Reason why the sandbox ended before the command was started.
    sandbox_error: Option<String>,
}

struct OuterShim {
    control: UnixStream,
    requests: Decoder,
    /// True once the agent has died or closed the socket.
    is_agent_gone: bool,
    orphan_report: Option<ShimReport>,
    /// File descriptors for the output that have not been passed to the command yet.
    unsent_outputs: Option<OutputFds>,
    inner: InnerShimState,
    /// Time at which the outer shim kills everything, whatever the inner shim does.
    deadline: Option<Instant>,
    signalled: SignalledProcesses,
}

/// Connection to the inner shim, and the error output of the sandbox's own programs.
struct SandboxLink {
    socket: Option<UnixStream>,
    reports: Decoder,
    /// Error output of the sandbox's own programs.
    stderr: File,
}

fn start_sandbox(
    command: &Command,
    confine: &SandboxLauncher,
    outputs: &OutputFds,
) -> io::Result<(Leader, SandboxLink)> {
    let (mut socket, inner_socket) = UnixStream::pair()?;
    // The sandbox's programs do not write to the command's output, and do not hold its pipes.
    let stderr = File::from(memfd_create("sandbox-stderr", MemfdFlags::CLOEXEC)?);
    let [program, arguments @ ..] = confine.argv.as_slice() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program"));
    };
    let mut builder = std::process::Command::new(program);
    builder
        .args(arguments)
        .env_clear()
        .envs(&confine.env)
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(inner_socket)))
        .stdout(Stdio::null())
        .stderr(stderr.try_clone()?)
        .process_group(0);
    if let Some(ids) = command.user {
        builder.gid(ids.gid).uid(ids.uid);
    }
    let child = builder.spawn()?;
    drop(builder);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("it has no process id"))?;
    let leader = Leader { pid, pidfd: pidfd_open(pid, PidfdFlags::empty())? };
    let inner = Command { user: None, orphan_report: None, ..command.clone() };
    let request = Request::Enter(Box::new(inner), confine.check.clone());
    // If the reader is gone, a later read returns the end of the socket.
    let _ = outputs.send(&socket);
    let _ = socket.write_all(&encode(&request)?);
    Ok((leader, SandboxLink { socket: Some(socket), reports: Decoder::default(), stderr }))
}

impl OuterShim {
    /// Creates one sandbox, and forwards messages until all processes of the sandbox have ended.
    fn run_sandbox(&mut self, command: &Command, confine: &SandboxLauncher) -> io::Result<()> {
        let outputs = match self.unsent_outputs.take() {
            Some(outputs) => outputs,
            None => OutputFds::take_stdio()?,
        };
        let (leader, link) = start_sandbox(command, confine, &outputs)?;
        self.unsent_outputs = Some(outputs);
        self.forward_messages(&leader, link);
        Ok(())
    }

    fn forward_messages(&mut self, leader: &Leader, mut link: SandboxLink) {
        let mut is_leader_alive = true;
        let mut teardown_deadline = None;
        let mut code = None;
        loop {
            let reaped = kill::reap(is_leader_alive.then_some(leader.pid));
            if let Some(status) = reaped.leader_status {
                is_leader_alive = false;
                code = status.exit_status();
            }
            self.forward_requests(&mut link);
            self.forward_reports(&mut link);
            let is_over = self.inner.end_counts.is_some() || self.inner.has_spawn_failed;
            if !reaped.has_children {
                break;
            }
            let now = Instant::now();
            if is_over || !is_leader_alive {
                let deadline = *teardown_deadline.get_or_insert(now + TEARDOWN_TIME);
                if now >= deadline {
                    break;
                }
            }
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                break;
            }
            self.wait_and_read(leader, is_leader_alive, &mut link);
        }
        let pid = is_leader_alive.then_some(leader.pid);
        let is_over = self.inner.end_counts.is_some() || self.inner.has_spawn_failed;
        let survivors =
            kill::kill_descendants(|status| code = status.exit_status(), pid, &mut self.signalled);
        self.forward_reports(&mut link);
        let killed = if is_over { 0 } else { self.signalled.count() };
        self.report_end(&mut link, code, killed, survivors);
    }

    /// Sends the agent those reports about the command's end that the inner shim did not send.
    fn report_end(&mut self, link: &mut SandboxLink, code: Option<i32>, killed: u32, survivors: u32) {
        if self.inner.has_spawn_failed {
            return;
        }
        if !self.inner.has_spawned {
            let how = code.map_or("it was killed".to_owned(), |code| format!("exit code {code}"));
            self.inner.sandbox_error =
                Some(format!("the sandbox can't be started ({how}): {}", link.last_stderr_lines()));
            return;
        }
        if !self.inner.has_exited {
            self.send_report(&Report::Exited { code: None, signal: Some(Signal::KILL.as_raw()) });
        }
        let (inner_killed, inner_survivors) = self.inner.end_counts.unwrap_or_default();
        let (killed, survivors) = (inner_killed + killed, inner_survivors.max(survivors));
        if let Some(orphan_report) = self.orphan_report.as_mut().filter(|_| self.is_agent_gone) {
            orphan_report.write(killed, survivors);
        }
        self.send_report(&Report::Ended { killed, survivors });
    }

    fn send_report(&mut self, report: &Report) {
        let sent = encode(report).and_then(|bytes| self.control.write_all(&bytes));
        if sent.is_err() {
            self.is_agent_gone = true;
        }
    }

    /// Forwards the agent's requests to the inner shim.
    fn forward_requests(&mut self, link: &mut SandboxLink) {
        loop {
            let request = match self.requests.next_message() {
                Ok(None) => break,
                Ok(Some(request)) => request,
                Err(_) => {
                    self.is_agent_gone = true;
                    break;
                }
            };
            let forwarded = match request {
                Request::End { grace_ms, .. } => {
                    self.shorten_deadline(Duration::from_millis(grace_ms));
                    Some(request)
                }
                Request::Sweep => {
                    self.shorten_deadline(ORPHAN_GRACE);
                    Some(request)
                }
                Request::Kill { pid, started, grace_ms } => {
                    inner_pid(pid).map(|pid| Request::Kill { pid, started, grace_ms })
                }
                Request::Run(_) | Request::Enter(..) => None,
            };
            if let Some(request) = forwarded {
                link.send_request(&request);
            }
        }
        if self.is_agent_gone {
            self.shorten_deadline(ORPHAN_GRACE);
            // The inner shim sees the closed socket as its agent's death, and ends everything.
            if let Some(socket) = &link.socket {
                let _ = socket.shutdown(std::net::Shutdown::Write);
            }
        }
    }

    fn shorten_deadline(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace + INNER_OVERTIME;
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
    }

    /// Forwards the inner shim's reports to the agent.
    fn forward_reports(&mut self, link: &mut SandboxLink) {
        while let Some(report) = link.next_report() {
            match report {
                Report::Spawned { pid } => {
                    self.inner.has_spawned = true;
                    // The descriptors are closed here, so that only the command holds its output pipes.
                    self.unsent_outputs = None;
                    let pid = outer_pid(pid).unwrap_or(pid);
                    self.send_report(&Report::Spawned { pid });
                }
                Report::SpawnFailed { .. } => {
                    self.inner.has_spawn_failed = true;
                    self.send_report(&report);
                }
                Report::NotConfined { message } => {
                    self.inner.has_spawn_failed = true;
                    self.inner.sandbox_error = Some(message);
                }
                Report::Exited { .. } => {
                    self.inner.has_exited = true;
                    self.send_report(&report);
                }
                Report::Ended { killed, survivors } => self.inner.end_counts = Some((killed, survivors)),
            }
        }
    }

    /// Waits for messages, the leader's end or the deadline, and reads what has arrived. Records that the agent or the
    /// inner shim has closed its socket.
    fn wait_and_read(&mut self, leader: &Leader, is_leader_alive: bool, link: &mut SandboxLink) {
        let now = Instant::now();
        let time = self
            .deadline
            .map_or(POLL_INTERVAL, |deadline| deadline.saturating_duration_since(now).min(POLL_INTERVAL));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
        let (mut control_index, mut socket_index) = (None, None);
        let mut fds = Vec::with_capacity(3);
        if !self.is_agent_gone {
            control_index = Some(fds.len());
            fds.push(PollFd::new(&self.control, PollFlags::IN));
        }
        if let Some(inner) = &link.socket {
            socket_index = Some(fds.len());
            fds.push(PollFd::from_borrowed_fd(inner.as_fd(), PollFlags::IN));
        }
        if is_leader_alive {
            fds.push(PollFd::new(&leader.pidfd, PollFlags::IN));
        }
        // If a signal interrupts the wait, the caller checks again anyway.
        let _ = poll(&mut fds, Some(&timeout));
        let is_ready = |index: Option<usize>| index.is_some_and(|index| !fds[index].revents().is_empty());
        let (is_control_ready, is_socket_ready) = (is_ready(control_index), is_ready(socket_index));
        drop(fds);
        if is_control_ready && !read_available(&mut self.control, &mut self.requests) {
            self.is_agent_gone = true;
        }
        if is_socket_ready
            && link.socket.as_mut().is_some_and(|inner| !read_available(inner, &mut link.reports))
        {
            link.socket = None;
        }
    }
}

impl SandboxLink {
    fn send_request(&mut self, request: &Request) {
        let Some(socket) = &mut self.socket else { return };
        // If the inner shim is gone, a later read returns the end of the socket.
        if let Ok(bytes) = encode(request) {
            let _ = socket.write_all(&bytes);
        }
    }

    /// Returns the last two lines of the sandbox's error output; the second to last often has the reason.
    fn last_stderr_lines(&mut self) -> String {
        let mut text = Vec::new();
        // Only the end is read, because a worker can write any amount to this file too.
        let offset = self.stderr.metadata().map_or(0, |meta| meta.len().saturating_sub(MAX_STDERR));
        let _ = self.stderr.seek(SeekFrom::Start(offset));
        let _ = (&self.stderr).take(MAX_STDERR).read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut lines: Vec<&str> =
            text.lines().rev().filter(|line| !line.trim().is_empty()).take(2).collect();
        lines.reverse();
        let summary = if lines.is_empty() { "no output".to_owned() } else { lines.join("; ") };
        common::text_format::one_line(&summary, 400)
    }

    fn next_report(&mut self) -> Option<Report> {
        let Ok(report) = self.reports.next_message() else {
            self.socket = None;
            return None;
        };
        report
    }
}

/// Reads the available bytes; returns true if more can come.
fn read_available(socket: &mut UnixStream, decoder: &mut Decoder) -> bool {
    let mut buffer = [0; 16 * 1024];
    match socket.read(&mut buffer) {
        Ok(0) => false,
        Ok(n) => {
            decoder.push(&buffer[..n]);
            true
        }
        Err(error) => error.kind() == io::ErrorKind::Interrupted,
    }
}

/// Returns the id outside of the sandbox of the process with the id `inner` in the sandbox.
fn outer_pid(inner: u32) -> Option<u32> {
    let mut living = tree::descendants().into_iter().map(|entry| entry.key.pid);
    living.find(|pid| inner_pid(*pid) == Some(inner))
}

/// Returns the id in the sandbox of the process with the id `outer`; `None` for a process that is not in the sandbox.
fn inner_pid(outer: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{outer}/status")).ok()?;
    sandbox_pid(&status)
}

/// Returns the second id in the `NSpid:` line: that in the sandbox. The line begins with the outermost namespace.
fn sandbox_pid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_id_of_a_process_is_that_in_the_sandbox() {
        assert_eq!(sandbox_pid("Name:\tsh\nNSpid:\t28665\t2\nVmPeak:\n"), Some(2));
        assert_eq!(sandbox_pid("Name:\tsh\nNSpid:\t28665\t2\t1\n"), Some(2));
        assert_eq!(sandbox_pid("Name:\tsh\nNSpid:\t28665\n"), None);
    }
}
