//! A running command with its shim: yields typed events, and takes requests to end the command.
//!
//! ```text
//!  Spawned ──► Output* ──► Exited ──► Output* ──► Ended          a command that ran
//!  SpawnFailed                                                    a command that never ran
//!  … ──► Lost                                                     a command whose shim was killed
//! ```
//!
//! A command has ended when its leader (its first process) has exited *and* its pipes are at their end or
//! [`DRAIN_TIMEOUT`] has passed. Then the sweep ends the leftover processes, and [`Event::Ended`] is the last event.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep_until};

use crate::shim::protocol::{Command, Decoder, Report, Request, encode};
use crate::workspace::WorkspaceDir;

/// Maximum time for reading output after the leader's exit, because a leftover process can hold the pipes for ever.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum time for reading the remaining output after the sweep. By then only a process that could not be killed can
/// still hold the pipes.
const FINAL_READ_TIMEOUT: Duration = Duration::from_millis(200);
/// Size of one read of output, in bytes: the capacity of a pipe.
const READ_SIZE: usize = 64 * 1024;

/// Maximum output that [`capture`] returns, in bytes: enough to list a hundred thousand changed files.
const MAX_CAPTURE: usize = 8 * 1024 * 1024;

/// Stream that output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputSource {
    /// stdout, or both streams if they share one pipe.
    Stdout,
    Stderr,
}

/// Pipes for a command's stdout and stderr.
#[derive(Debug)]
pub(crate) enum OutputPipes {
    /// One pipe for both, which keeps the order of the writes.
    Merged,
    /// One pipe each.
    Split,
    /// A pipe for stderr alone. Stdout is this socket, which another part of the agent reads and writes.
    Stream(OwnedFd),
}

/// Exit status of a command's leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Exited by itself, with this code.
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// Returns the exit code as a shell shows it: 128 + N for signal N.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Event of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The command runs.
    Spawned {
        /// Process id of the leader.
        pid: u32,
    },
    /// The command never ran. This is the last event.
    SpawnFailed {
        /// Reason, in one line.
        message: String,
    },
    /// The command wrote output.
    Output {
        /// Stream of the output.
        source: OutputSource,
        /// The output itself.
        bytes: Vec<u8>,
    },
    Exited(Exit),
    /// All processes of the command have ended, except the survivors. This is the last event.
    Ended {
        /// Processes that did not end by themselves: TERM or KILL was sent to them.
        killed: u32,
        /// Processes that could not be killed.
        survivors: u32,
    },
    /// The shim ended without a report. This is the last event.
    Lost,
}

/// A command and its shim. Dropping this value closes the shim's socket, and the shim then ends the command.
#[derive(Debug)]
pub(crate) struct Process {
    reports: OwnedReadHalf,
    requests: OwnedWriteHalf,
    decoder: Decoder,
    receive_buffer: Vec<u8>,
    /// Requests that did not fit into the shim's socket yet.
    send_queue: Vec<u8>,
    stdout: Pipe,
    stderr: Pipe,
    phase: Phase,
    is_output_paused: bool,
    /// Child handle of the shim. Dropping it reaps the shim.
    shim: tokio::process::Child,
    shim_pid: Option<u32>,
}

#[derive(Debug)]
enum Phase {
    /// The shim has not reported yet. Output is not read yet, so that none precedes [`Event::Spawned`].
    Starting,
    Running,
    /// The leader exited; output is read until `deadline`.
    Draining {
        deadline: Instant,
    },
    /// The shim was asked to end the processes that the command left behind.
    Sweeping,
    /// The shim has sent its last report; output is read until `deadline`.
    Ended {
        last_event: Event,
        deadline: Instant,
    },
}

/// Reading end of a pipe; the receiver is dropped at the end of the pipe.
#[derive(Debug)]
struct Pipe {
    receiver: Option<Receiver>,
    buffer: Vec<u8>,
}

impl Pipe {
    fn new(fd: Option<OwnedFd>) -> io::Result<Self> {
        let receiver = fd.map(Receiver::from_owned_fd).transpose()?;
        Ok(Self { receiver, buffer: Vec::with_capacity(READ_SIZE) })
    }

    fn is_closed(&self) -> bool {
        self.receiver.is_none()
    }

    /// Reads the available bytes. Returns an empty vector once, at the end of the pipe; any later call waits for ever.
    /// Cancel-safe like `read_buf`.
    async fn read(&mut self) -> Vec<u8> {
        let Some(receiver) = &mut self.receiver else { return std::future::pending().await };
        if !matches!(receiver.read_buf(&mut self.buffer).await, Ok(1..)) {
            self.receiver = None;
        }
        let bytes = self.buffer.clone();
        self.buffer.clear();
        bytes
    }
}

