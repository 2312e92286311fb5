//! Execution of one job. Its loop is the only one that waits: for the command, the deadlines, and orders.

use std::sync::Arc;
use std::time::Duration;

use common::event::{Changes, EventBody, FailureKind, FinalState, JobError, StepOutcome};
use common::job::{JobSpec, StepKind};
use common::text;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::control::{Order, Told};
use super::log::Log;
use super::masked_output::Masked;
use super::outcome::{Seen, judge};
use super::output_handler::Worker;
use super::running_command::{Ending, Running};
use super::stage::Stage;
use crate::codex::mcp::Servers;
use crate::codex::model_activity::Pulse;
use crate::confine::sandbox::Sandboxed;
use crate::confine::workspace::Folder;
use crate::deadline::{TICK, WorkTime};
use crate::environment::Variables;
use crate::git_diff::{self, Before, Git};
use crate::mask::Masker;
use crate::observe::{Observer, Snapshot};
use crate::oom::MemoryWatch;
use crate::process::{Event, Exit, Process, Source};
use crate::shim::protocol::Ids;
use crate::spool::JobSpool;
use crate::steps::rules::Rules;
use crate::steps::step_table::{Due, Steps};

/// Time after the grace that a shim may take: 3 s for what can't be killed, and the last output.
const OVERTIME: Duration = Duration::from_secs(5);
/// Time after the exit of its leader that a command may take: 2 s of output, 0.3 s of grace, 3 s for what can't be
/// killed, 2 s for its sandbox, and a busy machine.
const REST: Duration = Duration::from_secs(9);

/// Most replaced settings that are reported, with one warning each.
const MOST_REPLACED: usize = 5;

/// State of the workspace at the start, or the reason why it is unknown.
type BeforeOrReason = Result<Option<Before>, String>;

/// Supervisor of one job.
pub(crate) struct Supervisor {
    spec: JobSpec,
    spool: Arc<JobSpool>,
    log: Log,
    orders: watch::Receiver<Told>,
    /// Control state already applied.
    told: Told,
    equipment: Equipment,
    begun: Instant,
    time: WorkTime,
    steps: Steps,
    ending: Option<Ending>,
    killed: u32,
    survivors: u32,
    exit_code: Option<i32>,
}

/// Resources of a job. No `Debug`: environments hold secrets.
pub(crate) struct Equipment {
    /// Environment of the job.
    pub(crate) env: Variables,
    /// Environment without the job's own values.
    pub(crate) workers: Variables,
    /// User that the job runs as; defaults to the agent's own.
    pub(crate) user: Option<Ids>,
    /// Path of Codex's program, as it was found.
    pub(crate) codex: String,
    /// Version of Codex, if known.
    pub(crate) version: Option<String>,
    /// MCP servers of the job's Codex.
    pub(crate) servers: Servers,
    /// Rules that classify its commands.
    pub(crate) rules: Rules,
    /// Observer of its processes.
    pub(crate) observer: Observer,
    /// Masker of its secrets.
    pub(crate) mask: Arc<Masker>,
    /// Workspace of the job.
    pub(crate) folder: Folder,
    /// Sandbox around its commands.
    pub(crate) sandbox: Option<Sandboxed>,
}

/// Input that the loop waited for.
enum Input {
    Process(Event),
    Seen(Arc<Snapshot>),
    Time,
    Order,
}

impl Supervisor {
    /// Creates the supervisor of a job that was accepted.
    pub(crate) fn new(
        spec: JobSpec,
        spool: Arc<JobSpool>,
        log: Log,
        orders: watch::Receiver<Told>,
        equipment: Equipment,
    ) -> Self {
        let steps = Steps::new(Duration::ZERO, spec.limits.clone(), spec.on_limit, equipment.rules.clone())
            .with_on_loop(spec.on_loop);
        Self {
            spec,
            spool,
            log,
            orders,
            told: Told::default(),
            equipment,
            begun: Instant::now(),
            time: WorkTime::default(),
            steps,
            ending: None,
            killed: 0,
            survivors: 0,
            exit_code: None,
        }
    }

