//! Main loop of the shim.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitStatus, pidfd_send_signal};

use super::escalation::{Action, Escalation};
use super::kill::{self, SignalledProcesses};
use super::orphan_report::ShimReport;
use super::protocol::{Command, Decoder, Report, Request, encode};
use super::tree::{self, Leader, ProcessKey};

/// Grace period for the command after the agent's death.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);
/// Grace period for the leftover processes of a command that ended by itself: enough to remove a lock or a socket.
const LEFTOVER_GRACE: Duration = Duration::from_millis(300);
/// Time between two checks while a command is being ended: a fifth of the 100 ms by which it may end late.
const END_POLL: Duration = Duration::from_millis(20);
/// Minimum and maximum time between two checks for dead orphans. A check that finds some is followed by the minimum
/// (there may be thousands); each check that finds none doubles the time. Five checks a second cost 0.01 % of a core.
const REAP_POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// Runs one command to its end, as requested on stdin.
///
/// # Errors
/// The kernel refused a call, or the first message is invalid. Once the command runs, no error is returned.
pub(crate) fn run(is_inside_sandbox: bool) -> io::Result<()> {
    isolate()?;
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    if is_inside_sandbox {
        super::output_fds::receive(&control)?;
    }
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    let mut shim = Shim { control, decoder: Decoder::default(), is_agent_gone: false, orphan_report: None };
    let mut command = match shim.read_first_request()? {
        Some(Request::Run(command)) => command,
        Some(Request::Enter(command, check)) => {
            if let Err(message) = check.verify_and_enter() {
                shim.send_report(&Report::NotConfined { message });
                return Ok(());
            }
            command
        }
        _ => return Ok(()),
    };
    // The command also runs without this file; the next agent then only has less information.
    shim.orphan_report = command.orphan_report.as_deref().and_then(|path| ShimReport::open(path).ok());
    if let Some(confine) = command.confine.take() {
        enter_root_dir();
        super::outer_shim::run_in_sandbox(shim.control, shim.decoder, shim.orphan_report, &command, &confine);
        return Ok(());
    }
    match super::spawn::spawn(&command) {
        Err(error) => shim.send_report(&Report::SpawnFailed { message: spawn_error(&command, &error) }),
        Ok(leader) => {
            shim.send_report(&Report::Spawned { pid: leader.pid.as_raw_nonzero().get().unsigned_abs() });
            let interrupt_first = command.interrupt_first;
            drop(command);
            enter_root_dir();
            shim.supervise(&leader, interrupt_first);
        }
    }
    Ok(())
}

/// Changes the shim's working directory to `/`, so that a search for processes in a workspace finds only the command.
fn enter_root_dir() {
    let _ = rustix::process::chdir("/");
}