/// Input that [`Process::next`] waited for.
enum Input {
    ShimReport(io::Result<usize>),
    /// The shim's socket takes more requests.
    Writable,
    /// Output; empty at the end of the pipe.
    Output(OutputSource, Vec<u8>),
    DeadlinePassed,
}

impl Process {
    /// Starts a shim and sends it the command. The shim starts in `folder`, so a command with the working directory `.`
    /// runs in that folder, even if the folder's path leads elsewhere now.
    ///
    /// # Errors
    /// The shim could not be started. If the *command* could not be started, [`Event::SpawnFailed`] has the reason.
    pub(crate) fn spawn(
        command: Command,
        pipes: OutputPipes,
        folder: Option<&WorkspaceDir>,
    ) -> io::Result<Self> {
        let (agent_end, shim_end) = StdStream::pair()?;
        agent_end.set_nonblocking(true)?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdout, out, stderr, err) = match pipes {
            OutputPipes::Merged => (Some(read), write.try_clone()?, None, write),
            OutputPipes::Split => {
                let (stderr, err) = pipe_with(PipeFlags::CLOEXEC)?;
                (Some(read), write, Some(stderr), err)
            }
            OutputPipes::Stream(socket) => (None, socket, Some(read), write),
        };
        let shim = tokio::process::Command::new("/proc/self/exe")
            .arg("shim")
            .env_clear()
            .current_dir(folder.map_or("/".to_owned(), WorkspaceDir::inherited_path))
            .stdin(Stdio::from(OwnedFd::from(shim_end)))
            .stdout(Stdio::from(out))
            .stderr(Stdio::from(err))
            .spawn()?;
        let (reports, requests) = UnixStream::from_std(agent_end)?.into_split();
        Ok(Self {
            reports,
            requests,
            decoder: Decoder::default(),
            receive_buffer: Vec::with_capacity(1024),
            send_queue: encode(&Request::Run(Box::new(command)))?,
            stdout: Pipe::new(stdout)?,
            stderr: Pipe::new(stderr)?,
            phase: Phase::Starting,
            is_output_paused: false,
            shim_pid: shim.id(),
            shim,
        })
    }

    /// Ends the command within `grace`. A repeated call can shorten this period.
    pub(crate) fn end(&mut self, interrupt_first: bool, grace: Duration) {
        self.queue_request(&Request::End { interrupt_first, grace_ms: common::duration::to_millis(grace) });
    }

    /// Ends the process `pid` that was started at `start_ticks` (clock ticks since boot: field 22 of `/proc/PID/stat`),
    /// and everything it started, with TERM and, `grace_ms` later, KILL. The command goes on. Does nothing if that
    /// process is gone, or is not part of this command.
    pub(crate) fn end_subtree(&mut self, pid: u32, start_ticks: u64, grace_ms: u64) {
        self.queue_request(&Request::Kill { pid, started: start_ticks, grace_ms });
    }

    /// Kills the shim and the remaining processes below it, if the shim is gone or does not respond. `known_processes`
    /// are ids and start times of processes that were seen below it. Returns the number of killed processes and of
    /// survivors.
    pub(crate) async fn sweep(&mut self, known_processes: Vec<(u32, u64)>) -> (u32, u32) {
        let Some(shim) = self.shim_pid else { return (0, 0) };
        // The shim may be gone already.
        let _ = self.shim.start_kill();
        let swept =
            tokio::task::spawn_blocking(move || crate::shim::sweep_leftover(shim, &known_processes)).await;
        swept.unwrap_or_default()
    }

    /// Pauses or resumes reading the output of a running command. During a pause the command blocks when its pipe is
    /// full. After the leader's exit all remaining output is read.
    pub(crate) fn set_output_paused(&mut self, is_paused: bool) {
        self.is_output_paused = is_paused;
    }

    /// Queues a request for the shim. If the shim is gone, `next` reports that.
    fn queue_request(&mut self, request: &Request) {
        if let Ok(bytes) = encode(request) {
            self.send_queue.extend_from_slice(&bytes);
            self.send_queued();
        }
    }

    /// Writes as much of the queue as the shim's socket accepts. A command may be larger than the socket's buffer.
    fn send_queued(&mut self) {
        match self.requests.try_write(&self.send_queue) {
            Ok(written) if written < self.send_queue.len() => drop(self.send_queue.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Everything is written, or the shim no longer reads. The new vector frees the memory of a large command.
            Ok(_) | Err(_) => self.send_queue = Vec::new(),
        }
    }

    /// Returns the next event. After the last event, every further call returns that event again.
    ///
    /// Cancel-safe: every branch reads into a buffer of `self`, from which only complete messages are removed, and
    /// there is no await between writing bytes and removing them from the send queue.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.advance() {
                return event;
            }
            let deadline = match self.phase {
                Phase::Starting | Phase::Running | Phase::Sweeping => None,
                Phase::Draining { deadline } | Phase::Ended { deadline, .. } => Some(deadline),
            };
            let has_ended = matches!(self.phase, Phase::Ended { .. });
            let reads_output = match self.phase {
                Phase::Starting => false,
                Phase::Running => !self.is_output_paused,
                Phase::Draining { .. } | Phase::Sweeping | Phase::Ended { .. } => true,
            };
            let input = tokio::select! {
                read = self.reports.read_buf(&mut self.receive_buffer), if !has_ended => Input::ShimReport(read),
                _ = self.requests.writable(), if !has_ended && !self.send_queue.is_empty() => Input::Writable,
                bytes = self.stdout.read(), if reads_output => Input::Output(OutputSource::Stdout, bytes),
                bytes = self.stderr.read(), if reads_output => Input::Output(OutputSource::Stderr, bytes),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Input::DeadlinePassed,
            };
            if let Some(event) = self.on_input(input) {
                return event;
            }
        }
    }

    /// Makes all state changes that are possible without waiting.
    fn advance(&mut self) -> Option<Event> {
        match self.decoder.next_message::<Report>() {
            Ok(None) => {}
            Ok(Some(report)) => {
                if let Some(event) = self.on_report(report) {
                    return Some(event);
                }
            }
            Err(_) => self.on_last_report(Event::Lost),
        }
        let is_drained = self.stdout.is_closed() && self.stderr.is_closed();
        match &self.phase {
            Phase::Draining { .. } if is_drained => {
                self.phase = Phase::Sweeping;
                self.queue_request(&Request::Sweep);
                None
            }
            Phase::Ended { last_event, .. } if is_drained => Some(last_event.clone()),
            _ => None,
        }
    }

    fn on_input(&mut self, input: Input) -> Option<Event> {
        match input {
            Input::ShimReport(Ok(n)) if n > 0 => {
                self.decoder.push(&self.receive_buffer);
                self.receive_buffer.clear();
                None
            }
            Input::ShimReport(_) => {
                self.on_last_report(Event::Lost);
                None
            }
            Input::Writable => {
                self.send_queued();
                None
            }
            Input::Output(_, bytes) if bytes.is_empty() => None,
            Input::Output(source, bytes) => Some(Event::Output { source, bytes }),
            Input::DeadlinePassed if matches!(self.phase, Phase::Draining { .. }) => {
                self.phase = Phase::Sweeping;
                self.queue_request(&Request::Sweep);
                None
            }
            Input::DeadlinePassed => {
                self.stdout.receiver = None;
                self.stderr.receiver = None;
                None
            }
        }
    }

    fn on_report(&mut self, report: Report) -> Option<Event> {
        match report {
            Report::Spawned { pid } => {
                self.phase = Phase::Running;
                Some(Event::Spawned { pid })
            }
            Report::SpawnFailed { message } | Report::NotConfined { message } => {
                self.on_last_report(Event::SpawnFailed { message });
                None
            }
            Report::Exited { code, signal } => {
                if matches!(self.phase, Phase::Running) {
                    self.phase = Phase::Draining { deadline: Instant::now() + DRAIN_TIMEOUT };
                }
                Some(Event::Exited(code.map_or(Exit::Signal(signal.unwrap_or(0)), Exit::Code)))
            }
            Report::Ended { killed, survivors } => {
                self.on_last_report(Event::Ended { killed, survivors });
                None
            }
        }
    }

    fn on_last_report(&mut self, last_event: Event) {
        if !matches!(self.phase, Phase::Ended { .. }) {
            self.phase = Phase::Ended { last_event, deadline: Instant::now() + FINAL_READ_TIMEOUT };
        }
    }
}

/// Runs a command to its end. Returns its exit status and the first [`MAX_CAPTURE`] bytes of its output to
/// `wanted_source`.
///
/// # Errors
/// Returns the last event of a command that did not run or whose shim was lost.
pub(crate) async fn capture(
    command: Command,
    pipes: OutputPipes,
    wanted_source: OutputSource,
    folder: Option<&WorkspaceDir>,
) -> Result<(Option<Exit>, Vec<u8>), Event> {
    let spawned = Process::spawn(command, pipes, folder);
    let mut process = spawned.map_err(|error| Event::SpawnFailed { message: error.to_string() })?;
    let (mut exit, mut output) = (None, Vec::new());
    loop {
        match process.next().await {
            Event::Spawned { .. } => {}
            Event::Output { source, bytes } => {
                let remaining = MAX_CAPTURE - output.len();
                if source == wanted_source {
                    output.extend_from_slice(&bytes[..bytes.len().min(remaining)]);
                }
            }
            Event::Exited(status) => exit = Some(status),
            Event::Ended { .. } => return Ok((exit, output)),
            event @ (Event::SpawnFailed { .. } | Event::Lost) => return Err(event),
        }
    }
}