    /// Executes the job.
    pub(crate) async fn run(mut self) {
        let Equipment { workers, user, folder, sandbox, .. } = &self.equipment;
        let git = Git::new(workers, &self.spec, *user, folder.clone(), sandbox.clone());
        // In parallel with the first command: it takes some milliseconds that nothing has to wait for.
        let before = tokio::spawn(git_diff::before(git.clone()));
        let result = self.stages().await;
        let changes = self.changes(&git, before).await;
        self.tell_replaced();
        let (state, error) = match (self.ending.take(), result) {
            (None, Ok(())) => (FinalState::Completed, None),
            (None, Err(error)) | (Some(Ending::Failed(error)), _) => (FinalState::Failed, Some(error)),
            (Some(Ending::Cancelled), _) => (FinalState::Cancelled, None),
            (Some(Ending::Stopped), _) => (FinalState::Failed, Some(stopped())),
        };
        self.log.close().await;
        let cleanup = EventBody::Cleanup { killed: self.killed, survivors: self.survivors };
        let finished = EventBody::Finished { state, error, exit_code: self.exit_code, changes };
        self.emit([cleanup, finished]);
    }

    /// Runs the commands in order, until one fails or the job is to end.
    async fn stages(&mut self) -> Result<(), JobError> {
        for stage in Stage::all(&self.spec) {
            self.ordered(None);
            if self.ending.is_some() {
                return Ok(());
            }
            self.command(stage).await?;
        }
        Ok(())
    }

    async fn changes(&mut self, git: &Git, before: JoinHandle<BeforeOrReason>) -> Option<Changes> {
        if self.ending == Some(Ending::Stopped) {
            before.abort();
            return None;
        }
        let counted = match before.await {
            Ok(Ok(Some(before))) => git_diff::since(git, &before).await,
            Ok(Err(reason)) => Err(reason),
            // No repository, or the agent is shutting down.
            Ok(Ok(None)) | Err(_) => return None,
        };
        match counted {
            Ok(changes) => Some(changes),
            Err(reason) => {
                self.emit([EventBody::Warning { message: format!("changes: not counted: {reason}") }]);
                None
            }
        }
    }

    fn tell_replaced(&mut self) {
        let replaced = self.equipment.sandbox.iter().flat_map(Sandboxed::replaced);
        let warnings = replaced.map(|path| EventBody::Warning {
            message: format!(
                "{} was replaced while this job ran, and the job could write it since: look at it before you run git here",
                text::one_line(&path.display().to_string(), 300)
            ),
        });
        let warnings: Vec<EventBody> = warnings.take(MOST_REPLACED).collect();
        self.emit(warnings);
    }

    async fn command(&mut self, stage: Stage) -> Result<(), JobError> {
        let Equipment { env, user, codex, folder, sandbox, .. } = &self.equipment;
        let mut command = stage.command(&self.spec, env, *user, codex, sandbox.as_ref());
        command.testament = Some(self.spool.testament().display().to_string());
        let worker = match stage.step(&self.spec, self.steps.rules()) {
            Some(work) => Worker::shell(work),
            None => Worker::codex(Pulse::of(env), self.equipment.servers.clone()),
        };
        if let Stage::Setup(line) | Stage::Check(line) = &stage {
            self.log.write_line(&format!("$ {line}"));
        }
        let memory = MemoryWatch::begin();
        let process = match Process::spawn(command, stage.streams(&self.spec), Some(folder)) {
            Ok(process) => process,
            Err(error) => {
                let message = format!("a process could not be started: {error}");
                return Err(JobError { kind: FailureKind::SpawnFailed, message, step: None });
            }
        };
        let masked = Masked::new(&self.equipment.mask);
        let begun = self.now();
        let mut running = Running::new(stage, process, worker, memory, masked, begun);
        let mut processes = self.equipment.observer.subscribe();
        loop {
            let held = self.spool.is_congested() || self.log.is_congested();
            running.process.hold(held);
            // While held, the job's activity is not observed, and the job waits for its output to be read.
            self.time.hold(self.begun.elapsed(), held && !running.ends());
            let wake = self.wake(&running);
            // Cancel-safe: `Process::next` and `Subscription::next` are, and a changed order stays changed until it
            // is read.
            let input = tokio::select! {
                event = running.process.next() => Input::Process(event),
                seen = processes.next(), if running.leader.is_some() && !running.ends() => Input::Seen(seen),
                () = sleep_until(wake) => Input::Time,
                Ok(()) = self.orders.changed() => Input::Order,
            };
            match input {
                Input::Process(event) => {
                    let lost = event == Event::Lost;
                    if self.happened(&mut running, event) {
                        return if lost { self.lost(running).await } else { self.over(running) };
                    }
                }
                Input::Seen(tree) => {
                    self.look(&mut running, &tree);
                    running.seen = Some(tree);
                    processes.watch_network(self.steps.network_roots());
                }
                Input::Time => {
                    self.spool.retry();
                    self.log.check_copy();
                    self.release(&mut running, false);
                    let now = self.now();
                    if running.give_up.is_some_and(|until| now >= until) {
                        return self.lost(running).await;
                    }
                    self.check_clocks(&mut running);
                }
                Input::Order => self.ordered(Some(&mut running)),
            }
        }
    }

