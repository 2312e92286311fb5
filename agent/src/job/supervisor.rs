//! Execution of one job. While a command runs, one loop waits for its events, for deadlines and for changes of the
//! control state.

use std::sync::Arc;
use std::time::Duration;

use common::event::{Changes, EventBody, FailureKind, FinalState, JobError, StepOutcome};
use common::evidence::CheckEvidence;
use common::job::JobSpec;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::control::ControlState;
use super::log::JobLog;
use super::masked_output::MaskedOutput;
use super::outcome::{CommandResult, classify_exit, process_limit_warning};
use super::output_handler::OutputHandler;
use super::running_command::{ContainerWatch, EndReason, RunningCommand};
use super::stage::Stage;
use crate::codex::mcp::ServerTracker;
use crate::codex::model_activity::ActivityDetector;
use crate::confine::sandbox::JobSandbox;
use crate::deadline::{TICK, WorkClock};
use crate::disk_use::DiskWatch;
use crate::environment::{self, Variables};
use crate::gateway::loopback_port::LoopbackPort;
use crate::git_diff::{self, GitCall};
use crate::mask::Masker;
use crate::observe::{Observer, Snapshot};
use crate::output::job_output::JobOutput;
use crate::place::git::PlaceGit;
use crate::process::{Event, Exit, OutputPipes, OutputSource, Process};
use crate::shim::protocol::Command;
use crate::spool::JobSpool;
use crate::steps::rules::Rules;
use crate::steps::step_table::Steps;
use crate::user::UserIds;
use crate::vitals::VitalsMonitor;
use crate::workspace::WorkspaceDir;

/// Maximum time from the exit of a command's leader to the end of the command: 2 s for output, 0.3 s of grace, 3 s for
/// processes that can't be killed, 2 s for the sandbox, and the rest for a busy machine.
pub(super) const EXIT_TIMEOUT: Duration = Duration::from_secs(9);

/// Supervisor of one job.
pub(crate) struct Supervisor {
    pub(super) spec: JobSpec,
    pub(super) spool: Arc<JobSpool>,
    pub(super) log: JobLog,
    pub(super) control: watch::Receiver<ControlState>,
    /// Control state already applied.
    pub(super) applied_control: ControlState,
    pub(super) resources: JobResources,
    pub(super) started_at: Instant,
    pub(super) work_clock: WorkClock,
    pub(super) steps: Steps,
    pub(super) end_reason: Option<EndReason>,
    killed_count: u32,
    survivor_count: u32,
    pub(super) exit_code: Option<i32>,
    /// Checks that have ended.
    pub(super) checks: Vec<CheckEvidence>,
    /// True if the job's place has commits that could not be pushed.
    pub(super) has_unpushed_commits: bool,
    /// Codex thread of the job.
    pub(super) thread_id: Option<String>,
    /// End of the usage limit that Codex has reached, if Codex named it.
    pub(super) limit_end: Option<Timestamp>,
}

/// Resources of a job. Does not implement `Debug`, because environments contain secrets.
pub(crate) struct JobResources {
    /// True if the agent runs no other job.
    pub(crate) is_only_job: bool,
    /// Watch of the disk space of the job's container, if it is limited.
    pub(crate) disk_watch: Option<DiskWatch>,
    /// Environment of the job.
    pub(crate) env: Variables,
    /// Environment without the job's own values.
    pub(crate) worker_env: Variables,
    /// User that the job runs as; defaults to the agent's own.
    pub(crate) user: Option<UserIds>,
    /// Path at which Codex's program was found.
    pub(crate) codex: String,
    pub(crate) codex_version: Option<String>,
    /// MCP servers of the job's Codex.
    pub(crate) mcp_servers: ServerTracker,
    /// Rules that classify the job's commands.
    pub(crate) rules: Rules,
    pub(crate) observer: Observer,
    pub(crate) mask: Arc<Masker>,
    pub(crate) vitals: VitalsMonitor,
    pub(crate) workspace: WorkspaceDir,
    /// Sandbox around the job's commands.
    pub(crate) sandbox: Option<JobSandbox>,
    /// Git in the job's own place, if it has one.
    pub(crate) place: Option<PlaceGit>,
    /// The job's output folder.
    pub(crate) output: JobOutput,
    /// Folder of the job's images; empty if the job has none.
    pub(crate) images_folder: String,
    /// Port at which the job's Codex finds the model, if it reaches the model through the relay.
    pub(crate) _model_port: Option<LoopbackPort>,
    /// Port at which the job's processes find the proxy, if they reach other hosts through the relay.
    pub(crate) _proxy_port: Option<LoopbackPort>,
}