/// Isolates this process and its children: they get their own session and no new privileges, this process adopts all
/// orphans, and its memory can't be read.
fn isolate() -> io::Result<()> {
    crate::inherited_state::reset();
    // Inside a sandbox the shim already has its own session.
    let _ = rustix::process::setsid();
    // Any process id works; the call always applies to the caller.
    rustix::process::set_child_subreaper(Some(Pid::INIT))?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn spawn_error(command: &Command, error: &io::Error) -> String {
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
    /// True once the agent has died or closed the socket.
    is_agent_gone: bool,
    orphan_report: Option<ShimReport>,
}

struct CommandState {
    is_leader_alive: bool,
    escalation: Option<Escalation>,
    signalled_processes: SignalledProcesses,
    reap_interval: Duration,
    /// Subtrees that are being ended.
    ending_subtrees: Vec<EndingSubtree>,
}

/// A subtree of the command that is being ended.
struct EndingSubtree {
    root: ProcessKey,
    /// Processes that were sent TERM.
    terminated: Vec<ProcessKey>,
    kill_at: Duration,
}

impl Shim {
    fn read_first_request(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some(request) = self.decoder.next_message()? {
                return Ok(Some(request));
            }
            if self.is_agent_gone {
                return Ok(None);
            }
            self.read_requests()?;
        }
    }

    /// Reads the available bytes; blocks if there are none.
    fn read_requests(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.control.read(&mut buffer) {
            Ok(0) => self.is_agent_gone = true,
            Ok(n) => self.decoder.push(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn send_report(&mut self, report: &Report) {
        let sent = encode(report).and_then(|bytes| self.control.write_all(&bytes));
        if sent.is_err() {
            self.is_agent_gone = true;
        }
    }

    fn supervise(&mut self, leader: &Leader, interrupt_first: bool) {
        let started_at = Instant::now();
        let mut state = CommandState {
            is_leader_alive: true,
            escalation: None,
            signalled_processes: SignalledProcesses::default(),
            reap_interval: REAP_POLL.0,
            ending_subtrees: Vec::new(),
        };
        loop {
            let has_processes = self.reap(leader, &mut state);
            self.handle_requests(&mut state, started_at);
            let now = started_at.elapsed();
            if self.is_agent_gone {
                let escalation = state
                    .escalation
                    .get_or_insert_with(|| Escalation::new(now, interrupt_first, ORPHAN_GRACE));
                escalation.shorten_grace(now, ORPHAN_GRACE);
            }
            kill_subtrees(&mut state, now);
            let commands = || !tree::leader_commands(leader.pid).is_empty();
            let is_leader_alive = state.is_leader_alive;
            let action = state
                .escalation
                .as_mut()
                .map(|escalation| escalation.next_action(now, is_leader_alive, has_processes, commands));
            match action {
                Some(Action::Sweep) => break,
                Some(Action::TerminateCommands(limit)) => {
                    kill::terminate_commands(leader, limit, &mut state.signalled_processes);
                }
                Some(Action::Interrupt) => {
                    // ESRCH: the leader exited by itself, which the next check sees.
                    let _ = pidfd_send_signal(&leader.pidfd, Signal::INT);
                    let _ = pidfd_send_signal(&leader.pidfd, Signal::CONT);
                }
                Some(Action::Terminate(limit)) => {
                    kill::terminate_descendants(limit, &mut state.signalled_processes);
                }
                Some(Action::Wait(time)) => self.wait(leader, &mut state, time.min(END_POLL)),
                None => {
                    let due =
                        state.ending_subtrees.iter().map(|subtree| subtree.kill_at.saturating_sub(now)).min();
                    let time = due.map_or(state.reap_interval, |due| due.min(state.reap_interval));
                    self.wait(leader, &mut state, time);
                }
            }
        }
        let pid = state.is_leader_alive.then_some(leader.pid);
        let survivors =
            kill::kill_descendants(|status| self.report_exit(status), pid, &mut state.signalled_processes);
        let killed = state.signalled_processes.count();
        if let Some(orphan_report) = self.orphan_report.as_mut().filter(|_| self.is_agent_gone) {
            orphan_report.write(killed, survivors);
        }
        self.send_report(&Report::Ended { killed, survivors });
    }

    /// Reaps dead children; returns true if any process is left below the shim.
    fn reap(&mut self, leader: &Leader, state: &mut CommandState) -> bool {
        let reaped = kill::reap(state.is_leader_alive.then_some(leader.pid));
        if let Some(status) = reaped.leader_status {
            state.is_leader_alive = false;
            self.report_exit(status);
        }
        if reaped.count > 0 {
            state.reap_interval = REAP_POLL.0;
        }
        reaped.has_children
    }

    fn report_exit(&mut self, status: WaitStatus) {
        self.send_report(&Report::Exited { code: status.exit_status(), signal: status.terminating_signal() });
    }

    /// Handles the requests that have arrived. Called before every wait: a request may have been read together with the
    /// command, and the socket does not report bytes that were already read.
    fn handle_requests(&mut self, state: &mut CommandState, started_at: Instant) {
        loop {
            match self.decoder.next_message() {
                Ok(None) => return,
                // A grace period counts from the time of the request, not from the time at which the wait began.
                Ok(Some(request)) => apply_request(state, &request, started_at.elapsed()),
                Err(_) => {
                    self.is_agent_gone = true;
                    return;
                }
            }
        }
    }

    /// Waits for a request, the leader's exit or the timeout, whichever is first, and reads the available bytes.
    fn wait(&mut self, leader: &Leader, state: &mut CommandState, time: Duration) {
        let timeout = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let mut fds = Vec::with_capacity(2);
        if !self.is_agent_gone {
            fds.push(PollFd::new(&self.control, PollFlags::IN));
        }
        if state.is_leader_alive {
            fds.push(PollFd::new(&leader.pidfd, PollFlags::IN));
        }
        let ready = poll(&mut fds, Some(&timeout));
        let is_readable = !self.is_agent_gone && fds.first().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        state.reap_interval = match ready {
            Ok(0) => (state.reap_interval * 2).min(REAP_POLL.1),
            _ => REAP_POLL.0,
        };
        if is_readable && self.read_requests().is_err() {
            self.is_agent_gone = true;
        }
    }
}

/// Kills the remaining processes of the subtrees whose grace period is over.
fn kill_subtrees(state: &mut CommandState, now: Duration) {
    state.ending_subtrees.retain(|subtree| {
        let is_due = now >= subtree.kill_at;
        if is_due {
            kill::kill_subtree(subtree.root, &subtree.terminated);
        }
        !is_due
    });
}

fn apply_request(state: &mut CommandState, request: &Request, now: Duration) {
    match request {
        &Request::End { interrupt_first, grace_ms } => {
            let grace = Duration::from_millis(grace_ms);
            state
                .escalation
                .get_or_insert_with(|| Escalation::new(now, interrupt_first, grace))
                .shorten_grace(now, grace);
        }
        // An escalation in progress keeps its own grace period.
        Request::Sweep => {
            state.escalation.get_or_insert_with(|| Escalation::new(now, false, LEFTOVER_GRACE));
        }
        &Request::Kill { pid, started, grace_ms } => {
            let root = ProcessKey { pid, start_ticks: started };
            let terminated = if grace_ms == 0 { Vec::new() } else { kill::terminate_subtree(root) };
            let kill_at = now.saturating_add(Duration::from_millis(grace_ms));
            state.ending_subtrees.push(EndingSubtree { root, terminated, kill_at });
        }
        // A shim runs one command only.
        Request::Run(_) | Request::Enter(..) => {}
    }
}
