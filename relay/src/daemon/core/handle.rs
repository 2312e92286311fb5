//! The core: its state by owner, its inputs, the periodic work.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use common::ids::JobId;
use common::record::JobRecord;
use common::wire::RelayFrame;
use tokio::time::Instant;

use super::agents::AgentLinks;
use super::connections::Connection;
use super::container::ContainerTracker;
use super::effect::Effect;
use super::input::Input;
use super::limits::Limits;
use super::platform::PlatformState;
use super::scheduler::{Action, AgentId, Scheduler};
use super::shutdown::Shutdown;
use super::turn::Turn;
use crate::files::atomic::Durability;
use crate::min_free::MinFree;
use crate::registry::lease::Lease;
use crate::state_dir::saved_state::SavedState;
use crate::time::BootScale;

/// Interval between two heartbeats in the lease; also the longest delay until a job whose hint was lost is found.
pub(in crate::daemon) const HEARTBEAT: Duration = Duration::from_secs(5);

/// The daemon's decisions. Each part of the state has one owner.
pub(in crate::daemon) struct Core {
    pub(super) scheduler: Scheduler,
    pub(super) agents: AgentLinks,
    pub(super) platform: PlatformState,
    pub(super) container: ContainerTracker,
    pub(super) limits: Limits,
    pub(super) shutdown: Shutdown,
    /// Jobs of the registry that are already known and need no further look.
    pub(super) known: BTreeSet<JobId>,
    /// Set once the warning about a changed wall clock was logged.
    clock_was_set: bool,
}

impl Core {
    /// Creates a core without jobs. `lease` is the first lease of the daemon, `saved` the state that the last one
    /// stored, `name` the name of the platform's container, `min_free` what its machines keep free.
    pub(in crate::daemon) fn new(lease: Lease, saved: &SavedState, name: String, min_free: MinFree) -> Self {
        Self {
            scheduler: Scheduler::default(),
            agents: AgentLinks::default(),
            platform: PlatformState::new(lease, saved, name, min_free),
            container: ContainerTracker::default(),
            limits: Limits::default(),
            shutdown: Shutdown::default(),
            known: BTreeSet::new(),
            clock_was_set: false,
        }
    }

    /// Handles an input at `now`. Returns what must be done, in this order.
    pub(in crate::daemon) fn handle(&mut self, input: Input, now: Instant) -> Vec<Effect> {
        let mut turn = Turn::new(now);
        self.dispatch(input, &mut turn);
        turn.effects
    }

    fn dispatch(&mut self, input: Input, turn: &mut Turn) {
        match input {
            Input::Opened(active) => self.adopt(&active, turn),
            Input::Listening => self.try_platform(turn),
            Input::Register(agent) => self.register(&agent, turn),
            Input::Connected(connection) => self.connected(connection, turn),
            Input::Disconnected { connection_id, reason } => {
                self.connection_closed(connection_id, &reason, turn);
            }
            Input::NotSent(connection_id) => {
                let actions = self.drop_connection(&connection_id, "it accepts no more frames", turn);
                self.act(actions, turn);
            }
            Input::Accepted { connection_id, job, epoch } => self.accepted(&connection_id, job, epoch, turn),
            Input::Refused { connection_id, job, reason, busy } => {
                self.refused(&connection_id, &job, reason, busy, turn);
            }
            Input::Vitals { connection_id, vitals } => self.machine_measured(&connection_id, *vitals, turn),
            Input::Changed(records) => self.changed(records, turn),
            Input::Frozen(time) => self.record_freeze(time, turn),
            Input::Heartbeat(at) => {
                self.platform.lease.heartbeat_at = at;
                self.publish(Durability::Cached, turn);
            }
            Input::RegistryGone => self.registry_gone(turn),
            Input::JobsListed(there) => self.known.retain(|job| there.contains(job)),
            Input::JobFound(record) => self.adopt_job(&record, turn),
            Input::WallClock(ahead_ms) => self.follow_wall_clock(ahead_ms, turn),
            Input::ClockSet(scale) => self.clock_set(scale, turn),
            Input::Request { path, request, wall } => self.apply_request(path, request, wall, turn),
            Input::RequestsRead => self.requests_read(turn),
            Input::LimitsInspected(facts) => self.limits_inspected(facts, turn),
            Input::LimitSent { path, connection } => self.limits.sent(&path, connection, turn.now),
            Input::RequestAmended(request) => self.limits.amended(request),
            Input::LimitPromised(request) => self.limit_promised(request, turn),
            Input::LimitMoved(path) => self.limit_moved(&path, turn),
            Input::Tick => self.tick(turn),
            Input::AgentFound { runs, reason } => self.agent_found(runs, &reason, turn),
            Input::Ensured(result) => self.platform_ensured(result, turn),
            Input::Gateway(address) => self.gateway_opened(address, turn),
            Input::Stopped(result) => self.platform_stopped(result, turn.now),
            Input::Container(change) => self.container_changed(change, turn),
            Input::Closing => self.close(turn),
        }
    }