/// Input that the loop waited for.
enum Input {
    Process(Event),
    Snapshot(Arc<Snapshot>),
    Wake,
    Control,
}

impl Supervisor {
    /// Creates the supervisor of an accepted job.
    pub(crate) fn new(
        spec: JobSpec,
        spool: Arc<JobSpool>,
        log: JobLog,
        control: watch::Receiver<ControlState>,
        resources: JobResources,
    ) -> Self {
        let steps = Steps::new(Duration::ZERO, spec.limits.clone(), spec.on_limit, resources.rules.clone())
            .with_on_loop(spec.on_loop);
        Self {
            spec,
            spool,
            log,
            control,
            applied_control: ControlState::default(),
            resources,
            started_at: Instant::now(),
            work_clock: WorkClock::default(),
            steps,
            end_reason: None,
            killed_count: 0,
            survivor_count: 0,
            exit_code: None,
            checks: Vec::new(),
            has_unpushed_commits: false,
            thread_id: None,
            limit_end: None,
        }
    }

    /// Executes the job.
    pub(crate) async fn run(mut self) {
        let place_result = self.make_place().await;
        let has_place = matches!(place_result, Ok(true));
        let (result, changes) = match place_result {
            Ok(_) => self.run_stages_and_count_changes(has_place).await,
            Err(error) => (Err(error), None),
        };
        self.push_output().await;
        self.remove_images();
        self.remove_place(has_place);
        self.warn_of_replaced_settings();
        let (state, error) = match (self.end_reason.take(), result) {
            (None, Ok(())) => (FinalState::Completed, None),
            (None, Err(error)) | (Some(EndReason::Failed(error)), _) => (FinalState::Failed, Some(error)),
            (Some(EndReason::Cancelled), _) => (FinalState::Cancelled, None),
            (Some(EndReason::Stopped), _) => (FinalState::Failed, Some(stopped_error())),
        };
        self.log.close().await;
        if error.as_ref().is_some_and(|error| error.kind == FailureKind::OomKilled) {
            self.emit_vitals();
        }
        let cleanup = EventBody::Cleanup { killed: self.killed_count, survivors: self.survivor_count };
        let finished = EventBody::Finished { state, error, exit_code: self.exit_code, changes };
        let evidence = self.evidence(has_place);
        self.emit(evidence.into_iter().chain([cleanup, finished]));
    }

    async fn run_stages_and_count_changes(
        &mut self,
        has_place: bool,
    ) -> (Result<(), JobError>, Option<Changes>) {
        let JobResources { worker_env: workers, user, workspace: folder, sandbox, .. } = &self.resources;
        let git = GitCall::new(workers, &self.spec, *user, folder.clone(), sandbox.clone());
        let baseline = git_diff::find_baseline(&git, has_place).await;
        let expectation_base = self.read_expectation_base(has_place).await;
        let checkpoints = self.start_checkpoints(has_place);
        let mut result = self.run_stages().await;
        if result.is_ok() {
            result = self.check_expectations(&expectation_base, has_place).await;
        }
        if let Some(checkpoints) = checkpoints {
            self.push_result_at_end(checkpoints).await;
        }
        let changes = self.count_changes(&git, baseline).await;
        if result.is_ok() && !has_place {
            result = self.check_counted_changes(changes);
        }
        (result, changes)
    }

