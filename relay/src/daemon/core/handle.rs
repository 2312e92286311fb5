//! The core: the state on which the daemon decides, the handling of each input, and the periodic work.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use common::ids::JobId;
use common::record::{JobRecord, State};
use common::result::ResultState;
use common::wire::RelayFrame;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::agents::AgentConnections;
use super::boxes::Boxes;
use super::capacity::AgentId;
use super::connections::Connection;
use super::container::ContainerTracker;
use super::dependencies::DependencyState;
use super::effect::Effect;
use super::input::Input;
use super::input_context::InputContext;
use super::job_queue::GroupLimits;
use super::limits::LimitRequests;
use super::platform::PlatformState;
use super::scheduler::{Action, Scheduler};
use super::shutdown::Shutdown;
use crate::files::atomic::Durability;
use crate::min_free::MinFree;
use crate::registry::lease::Lease;
use crate::state_dir::saved_state::SavedState;
use crate::time::BootScale;

/// Interval between two heartbeats in the lease; also the maximum delay until a new job is found if its request file,
/// which is only a hint, was lost.
pub(in crate::daemon) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// Settings of the core.
#[derive(Debug, Clone, Default)]
pub(in crate::daemon) struct CoreSettings {
    /// Name of the platform's container.
    pub(in crate::daemon) container_name: String,
    /// Memory and disk space that the machines of the platform must keep free.
    pub(in crate::daemon) min_free: MinFree,
    /// Maximum number of running jobs of each group.
    pub(in crate::daemon) group_limits: GroupLimits,
    /// True if each job gets a box of its own.
    pub(in crate::daemon) has_boxes: bool,
    /// True if Codex reaches the model through the relay.
    pub(in crate::daemon) has_gateway: bool,
}

/// Reading of the clocks.
#[derive(Debug, Default)]
struct ClockReading {
    /// Moment and time of the last heartbeat.
    heartbeat: Option<(Instant, Timestamp)>,
    /// Time by which the wall clock is ahead of the relay's time.
    wall_ahead: SignedDuration,
}

/// State on which the daemon decides. Each part has one owner.
pub(in crate::daemon) struct Core {
    pub(super) scheduler: Scheduler,
    pub(super) agents: AgentConnections,
    pub(super) platform: PlatformState,
    pub(super) container: ContainerTracker,
    pub(super) boxes: Boxes,
    pub(super) limit_requests: LimitRequests,
    pub(super) shutdown: Shutdown,
    /// Jobs that the core knows: their records need not be read again.
    pub(super) known_jobs: BTreeSet<JobId>,
    /// Time of the next check of the queue's hold.
    pub(super) hold_check_at: Option<Instant>,
    /// Newest reading of the clocks.
    clock: ClockReading,
    /// True after the warning about a changed wall clock was logged.
    is_clock_warning_logged: bool,
}

impl Core {
    /// Creates a core without jobs, from the first lease of this daemon and the state that the last daemon saved.
    pub(in crate::daemon) fn new(lease: Lease, saved: &SavedState, settings: CoreSettings) -> Self {
        let mut scheduler = Scheduler::new(settings.group_limits, settings.has_boxes);
        scheduler.has_gateway = settings.has_gateway;
        Self {
            scheduler,
            agents: AgentConnections::default(),
            platform: PlatformState::new(lease, saved, settings.container_name, settings.min_free),
            container: ContainerTracker::default(),
            boxes: Boxes::default(),
            limit_requests: LimitRequests::default(),
            shutdown: Shutdown::default(),
            known_jobs: BTreeSet::new(),
            hold_check_at: None,
            clock: ClockReading::default(),
            is_clock_warning_logged: false,
        }
    }

    /// Handles an input at `now`. Returns the effects, in order.
    pub(in crate::daemon) fn handle(&mut self, input: Input, now: Instant) -> Vec<Effect> {
        let mut context = InputContext::new(now);
        self.dispatch(input, &mut context);
        context.effects
    }

