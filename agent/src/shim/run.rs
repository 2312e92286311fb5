//! The shim's main loop.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitStatus, pidfd_send_signal};

use super::escalation::{Action, Ladder};
use super::exit_report::Testament;
use super::kill::{self, Toll};
use super::protocol::{Command, Decoder, Report, Request, encode};
use super::tree::{self, Leader, Name};

/// Grace when the agent has died: its successor does not wait.
const ORPHANED: Duration = Duration::from_secs(2);
/// Grace for the processes that a command leaves behind when it ends by itself: enough to remove a lock or a socket,
/// and too short to be noticed.
const LEFT_BEHIND: Duration = Duration::from_millis(300);
/// Time between two checks while a command is being ended: a fifth of the 100 ms that an end may be late.
const ENDING: Duration = Duration::from_millis(20);
/// Shortest and longest time between two checks for dead orphans: the shortest after some were found (a command may
/// lose thousands), and ever longer while there are none. Five checks a second cost 0.01 % of a core.
const REAP: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// Runs one command to its end, as requested on stdin.
///
/// # Errors
/// Only before the command runs: the kernel refused a call, or the first message is invalid.
pub(crate) fn run(inside: bool) -> io::Result<()> {
    isolate()?;
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    if inside {
        super::output_fds::receive(&control)?;
    }
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    let mut shim = Shim { control, decoder: Decoder::default(), gone: false, testament: None };
    let mut command = match shim.first()? {
        Some(Request::Run(command)) => command,
        Some(Request::Enter(command, cage)) => {
            if let Err(message) = cage.enter() {
                shim.report(&Report::NotConfined { message });
                return Ok(());
            }
            command
        }
        _ => return Ok(()),
    };
    // The command runs without it as well; only the next agent has less information.
    shim.testament = command.testament.as_deref().and_then(|path| Testament::open(path).ok());
    if let Some(confine) = command.confine.take() {
        leave_folder();
        super::outer_shim::run(shim.control, shim.decoder, shim.testament, &command, &confine);
        return Ok(());
    }
    match super::spawn::spawn(&command) {
        Err(error) => shim.report(&Report::SpawnFailed { message: explain(&command, &error) }),
        Ok(leader) => {
            shim.report(&Report::Spawned { pid: leader.pid.as_raw_nonzero().get().unsigned_abs() });
            let interrupt_first = command.interrupt_first;
            drop(command);
            leave_folder();
            shim.supervise(&leader, interrupt_first);
        }
    }
    Ok(())
}

/// Changes the shim's working directory to `/`, so that a search for processes in a workspace finds the command
/// alone.
fn leave_folder() {
    let _ = rustix::process::chdir("/");
}