    /// Runs the commands in order, until one fails or the job is to end.
    async fn run_stages(&mut self) -> Result<(), JobError> {
        self.fetch_images().await?;
        for stage in Stage::from_spec(&self.spec) {
            self.apply_control(None);
            if self.end_reason.is_some() {
                return Ok(());
            }
            if stage == Stage::Worker {
                self.run_worker().await?;
            } else {
                let pipes = stage.output_pipes(&self.spec);
                self.run_command(stage, pipes).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn run_command(&mut self, stage: Stage, pipes: OutputPipes) -> Result<(), JobError> {
        let JobResources { env, user, codex, workspace, sandbox, .. } = &self.resources;
        let command = stage.command(&self.spec, env, *user, codex, sandbox.as_ref());
        let folder = workspace.clone();
        self.run_in_folder(stage, command, pipes, &folder).await
    }

    /// Runs `command`, the command of `stage`, in a folder.
    pub(super) async fn run_in_folder(
        &mut self,
        stage: Stage,
        mut command: Command,
        pipes: OutputPipes,
        folder: &WorkspaceDir,
    ) -> Result<(), JobError> {
        let env = &self.resources.env;
        command.orphan_report = Some(self.spool.orphan_report().display().to_string());
        let handler = match stage.step_classification(&self.spec, self.steps.rules()) {
            Some(classification) => OutputHandler::shell(classification),
            None => OutputHandler::codex(ActivityDetector::from_env(env), self.resources.mcp_servers.clone()),
        };
        if let Stage::Setup(line) | Stage::Check(line) = &stage {
            self.log.write_line(&format!("$ {line}"));
        }
        let container_watch = ContainerWatch::start(self.resources.is_only_job);
        let process = match Process::spawn(command, pipes, Some(folder)) {
            Ok(process) => process,
            Err(error) => {
                let message = format!("a process could not be started: {error}");
                return Err(JobError { kind: FailureKind::SpawnFailed, message, step: None });
            }
        };
        let masked = MaskedOutput::new(&self.resources.mask);
        let spawn_requested_at = self.now();
        let mut running =
            RunningCommand::new(stage, process, handler, container_watch, masked, spawn_requested_at);
        let mut processes = self.resources.observer.subscribe();
        loop {
            let is_congested = self.spool.is_congested() || self.log.is_congested();
            running.process.set_output_paused(is_congested);
            // The work time stops while the job's output is not read, because its activity can't be observed then.
            self.work_clock.set_on_hold(self.started_at.elapsed(), is_congested && !running.is_ending());
            let wake = self.next_wake(&running);
            let must_observe = running.leader_pid.is_some() && !running.is_ending();
            // Cancel-safe: `Process::next` and `Subscription::next` are cancel-safe, and a new control state stays
            // marked as changed until it is read.
            let input = tokio::select! {
                event = running.process.next() => Input::Process(event),
                snapshot = processes.next(), if must_observe => Input::Snapshot(snapshot),
                () = sleep_until(wake) => Input::Wake,
                Ok(()) = self.control.changed() => Input::Control,
            };
            match input {
                Input::Process(event) => {
                    let is_lost = event == Event::Lost;
                    if self.on_event(&mut running, event) {
                        return if is_lost {
                            self.on_shim_lost(running).await
                        } else {
                            self.on_command_end(running)
                        };
                    }
                }
                Input::Snapshot(tree) => {
                    self.on_snapshot(&mut running, &tree);
                    running.snapshot = Some(tree);
                    processes.watch_network(self.steps.network_roots());
                }
                Input::Wake => {
                    self.spool.retry_pending();
                    self.log.check_copy();
                    self.release_output(&mut running, false);
                    let now = self.now();
                    if running.shim_deadline.is_some_and(|deadline| now >= deadline) {
                        return self.on_shim_lost(running).await;
                    }
                    self.check_deadlines(&mut running);
                }
                Input::Control => self.apply_control(Some(&mut running)),
            }
        }
    }

    pub(super) fn now(&mut self) -> Duration {
        self.work_clock.advance_to(self.started_at.elapsed())
    }

    /// Writes the output and the events of one iteration of the loop: first the log, then the events, with one write
    /// each.
    pub(super) fn emit(&mut self, events: impl IntoIterator<Item = EventBody>) {
        self.log.flush();
        let thread = &mut self.thread_id;
        self.spool.append_all(events.into_iter().inspect(|event| {
            if let EventBody::Started { thread_id: Some(id), .. } = event {
                *thread = Some(id.clone());
            }
        }));
    }

    /// Emits the vitals of the machine, which may explain the next event.
    pub(super) fn emit_vitals(&mut self) {
        let vitals = self.resources.vitals.newest();
        self.emit(vitals.map(|vitals| EventBody::Vitals(Box::new(vitals))));
    }

    /// Returns the time of the next deadline. A command that is ending has only the deadline of its shim.
    fn next_wake(&mut self, running: &RunningCommand) -> Instant {
        let now = self.now();
        let wait = if running.is_ending() {
            running.shim_deadline.map_or(TICK, |deadline| deadline.saturating_sub(now).min(TICK))
        } else if running.leader_pid.is_none() {
            running.spawn_requested_at.saturating_add(self.start_limit()).saturating_sub(now).min(TICK)
        } else {
            let exit_deadline = running.handler.exit_deadline().filter(|_| !running.was_ended_after_turn);
            let next = self.steps.next_deadline();
            let next = exit_deadline.map_or(next, |deadline| deadline.min(next));
            next.saturating_sub(now).min(TICK)
        };
        let wake = Instant::now() + wait;
        running.masked_output.release_time().map_or(wake, |due| due.min(wake))
    }

    /// Handles an event of the command; returns true if it was the command's last event.
    fn on_event(&mut self, running: &mut RunningCommand, event: Event) -> bool {
        let now = self.now();
        match event {
            Event::Spawned { pid } => {
                running.leader_pid = Some(pid);
                let events = running.handler.on_spawned(now, pid, &mut self.steps);
                self.emit(events);
                false
            }
            Event::Output { source, bytes } => {
                let bytes = running.masked_output.push(source, bytes);
                self.on_output(running, now, source, &bytes);
                false
            }
            Event::Exited(exit) => {
                running.exit = Some(exit);
                running.set_shim_deadline(now.saturating_add(EXIT_TIMEOUT));
                false
            }
            Event::SpawnFailed { message } => {
                running.spawn_error = Some(message);
                true
            }
            Event::Ended { killed, survivors } => {
                self.killed_count = self.killed_count.saturating_add(killed);
                self.survivor_count = self.survivor_count.saturating_add(survivors);
                true
            }
            Event::Lost => true,
        }
    }

    /// Passes masked output to the handler, unless it is empty.
    fn on_output(&mut self, running: &mut RunningCommand, now: Duration, source: OutputSource, bytes: &[u8]) {
        if !bytes.is_empty() {
            if matches!(running.stage, Stage::Check(_)) {
                running.check_output_digest.add(bytes);
            }
            let events = running.handler.on_output(now, source, bytes, &mut self.steps, &mut self.log);
            self.emit(events);
        }
    }

    /// Passes on the output that no longer needs to be held back, or all held-back output if `is_final` is true.
    fn release_output(&mut self, running: &mut RunningCommand, is_final: bool) {
        let now = self.now();
        for (source, bytes) in running.masked_output.release_output(is_final) {
            self.on_output(running, now, source, &bytes);
        }
    }

    /// Ends the processes of a command whose shim is lost.
    async fn on_shim_lost(&mut self, mut running: RunningCommand) -> Result<(), JobError> {
        let (killed, survivors) = running.process.sweep(running.processes()).await;
        self.killed_count = self.killed_count.saturating_add(killed);
        self.survivor_count = self.survivor_count.saturating_add(survivors);
        self.on_command_end(running)
    }

    /// Handles the end of the command; returns an error if the job has failed.
    fn on_command_end(&mut self, mut running: RunningCommand) -> Result<(), JobError> {
        self.release_output(&mut running, true);
        let now = self.now();
        let code = running.exit.map(Exit::code);
        let outcome = match (running.exit, &self.end_reason) {
            (_, Some(_)) => StepOutcome::Killed,
            (Some(Exit::Code(0)), None) => StepOutcome::Ok,
            (_, None) => StepOutcome::Failed,
        };
        let active_step = self.steps.newest_active_step();
        let events = running.handler.on_end(now, outcome, code, &mut self.steps, &mut self.log);
        self.emit(events);
        let rest_outcome = if self.end_reason.is_some() { StepOutcome::Killed } else { StepOutcome::Unknown };
        let events = self.steps.finish_all(now, rest_outcome);
        self.emit(events);
        if running.handler.unknown_count() > 0 {
            let message = unknown_lines_warning(
                running.handler.unknown_count(),
                self.resources.codex_version.as_deref(),
            );
            self.emit([EventBody::Warning { message }]);
        }
        self.note_check(&running, code);
        let is_codex = running.stage.is_codex(&self.spec);
        let command_result = CommandResult {
            exit: running.exit,
            ended_at: environment::in_local_zone(&jiff::Zoned::now(), &self.resources.env),
            spawn_error: running.spawn_error,
            step: running.handler.step().or(active_step),
            tail: running.handler.tail(),
            turn: running.handler.turn(),
            was_ended_after_turn: running.was_ended_after_turn,
            oom_kill: running.container_watch.oom.oom_kill(),
            process_limit: running.container_watch.processes.reached_limit(),
        };
        self.note_limit_end(command_result.turn.as_ref(), &command_result.ended_at);
        let warning = command_result.process_limit.map(process_limit_warning);
        self.emit(warning.map(|message| EventBody::Warning { message }));
        let result = classify_exit(&running.stage, is_codex, &command_result);
        if running.stage == Stage::Worker {
            self.exit_code = if result.is_ok() { Some(0) } else { code };
        }
        if self.end_reason.is_some() { Ok(()) } else { result }
    }
}

fn unknown_lines_warning(lines: u64, version: Option<&str>) -> String {
    let lines = if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") };
    let version = version.map(|version| format!(" {version}")).unwrap_or_default();
    format!(
        "{lines} of codex{version} not understood, so steps and tokens may be missing here: update relay (codex.jsonl in \
         the workspace's copy of the log has them)"
    )
}

fn stopped_error() -> JobError {
    JobError {
        kind: FailureKind::AgentLost,
        message: "the agent was stopped while the job ran".to_owned(),
        step: None,
    }
}