    fn dispatch(&mut self, input: Input, context: &mut InputContext) {
        match input {
            Input::RegistryOpened(active) => self.adopt_active_jobs(&active, context),
            Input::Listening => self.start_attempt_if_needed(context),
            Input::Register(agent) => self.on_register(&agent, context),
            Input::Connected(connection) => self.on_connected(connection, context),
            Input::Disconnected { connection_id, reason } => {
                self.on_connection_closed(connection_id, &reason, context);
            }
            Input::FrameNotSent(connection_id) => {
                let actions = self.drop_connection(&connection_id, "it accepts no more frames", context);
                self.execute_actions(actions, context);
            }
            Input::Accepted { connection_id, job, epoch } => {
                self.on_accepted(&connection_id, job, epoch, context);
            }
            Input::Refused { connection_id, job, reason, is_full } => {
                self.on_refused(&connection_id, &job, reason, is_full, context);
            }
            Input::Vitals { connection_id, vitals } => self.on_vitals(&connection_id, *vitals, context),
            Input::RecordsChanged(records) => self.on_records_changed(records, context),
            Input::ProcessFrozen(time) => self.warn_of_freeze(time, context),
            Input::ModelChecked(problem) => self.on_model_checked(problem, context),
            Input::CredentialsChanged => self.on_credentials_changed(context),
            Input::DayBudget(hold) => self.on_day_budget(hold, context),
            Input::Heartbeat(at) => {
                self.platform.lease.heartbeat_at = at;
                self.clock.heartbeat = Some((context.now, at));
                self.publish_state(Durability::Cached, context);
            }
            Input::RegistryGone => self.on_registry_gone(context),
            Input::JobsListed(listed) => self.known_jobs.retain(|job| listed.contains(job)),
            Input::JobFound(record) => self.add_new_job(&record, context),
            Input::DependenciesRead(states) => self.on_dependencies_read(states, context),
            Input::WallClock(ahead_ms) => {
                self.clock.wall_ahead = SignedDuration::from_millis(ahead_ms.unwrap_or(0));
                self.follow_wall_clock(ahead_ms, context);
            }
            Input::ClockSet(scale) => self.on_clock_set(scale, context),
            Input::RequestFiled { path, request, wall_time } => {
                self.apply_request(path, request, wall_time, context);
            }
            Input::RequestsRead => self.on_requests_read(context),
            Input::ExtensionStates(results) => self.on_extension_states(results, context),
            Input::LimitRequestSent { path, connection } => {
                self.limit_requests.set_sent(&path, connection, context.now);
            }
            Input::RequestRewritten(request) => self.limit_requests.replace_request(request),
            Input::TargetLimitStored(request) => self.on_target_limit_stored(request, context),
            Input::SpecLimitWritten(path) => self.on_spec_limit_written(&path, context),
            Input::Tick => self.on_tick(context),
            Input::Revoked(agents) => self.on_revoked(agents, context),
            Input::LocalAgentProcess { is_running, reason } => {
                self.on_local_agent_process(is_running, &reason, context);
            }
            Input::PlatformStarted(result) => self.on_attempt_finished(result, context),
            Input::GatewayOpened(address) => self.on_gateway_opened(address, context),
            Input::PlatformStopped(result) => self.on_platform_stopped(result, context.now),
            Input::ContainerChanged(change) => self.on_container_change(change, context),
            Input::BoxStarted { agent, result } => self.on_box_started(&agent, result, context),
            Input::BoxRemoved { agent, result } => self.on_box_removed(&agent, result, context),
            Input::BoxChanged { agent, change } => self.on_box_changed(&agent, change, context),
            Input::BoxesListed { found, asked_at } => self.on_boxes_listed(found, asked_at, context),
            Input::MainLoopEnded => self.on_main_loop_ended(context),
        }
    }

    /// Returns the time of the next [`Input::Tick`], if that is due before the next heartbeat.
    pub(in crate::daemon) fn deadline(&self) -> Option<Instant> {
        let due = self.platform.next_attempt_at.into_iter().chain(self.shutdown.deadline);
        due.chain(self.container.deadline()).chain(self.boxes.deadline()).chain(self.hold_check_at).min()
    }

    /// Returns true if a job's record need not be read again.
    pub(in crate::daemon) fn is_known(&self, job: &JobId) -> bool {
        self.known_jobs.contains(job)
    }

    /// Adopts the jobs found at startup. Their agents count as disconnected from now on, until they reconnect.
    fn adopt_active_jobs(&mut self, active: &[JobRecord], context: &mut InputContext) {
        // Jobs that hold folders come first, then the queued jobs by launch time, so that each finds its blocker.
        let mut active: Vec<&JobRecord> = active.iter().collect();
        active.sort_by_key(|record| (record.state == State::Queued, record.created_at, &record.job));
        let now = self.wall_time(context.now);
        for record in &active {
            self.scheduler.adopt_hold(record, now);
        }
        for record in active {
            self.known_jobs.insert(record.job.clone());
            let actions = self.scheduler.update_from_record(record);
            self.execute_actions(actions, context);
        }
        context.read_dependencies(self.scheduler.unknown_dependencies());
        for agent in self.scheduler.agents_with_jobs() {
            let actions = self.scheduler.on_agent_disconnected(&agent, "the relay was restarted");
            self.agents.disconnects.on_disconnect(agent, context.now);
            self.execute_actions(actions, context);
        }
        self.adopt_saved_exit(context);
        self.schedule_hold_check(context);
    }

    fn on_dependencies_read(&mut self, states: Vec<(JobId, DependencyState)>, context: &mut InputContext) {
        for (job, state) in states {
            let actions = self.scheduler.settle_dependency(&job, state);
            self.execute_actions(actions, context);
        }
    }