/// Isolates this process and its children: own session, all orphans adopted, no new privileges, memory unreadable.
fn isolate() -> io::Result<()> {
    crate::inherited_state::set();
    // Inside a sandbox the shim has a session of its own already.
    let _ = rustix::process::setsid();
    // Any process id turns it on; the call always applies to the caller.
    rustix::process::set_child_subreaper(Some(Pid::INIT))?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn explain(command: &Command, error: &io::Error) -> String {
    let program = command.argv.first().map_or("", String::as_str);
    if std::path::Path::new(&command.cwd).is_dir() {
        format!("{program} could not be started: {error}")
    } else {
        format!("the folder {} can't be entered: {error}", command.cwd)
    }
}

struct Shim {
    control: UnixStream,
    decoder: Decoder,
    /// The agent has died or closed the socket.
    gone: bool,
    testament: Option<Testament>,
}

/// State of the command.
struct Course {
    leader_lives: bool,
    ladder: Option<Ladder>,
    toll: Toll,
    reap_in: Duration,
    /// Parts that are being ended.
    parts: Vec<Part>,
}

/// A part of the command that is being ended.
struct Part {
    root: Name,
    /// Processes that were sent TERM.
    told: Vec<Name>,
    kill_at: Duration,
}

impl Shim {
    fn first(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some(request) = self.decoder.next()? {
                return Ok(Some(request));
            }
            if self.gone {
                return Ok(None);
            }
            self.read()?;
        }
    }

    /// Reads the available bytes; blocks if there are none.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.control.read(&mut buffer) {
            Ok(0) => self.gone = true,
            Ok(n) => self.decoder.push(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn report(&mut self, report: &Report) {
        let sent = encode(report).and_then(|bytes| self.control.write_all(&bytes));
        if sent.is_err() {
            self.gone = true;
        }
    }

    fn supervise(&mut self, leader: &Leader, interrupt_first: bool) {
        let begun = Instant::now();
        let mut course = Course {
            leader_lives: true,
            ladder: None,
            toll: Toll::default(),
            reap_in: REAP.0,
            parts: Vec::new(),
        };
        loop {
            let anything = self.reap(leader, &mut course);
            self.obey(&mut course, begun);
            let now = begun.elapsed();
            if self.gone {
                let ladder = course.ladder.get_or_insert_with(|| Ladder::new(now, interrupt_first, ORPHANED));
                ladder.hasten(now, ORPHANED);
            }
            kill_parts(&mut course, now);
            let commands = || !tree::commands(leader.pid).is_empty();
            let lives = course.leader_lives;
            let action = course.ladder.as_mut().map(|ladder| ladder.step(now, lives, anything, commands));
            match action {
                Some(Action::Sweep) => break,
                Some(Action::Quiet(limit)) => kill::quiet(leader, limit, &mut course.toll),
                Some(Action::Interrupt) => {
                    // ESRCH: the leader exited by itself, which the next check sees.
                    let _ = pidfd_send_signal(&leader.pidfd, Signal::INT);
                    let _ = pidfd_send_signal(&leader.pidfd, Signal::CONT);
                }
                Some(Action::Terminate(limit)) => kill::terminate(limit, &mut course.toll),
                Some(Action::Wait(time)) => self.wait(leader, &mut course, time.min(ENDING)),
                None => {
                    let due = course.parts.iter().map(|part| part.kill_at.saturating_sub(now)).min();
                    let time = due.map_or(course.reap_in, |due| due.min(course.reap_in));
                    self.wait(leader, &mut course, time);
                }
            }
        }
        let pid = course.leader_lives.then_some(leader.pid);
        let survivors = kill::sweep(|status| self.exited(status), pid, &mut course.toll);
        let killed = course.toll.count();
        if let Some(testament) = self.testament.as_mut().filter(|_| self.gone) {
            testament.write(killed, survivors);
        }
        self.report(&Report::Ended { killed, survivors });
    }

    /// Reaps dead children; returns true if anything is left below the shim.
    fn reap(&mut self, leader: &Leader, course: &mut Course) -> bool {
        let reaped = kill::reap(course.leader_lives.then_some(leader.pid));
        if let Some(status) = reaped.leader {
            course.leader_lives = false;
            self.exited(status);
        }
        if reaped.count > 0 {
            course.reap_in = REAP.0;
        }
        reaped.left
    }

    fn exited(&mut self, status: WaitStatus) {
        self.report(&Report::Exited { code: status.exit_status(), signal: status.terminating_signal() });
    }

    /// Handles the requests that have arrived. Called before every wait, not only after a wait that read something: a
    /// request can arrive with the same read as the command, and the socket does not report bytes that were already
    /// read.
    fn obey(&mut self, course: &mut Course, begun: Instant) {
        loop {
            match self.decoder.next() {
                Ok(None) => return,
                // A grace counts from the time of the request, not from the start of the wait for it.
                Ok(Some(request)) => take(course, &request, begun.elapsed()),
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }

    /// Waits for a request, the leader's exit or the timeout, whichever is first, and reads the available bytes.
    fn wait(&mut self, leader: &Leader, course: &mut Course, time: Duration) {
        let timeout = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let mut fds = Vec::with_capacity(2);
        if !self.gone {
            fds.push(PollFd::new(&self.control, PollFlags::IN));
        }
        if course.leader_lives {
            fds.push(PollFd::new(&leader.pidfd, PollFlags::IN));
        }
        let ready = poll(&mut fds, Some(&timeout));
        let heard = !self.gone && fds.first().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        course.reap_in = match ready {
            Ok(0) => (course.reap_in * 2).min(REAP.1),
            _ => REAP.0,
        };
        if heard && self.read().is_err() {
            self.gone = true;
        }
    }
}

/// Kills what is left of the parts whose grace is over.
fn kill_parts(course: &mut Course, now: Duration) {
    course.parts.retain(|part| {
        let due = now >= part.kill_at;
        if due {
            kill::kill_below(part.root, &part.told);
        }
        !due
    });
}

fn take(course: &mut Course, request: &Request, now: Duration) {
    match request {
        &Request::End { interrupt_first, grace_ms } => {
            let grace = Duration::from_millis(grace_ms);
            course.ladder.get_or_insert_with(|| Ladder::new(now, interrupt_first, grace)).hasten(now, grace);
        }
        // An end in progress has a grace of its own.
        Request::Sweep => {
            course.ladder.get_or_insert_with(|| Ladder::new(now, false, LEFT_BEHIND));
        }
        &Request::Kill { pid, started, grace_ms } => {
            let root = Name { pid, started };
            let told = if grace_ms == 0 { Vec::new() } else { kill::terminate_below(root) };
            let kill_at = now.saturating_add(Duration::from_millis(grace_ms));
            course.parts.push(Part { root, told, kill_at });
        }
        // A shim runs one command only.
        Request::Run(_) | Request::Enter(..) => {}
    }
}
