//! The shim's loop.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitStatus, pidfd_send_signal};

use super::kill::{self, Toll};
use super::ladder::{Action, Ladder};
use super::protocol::{Command, Decoder, Report, Request, encode};
use super::testament::Testament;
use super::tree::{self, Leader, Name};

/// The grace when the agent died: its successor waits for nobody.
const ORPHANED: Duration = Duration::from_secs(2);
/// The grace of what a command leaves behind when it ends by itself: time to remove a lock or a socket, and too short
/// for anybody to wait for.
const LEFT_BEHIND: Duration = Duration::from_millis(300);
/// Between two looks while an end goes on: a fifth of the 100 ms that an end may be late.
const ENDING: Duration = Duration::from_millis(20);
/// Between two looks for dead orphans: at once after some were found (a command may lose thousands), and ever more
/// seldom while there are none. Five looks a second cost 0.01 % of a core.
const REAP: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// Runs one command to its end, as told on stdin.
///
/// # Errors
/// Only before the command runs: what the kernel refused, or a first message that is none.
pub(crate) fn run(inside: bool) -> io::Result<()> {
    isolate()?;
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    if inside {
        super::outputs::receive(&control)?;
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
    // Without it the command runs as well; only its next agent knows less.
    shim.testament = command.testament.as_deref().and_then(|path| Testament::open(path).ok());
    if let Some(confine) = command.confine.take() {
        leave_folder();
        super::outer::run(shim.control, shim.decoder, shim.testament, &command, &confine);
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

/// A shim's working folder is `/`: a search for processes in a workspace finds the command alone.
fn leave_folder() {
    let _ = rustix::process::chdir("/");
}

/// Puts a wall around what follows: an own session, all orphans adopted, no privileges gained, memory unreadable.
fn isolate() -> io::Result<()> {
    crate::inheritance::set();
    // Inside of a sandbox it has one of its own already.
    let _ = rustix::process::setsid();
    // Any process id turns it on; it is always about the caller.
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
    /// The agent has died or let go.
    gone: bool,
    testament: Option<Testament>,
}

/// Where the command is.
struct Course {
    leader_lives: bool,
    ladder: Option<Ladder>,
    toll: Toll,
    reap_in: Duration,
    /// Parts that were told to end.
    parts: Vec<Part>,
}

/// A part of the command that was told to end.
struct Part {
    root: Name,
    /// Those who were told.
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

    /// Reads what is there; blocks if nothing is.
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
                    // ESRCH: it exited by itself, which the next look sees.
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

    /// Reaps; gives whether anything is left below.
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

    /// Takes the requests that have arrived. Before every wait, not only after one that heard something: a request can
    /// come with the same read as the command, and a socket says nothing of what was read from it already.
    fn obey(&mut self, course: &mut Course, begun: Instant) {
        loop {
            match self.decoder.next() {
                Ok(None) => return,
                // A grace counts from when it was asked for, not from when the wait for it began.
                Ok(Some(request)) => take(course, &request, begun.elapsed()),
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }

    /// Waits for a request, the leader's exit or the time, whichever is first, and reads what was sent.
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
        // An end that is under way has a grace of its own.
        Request::Sweep => {
            course.ladder.get_or_insert_with(|| Ladder::new(now, false, LEFT_BEHIND));
        }
        &Request::Kill { pid, started, grace_ms } => {
            let root = Name { pid, started };
            let told = if grace_ms == 0 { Vec::new() } else { kill::terminate_below(root) };
            let kill_at = now.saturating_add(Duration::from_millis(grace_ms));
            course.parts.push(Part { root, told, kill_at });
        }
        // There is one command a shim.
        Request::Run(_) | Request::Enter(..) => {}
    }
}