    fn now(&mut self) -> Duration {
        self.time.at(self.begun.elapsed())
    }

    /// Emits the output and events of one turn of the loop: first the log, then the events, each with one write.
    fn emit(&mut self, events: impl IntoIterator<Item = EventBody>) {
        self.log.flush();
        self.spool.append_all(events);
    }

    /// Returns the time of the next deadline. A command that is ending has no deadlines any more, but for the one of
    /// its shim.
    fn wake(&mut self, running: &Running) -> Instant {
        let now = self.now();
        let wait = if running.ends() {
            running.give_up.map_or(TICK, |until| until.saturating_sub(now).min(TICK))
        } else if running.leader.is_none() {
            running.begun.saturating_add(self.start_limit()).saturating_sub(now).min(TICK)
        } else {
            let linger = running.worker.linger_until().filter(|_| !running.lingered);
            let next = linger.map_or(self.steps.next(), |linger| linger.min(self.steps.next()));
            next.saturating_sub(now).min(TICK)
        };
        let wake = Instant::now() + wait;
        running.masked.due().map_or(wake, |due| due.min(wake))
    }

    /// Handles an event of the command; returns true if it was the last.
    fn happened(&mut self, running: &mut Running, event: Event) -> bool {
        let now = self.now();
        match event {
            Event::Spawned { pid } => {
                running.leader = Some(pid);
                let events = running.worker.spawned(now, pid, &mut self.steps);
                self.emit(events);
                false
            }
            Event::Output { source, bytes } => {
                let bytes = running.masked.push(source, bytes);
                self.take_output(running, now, source, &bytes);
                false
            }
            Event::Exited(exit) => {
                running.exit = Some(exit);
                running.give_up_at(now.saturating_add(REST));
                false
            }
            Event::SpawnFailed { message } => {
                running.spawn_failed = Some(message);
                true
            }
            Event::Ended { killed, survivors } => {
                self.killed = self.killed.saturating_add(killed);
                self.survivors = self.survivors.saturating_add(survivors);
                true
            }
            Event::Lost => true,
        }
    }

    /// Passes output on to the worker, with its secrets masked.
    fn take_output(&mut self, running: &mut Running, now: Duration, source: Source, bytes: &[u8]) {
        if !bytes.is_empty() {
            let events = running.worker.output(now, source, bytes, &mut self.steps, &mut self.log);
            self.emit(events);
        }
    }

    /// Passes on output that need not be held back any longer; all of it if `end` is set.
    fn release(&mut self, running: &mut Running, end: bool) {
        let now = self.now();
        for (source, bytes) in running.masked.release(end) {
            self.take_output(running, now, source, &bytes);
        }
    }

    fn check_clocks(&mut self, running: &mut Running) {
        let now = self.now();
        if running.ends() {
            return;
        }
        if !running.lingered && running.worker.linger_until().is_some_and(|until| now >= until) {
            running.lingered = true;
            running.process.end(true, Duration::from_millis(self.spec.limits.grace_ms));
            return;
        }
        let limit = self.start_limit();
        if running.leader.is_none() && now >= running.begun.saturating_add(limit) {
            let message = format!(
                "{} could not be started within {}: is its folder or program on a disk that hangs?",
                running.stage.named(running.stage.is_codex(&self.spec)),
                common::duration::limit(common::duration::millis(limit))
            );
            let error = JobError { kind: FailureKind::StartTimeout, message, step: None };
            return self.carry_out(running, vec![Due::Failure(error)]);
        }
        let observer = &self.equipment.observer;
        let due = self.steps.due(now, &|pid| observer.waits_for(pid));
        self.carry_out(running, due);
    }

    fn start_limit(&self) -> Duration {
        Duration::from_millis(self.spec.limits.step_ms(StepKind::Start))
    }

    /// Handles a snapshot of the processes.
    fn look(&mut self, running: &mut Running, tree: &Snapshot) {
        let now = self.time.at(tree.at.saturating_duration_since(self.begun));
        if let Some(leader) = running.leader.filter(|_| !running.ends()) {
            // A shim reaps it at once, unless the shim is stopped.
            if tree.process(leader).is_some_and(|process| process.zombie) {
                return running.give_up_at(now.saturating_add(REST));
            }
            let observer = &self.equipment.observer;
            let due = self.steps.look(now, tree, leader, &|pid| observer.waits_for(pid));
            self.carry_out(running, due);
        }
    }

