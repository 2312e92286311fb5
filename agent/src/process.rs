//! A running command, as its supervisor sees it: typed events out, two requests in.
//!
//! ```text
//!  Spawned ──► Output* ──► Exited ──► Output* ──► Ended          a command that ran
//!  SpawnFailed                                                    one that never did
//!  … ──► Lost                                                     its shim was killed
//! ```
//!
//! The end of a command is: its leader exited, *and* its pipes are at their end or [`DRAIN`] has passed. Then what it
//! left behind is ended, and [`Event::Ended`] is the last event.

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

use crate::confine::place::Folder;
use crate::shim::protocol::{Command, Decoder, Report, Request, encode};

/// How long output is waited for after the leader's exit: something it left behind may hold the pipes for ever.
const DRAIN: Duration = Duration::from_secs(2);
/// How long the rest of the output is read after the sweep; only a survivor of it can still hold the pipes.
const REST: Duration = Duration::from_millis(200);
/// One read of output: a whole pipe.
const CHUNK: usize = 64 * 1024;

/// Most output that [`capture`] keeps: the list of a hundred thousand changed files.
const CAPTURE: usize = 8 * 1024 * 1024;

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// stdout, or both where they share one pipe.
    Stdout,
    /// stderr.
    Stderr,
}

/// How stdout and stderr reach us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// Through one pipe, in the order they were written.
    Merged,
    /// Apart.
    Split,
}

/// How the leader ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// The exit code as a shell shows it: 128 + N for signal N.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// What happened to the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// It runs.
    Spawned {
        /// Its leader.
        pid: u32,
    },
    /// It never ran. The last event.
    SpawnFailed {
        /// Why, in one line.
        message: String,
    },
    /// It wrote something.
    Output {
        /// Where to.
        source: Source,
        /// What.
        bytes: Vec<u8>,
    },
    /// Its leader exited.
    Exited(Exit),
    /// Nothing of it is left. The last event.
    Ended {
        /// How many processes did not end by themselves: they were sent TERM or KILL.
        killed: u32,
        /// How many could not be.
        survivors: u32,
    },
    /// Its shim is gone without a word. The last event.
    Lost,
}

/// A command below its shim. Dropping it ends the command: the shim sees its agent let go.
#[derive(Debug)]
pub(crate) struct Process {
    reports: OwnedReadHalf,
    requests: OwnedWriteHalf,
    decoder: Decoder,
    inbox: Vec<u8>,
    /// What the shim's socket has had no room for yet.
    outbox: Vec<u8>,
    stdout: Pipe,
    stderr: Pipe,
    phase: Phase,
    held: bool,
    /// Reaps the shim when it is dropped.
    shim: tokio::process::Child,
    shim_pid: Option<u32>,
}

#[derive(Debug)]
enum Phase {
    /// The shim has said nothing yet; output waits, so that nothing comes before [`Event::Spawned`].
    Starting,
    Running,
    /// The leader exited; output is read until then.
    Draining {
        until: Instant,
    },
    /// The shim was asked to sweep.
    Sweeping,
    /// The shim has said its last; output is read until then.
    Over {
        last: Event,
        until: Instant,
    },
}

/// The reading end of a pipe, until its end.
#[derive(Debug)]
struct Pipe {
    receiver: Option<Receiver>,
    buffer: Vec<u8>,
}

impl Pipe {
    fn new(fd: Option<OwnedFd>) -> io::Result<Self> {
        let receiver = fd.map(Receiver::from_owned_fd).transpose()?;
        Ok(Self { receiver, buffer: Vec::with_capacity(CHUNK) })
    }

    fn closed(&self) -> bool {
        self.receiver.is_none()
    }