    /// Returns the time of the next [`Input::Tick`], if that is due before the next heartbeat.
    pub(in crate::daemon) fn deadline(&self) -> Option<Instant> {
        let due = self.platform.next_try.into_iter().chain(self.shutdown.deadline);
        due.chain(self.container.deadline()).min()
    }

    /// Returns true if a job's record needs no further look.
    pub(in crate::daemon) fn is_known(&self, job: &JobId) -> bool {
        self.known.contains(job)
    }

    /// Adopts the jobs found at startup. Their agents count as disconnected since the last daemon ended.
    fn adopt(&mut self, active: &[JobRecord], turn: &mut Turn) {
        for record in active {
            self.known.insert(record.job.clone());
            let actions = self.scheduler.update(record);
            self.act(actions, turn);
        }
        for agent in self.scheduler.agents_with_jobs() {
            let actions = self.scheduler.agent_down(&agent, "the relay was restarted");
            self.agents.disconnects.disconnected(agent, turn.now);
            self.act(actions, turn);
        }
        self.adopt_exit(turn);
    }

    /// Handles records that the writer has changed.
    fn changed(&mut self, records: BTreeMap<JobId, JobRecord>, turn: &mut Turn) {
        for record in records.values() {
            let actions = self.scheduler.update(record);
            self.act(actions, turn);
        }
        if !self.limits.is_empty() {
            self.inspect_limits(turn);
        }
        self.forget_exit(turn);
        let ended = records.into_values().filter(|record| record.state.is_final());
        turn.effects.extend(ended.map(|record| Effect::Notify(Box::new(record))));
    }

    /// Runs the end of the periodic work: timeouts, and retries for a platform that is down.
    fn tick(&mut self, turn: &mut Turn) {
        self.expire_disconnected(turn);
        let actions = self.scheduler.retry();
        self.act(actions, turn);
        self.container_tick(turn);
        if self.platform.next_try.is_some_and(|at| at <= turn.now) {
            self.try_platform(turn);
        }
    }

    /// Adopts the new time of a wall clock that was set. Waits until no job is left, because their ages would change.
    fn follow_wall_clock(&mut self, ahead_ms: Option<i64>, turn: &mut Turn) {
        let Some(ahead_ms) = ahead_ms else {
            self.clock_was_set = false;
            return;
        };
        let span = common::duration::short(ahead_ms.unsigned_abs());
        let order = if ahead_ms > 0 { "ahead" } else { "back" };
        if !self.scheduler.is_empty() {
            if !self.clock_was_set {
                tracing::warn!(
                    "the clock of this machine was set {span} {order}: applied when no job is left"
                );
            }
            self.clock_was_set = true;
            return;
        }
        tracing::warn!("the clock of this machine was set {span} {order}");
        turn.push(Effect::FollowWallClock);
    }

    fn clock_set(&mut self, scale: Option<BootScale>, turn: &mut Turn) {
        self.platform.lease.clock = scale;
        // Agents receive the time when they connect.
        while let Some(connection_id) = self.agents.connections.first().map(Connection::connection_id) {
            let actions = self.drop_connection(&connection_id, "the clock of this machine was set", turn);
            self.act(actions, turn);
        }
    }

    /// Turns the scheduler's actions, and those that follow from them, into effects.
    pub(super) fn act(&mut self, actions: Vec<Action>, turn: &mut Turn) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Start { agent, job, epoch } => {
                    let connection = self.agents.connections.get(&agent).map(Connection::connection_id);
                    turn.push(Effect::Offer { job, epoch, agent, connection });
                }
                Action::Cancel { agent, job, grace_ms } => {
                    self.send(&agent, RelayFrame::Cancel { job, grace_ms }, turn);
                }
                Action::Reconnect { agent } => {
                    let connection = self.agents.connections.get(&agent).map(Connection::connection_id);
                    if let Some(connection_id) = connection {
                        let reason = "the files of one of its jobs can be read again";
                        actions.extend(self.drop_connection(&connection_id, reason, turn));
                    }
                }
                Action::Record { job, body } => turn.push(Effect::Record { job, body }),
            }
        }
    }

    /// Sends a frame to an agent, if it is connected.
    fn send(&self, agent: &AgentId, frame: RelayFrame, turn: &mut Turn) {
        if let Some(connection) = self.agents.connections.get(agent) {
            turn.push(Effect::Send { to: connection.connection_id(), frame });
        }
    }
}