    /// Handles records that the writer has changed.
    fn on_records_changed(&mut self, records: BTreeMap<JobId, JobRecord>, context: &mut InputContext) {
        let wall_time = self.wall_time(context.now);
        for record in records.values() {
            let actions = self.scheduler.observe_account(record, wall_time);
            self.execute_actions(actions, context);
            let actions = self.scheduler.update_from_record(record);
            self.execute_actions(actions, context);
            if record.state.is_final() {
                self.release_box(record, context);
            }
        }
        self.schedule_hold_check(context);
        if !self.limit_requests.is_empty() {
            self.inspect_limits(context);
        }
        self.forget_exit(context);
        let ended = records.into_values().filter(reports_end_or_result);
        context.effects.extend(ended.map(|record| Effect::Notify(Box::new(record))));
    }

    /// Runs the last part of the periodic work: timeouts and retries.
    fn on_tick(&mut self, context: &mut InputContext) {
        self.expire_disconnected(context);
        let actions = self.scheduler.retry_full_agents();
        self.execute_actions(actions, context);
        context.read_dependencies(self.scheduler.unknown_dependencies());
        self.check_container(context);
        self.check_boxes(context);
        self.check_hold(context);
        if self.platform.next_attempt_at.is_some_and(|at| at <= context.now) {
            self.start_attempt_if_needed(context);
        }
    }

    /// Adopts the new time of a wall clock that was set, once there are no jobs, because their ages would change.
    fn follow_wall_clock(&mut self, ahead_ms: Option<i64>, context: &mut InputContext) {
        let Some(ahead_ms) = ahead_ms else {
            self.is_clock_warning_logged = false;
            return;
        };
        let span = common::duration::format_duration(ahead_ms.unsigned_abs());
        let direction = if ahead_ms > 0 { "ahead" } else { "back" };
        if !self.scheduler.is_empty() {
            if !self.is_clock_warning_logged {
                tracing::warn!(
                    "the clock of this machine was set {span} {direction}: applied when no job is left"
                );
            }
            self.is_clock_warning_logged = true;
            return;
        }
        tracing::warn!("the clock of this machine was set {span} {direction}");
        context.push(Effect::FollowWallClock);
    }

    fn on_clock_set(&mut self, scale: Option<BootScale>, context: &mut InputContext) {
        self.platform.lease.clock = scale;
        // Agents receive the relay's time only when they connect, so all agents must reconnect.
        while let Some(connection_id) =
            self.agents.connections.first_connection().map(Connection::connection_id)
        {
            let actions = self.drop_connection(&connection_id, "the clock of this machine was set", context);
            self.execute_actions(actions, context);
        }
    }

    /// Returns the time of the wall clock.
    pub(super) fn wall_time(&self, now: Instant) -> Timestamp {
        let (read_at, at) = self.clock.heartbeat.unwrap_or((now, self.platform.lease.heartbeat_at));
        let since = SignedDuration::try_from(now.saturating_duration_since(read_at)).unwrap_or_default();
        at.checked_add(since.saturating_add(self.clock.wall_ahead)).unwrap_or(at)
    }

    /// Converts the scheduler's actions, and the actions that follow from them, into effects.
    pub(super) fn execute_actions(&mut self, actions: Vec<Action>, context: &mut InputContext) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Start { agent, job, epoch } => {
                    let connection =
                        self.agents.connections.get_connection(&agent).map(Connection::connection_id);
                    context.push(Effect::Offer { job, epoch, agent, connection });
                }
                Action::Cancel { agent, job, grace_ms } => {
                    self.send_to_agent(&agent, RelayFrame::Cancel { job, grace_ms }, context);
                }
                Action::Continue { agent, job } => {
                    self.send_to_agent(&agent, RelayFrame::Continue { job }, context);
                }
                Action::Reconnect { agent } => {
                    let connection =
                        self.agents.connections.get_connection(&agent).map(Connection::connection_id);
                    if let Some(connection_id) = connection {
                        let reason = "the files of one of its jobs can be read again";
                        actions.extend(self.drop_connection(&connection_id, reason, context));
                    }
                }
                Action::StartBox(id) => self.start_box(id, context),
                Action::Record { job, body } => context.push(Effect::Record { job, body }),
                Action::WarnOfSharedExpectations { job, other } => {
                    context.push(Effect::WarnOfSharedExpectations { job, other });
                }
            }
        }
    }

    /// Sends a frame to an agent, if it is connected.
    fn send_to_agent(&self, agent: &AgentId, frame: RelayFrame, context: &mut InputContext) {
        if let Some(connection) = self.agents.connections.get_connection(agent) {
            context.push(Effect::Send { to: connection.connection_id(), frame });
        }
    }
}

/// Returns true if a changed record reports the end of its job, or the job's result. A result that was applied, merged
/// or discarded was already reported.
fn reports_end_or_result(record: &JobRecord) -> bool {
    let is_new = |state| matches!(state, ResultState::Open | ResultState::None);
    record.state.is_final() && record.result.as_ref().is_none_or(|result| is_new(result.state))
}