    /// What is there; nothing at the end; waits for ever behind it. Cancel-safe: `read_buf` is.
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

/// What [`Process::next`] waited for.
enum Input {
    Control(io::Result<usize>),
    /// The shim takes more requests.
    Room,
    /// Empty at the end of the pipe.
    Read(Source, Vec<u8>),
    Time,
}

impl Process {
    /// Starts a shim and hands it the command. In a `folder` its working folder `.` is that one, wherever the path leads by now.
    ///
    /// # Errors
    /// The shim could not be started. Why the *command* could not is said by [`Event::SpawnFailed`].
    pub(crate) fn spawn(command: Command, streams: Streams, folder: Option<&Folder>) -> io::Result<Self> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let (stdout, out) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, err) = match streams {
            Streams::Merged => (None, out.try_clone()?),
            Streams::Split => pipe_with(PipeFlags::CLOEXEC).map(|(read, write)| (Some(read), write))?,
        };
        let shim = tokio::process::Command::new("/proc/self/exe")
            .arg("shim")
            .env_clear()
            .current_dir(folder.map_or("/".to_owned(), Folder::inherited))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(out))
            .stderr(Stdio::from(err))
            .spawn()?;
        let (reports, requests) = UnixStream::from_std(ours)?.into_split();
        Ok(Self {
            reports,
            requests,
            decoder: Decoder::default(),
            inbox: Vec::with_capacity(1024),
            outbox: encode(&Request::Run(Box::new(command)))?,
            stdout: Pipe::new(Some(stdout))?,
            stderr: Pipe::new(stderr)?,
            phase: Phase::Starting,
            held: false,
            shim_pid: shim.id(),
            shim,
        })
    }

    /// Ends the command within `grace`. Repeating it with a shorter grace hastens the end.
    pub(crate) fn end(&mut self, interrupt_first: bool, grace: Duration) {
        self.request(&Request::End { interrupt_first, grace_ms: common::duration::millis(grace) });
    }

    /// Ends the process `pid` that was started at `started` (clock ticks since the machine was: field 22 of
    /// `/proc/PID/stat`), and all that it started, with TERM and, `grace_ms` later, KILL; the command goes on. Nothing
    /// happens if that process is gone, or is not part of this command.
    pub(crate) fn end_below(&mut self, pid: u32, started: u64, grace_ms: u64) {
        self.request(&Request::Kill { pid, started, grace_ms });
    }

    /// Kills the shim and what is left below it, without its help: it is gone, or can't do it. `seen` names processes (numbers
    /// and starts) that are known to be there. Gives how many were killed and how many survive.
    pub(crate) async fn sweep(&mut self, seen: Vec<(u32, u64)>) -> (u32, u32) {
        let Some(shim) = self.shim_pid else { return (0, 0) };
        // It may be gone already.
        let _ = self.shim.start_kill();
        let swept = tokio::task::spawn_blocking(move || crate::shim::sweep_left(shim, &seen)).await;
        swept.unwrap_or_default()
    }

    /// While it runs, its output is not read as long as it is held: it has to wait. What it leaves behind at its end is
    /// read in any case.
    pub(crate) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Requests stay in their order, behind whatever the shim has not taken yet. If it is gone, `next` finds that out.
    fn request(&mut self, request: &Request) {
        if let Ok(bytes) = encode(request) {
            self.outbox.extend_from_slice(&bytes);
            self.post();
        }
    }

    /// Hands the shim what its socket has room for: a command may be larger than that, and fill it for what follows.
    fn post(&mut self) {
        match self.requests.try_write(&self.outbox) {
            Ok(written) if written < self.outbox.len() => drop(self.outbox.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // All of it is written, or nobody reads any more. A command's memory is given back.
            Ok(_) | Err(_) => self.outbox = Vec::new(),
        }
    }

    /// What happens next. Nothing follows the last event; asking again gives it again.
    ///
    /// Cancel-safe: every branch reads into a buffer of `self`, and only what was read completely is taken out; what is
    /// written leaves its buffer with no wait in between.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.advance() {
                return event;
            }
            let until = match self.phase {
                Phase::Starting | Phase::Running | Phase::Sweeping => None,
                Phase::Draining { until } | Phase::Over { until, .. } => Some(until),
            };
            let over = matches!(self.phase, Phase::Over { .. });
            let reads = match self.phase {
                Phase::Starting => false,
                Phase::Running => !self.held,
                Phase::Draining { .. } | Phase::Sweeping | Phase::Over { .. } => true,
            };
            let input = tokio::select! {
                read = self.reports.read_buf(&mut self.inbox), if !over => Input::Control(read),
                _ = self.requests.writable(), if !over && !self.outbox.is_empty() => Input::Room,
                bytes = self.stdout.read(), if reads => Input::Read(Source::Stdout, bytes),
                bytes = self.stderr.read(), if reads => Input::Read(Source::Stderr, bytes),
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => Input::Time,
            };
            if let Some(event) = self.take(input) {
                return event;
            }
        }
    }

    /// Moves on where nothing needs to be waited for.
    fn advance(&mut self) -> Option<Event> {
        match self.decoder.next::<Report>() {
            Ok(None) => {}
            Ok(Some(report)) => {
                if let Some(event) = self.told(report) {
                    return Some(event);
                }
            }
            Err(_) => self.over(Event::Lost),
        }
        let drained = self.stdout.closed() && self.stderr.closed();
        match &self.phase {
            Phase::Draining { .. } if drained => {
                self.phase = Phase::Sweeping;
                self.request(&Request::Sweep);
                None
            }
            Phase::Over { last, .. } if drained => Some(last.clone()),
            _ => None,
        }
    }

    fn take(&mut self, input: Input) -> Option<Event> {
        match input {
            Input::Control(Ok(n)) if n > 0 => {
                self.decoder.push(&self.inbox);
                self.inbox.clear();
                None
            }
            Input::Control(_) => {
                self.over(Event::Lost);
                None
            }
            Input::Room => {
                self.post();
                None
            }
            Input::Read(_, bytes) if bytes.is_empty() => None,
            Input::Read(source, bytes) => Some(Event::Output { source, bytes }),
            Input::Time if matches!(self.phase, Phase::Draining { .. }) => {
                self.phase = Phase::Sweeping;
                self.request(&Request::Sweep);
                None
            }
            Input::Time => {
                self.stdout.receiver = None;
                self.stderr.receiver = None;
                None
            }
        }
    }

    fn told(&mut self, report: Report) -> Option<Event> {
        match report {
            Report::Spawned { pid } => {
                self.phase = Phase::Running;
                Some(Event::Spawned { pid })
            }
            Report::SpawnFailed { message } | Report::NotConfined { message } => {
                self.over(Event::SpawnFailed { message });
                None
            }
            Report::Exited { code, signal } => {
                if matches!(self.phase, Phase::Running) {
                    self.phase = Phase::Draining { until: Instant::now() + DRAIN };
                }
                Some(Event::Exited(code.map_or(Exit::Signal(signal.unwrap_or(0)), Exit::Code)))
            }
            Report::Ended { killed, survivors } => {
                self.over(Event::Ended { killed, survivors });
                None
            }
        }
    }

    fn over(&mut self, last: Event) {
        if !matches!(self.phase, Phase::Over { .. }) {
            self.phase = Phase::Over { last, until: Instant::now() + REST };
        }
    }
}

/// Runs a command to its end and gives its exit and what it wrote there, at most [`CAPTURE`] bytes.
///
/// # Errors
/// The event that took the place of an end.
pub(crate) async fn capture(
    command: Command,
    streams: Streams,
    wanted: Source,
    folder: Option<&Folder>,
) -> Result<(Option<Exit>, Vec<u8>), Event> {
    let spawned = Process::spawn(command, streams, folder);
    let mut process = spawned.map_err(|error| Event::SpawnFailed { message: error.to_string() })?;
    let (mut exit, mut output) = (None, Vec::new());
    loop {
        match process.next().await {
            Event::Spawned { .. } => {}
            Event::Output { source, bytes } => {
                let room = CAPTURE - output.len();
                if source == wanted {
                    output.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
            }
            Event::Exited(how) => exit = Some(how),
            Event::Ended { .. } => return Ok((exit, output)),
            event @ (Event::SpawnFailed { .. } | Event::Lost) => return Err(event),
        }
    }
}