    fn carry_out(&mut self, running: &mut Running, due: Vec<Due>) {
        for due in due {
            match due {
                Due::Event(event) => self.emit([event]),
                Due::Interrupt { pid, started, grace_ms } => {
                    running.process.end_below(pid, started, grace_ms);
                }
                Due::Failure(error) => {
                    let grace = self.spec.limits.grace_ms;
                    let reason = error.message.clone();
                    self.end(running, Ending::Failed(error), &reason, grace);
                }
            }
        }
    }

    /// Applies the orders that the job was sent.
    fn ordered(&mut self, running: Option<&mut Running>) {
        let told = *self.orders.borrow_and_update();
        self.extend(told);
        let (ending, reason, grace_ms) = match told.order {
            Order::Run => return,
            Order::Cancel { grace_ms } => (Ending::Cancelled, "cancelled", grace_ms),
            Order::Stop { grace_ms } => (Ending::Stopped, "the agent was told to stop", grace_ms),
        };
        match running {
            Some(running) => self.end(running, ending, reason, grace_ms),
            None => self.decide(ending, reason),
        }
    }

    /// Extends limits by the amounts that are not applied yet.
    fn extend(&mut self, told: Told) {
        let job = told.job_ms.saturating_sub(self.told.job_ms);
        let step = told.step_ms.saturating_sub(self.told.step_ms);
        self.told = told;
        for (step, by_ms) in [(false, job), (true, step)] {
            let moved = (by_ms > 0).then(|| self.steps.extend(step, by_ms)).flatten();
            self.emit(moved);
        }
    }

    /// Decides why the job ends: the first reason stays the reason.
    fn decide(&mut self, ending: Ending, reason: &str) {
        if self.ending.is_none() {
            self.ending = Some(ending);
            self.steps.end();
            self.emit([EventBody::Stopping { reason: reason.to_owned() }]);
        }
    }

    /// Ends the command; a later call can only hasten that.
    fn end(&mut self, running: &mut Running, ending: Ending, reason: &str, grace_ms: u64) {
        self.decide(ending, reason);
        let grace = Duration::from_millis(grace_ms).min(common::duration::MAX);
        running.process.end(running.stage.is_codex(&self.spec), grace);
        let now = self.now();
        running.give_up_at(now.saturating_add(grace).saturating_add(OVERTIME));
    }

    /// Ends a command whose shim is lost, in place of that shim.
    async fn lost(&mut self, mut running: Running) -> Result<(), JobError> {
        let (killed, survivors) = running.process.sweep(running.processes()).await;
        self.killed = self.killed.saturating_add(killed);
        self.survivors = self.survivors.saturating_add(survivors);
        self.over(running)
    }

    /// Handles the end of the command; returns what it means for the job.
    fn over(&mut self, mut running: Running) -> Result<(), JobError> {
        self.release(&mut running, true);
        let now = self.now();
        let code = running.exit.map(Exit::code);
        let outcome = match (running.exit, &self.ending) {
            (_, Some(_)) => StepOutcome::Killed,
            (Some(Exit::Code(0)), None) => StepOutcome::Ok,
            (_, None) => StepOutcome::Failed,
        };
        let current = self.steps.newest();
        let events = running.worker.end(now, outcome, code, &mut self.steps, &mut self.log);
        self.emit(events);
        let left = if self.ending.is_some() { StepOutcome::Killed } else { StepOutcome::Unknown };
        let events = self.steps.finish_all(now, left);
        self.emit(events);
        if running.worker.unknown() > 0 {
            let message = not_understood(running.worker.unknown(), self.equipment.version.as_deref());
            self.emit([EventBody::Warning { message }]);
        }
        let codex = running.stage.is_codex(&self.spec);
        let seen = Seen {
            exit: running.exit,
            now: jiff::Zoned::now(),
            spawn_failed: running.spawn_failed,
            step: running.worker.step().or(current),
            tail: running.worker.tail(),
            turn: running.worker.turn(),
            lingered: running.lingered,
            shortage: running.memory.shortage(),
        };
        let verdict = judge(&running.stage, codex, &seen);
        if running.stage == Stage::Worker {
            self.exit_code = if verdict.is_ok() { Some(0) } else { code };
        }
        if self.ending.is_some() { Ok(()) } else { verdict }
    }
}

fn not_understood(lines: u64, version: Option<&str>) -> String {
    let lines = if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") };
    let version = version.map(|version| format!(" {version}")).unwrap_or_default();
    format!(
        "{lines} of codex{version} not understood, so steps and tokens may be missing here: update relay (codex.jsonl in \
         the workspace's copy of the log has them)"
    )
}

fn stopped() -> JobError {
    JobError {
        kind: FailureKind::AgentLost,
        message: "the agent was told to stop while the job ran".to_owned(),
        step: None,
    }
}
