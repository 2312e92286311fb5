//! The agent's end of its connection: the real state machine of the uplink, driven over the simulated network.

use std::time::Duration;

use common::event::EventBody;
use common::ids::JobId;
use common::wire::{self, AgentFrame, RelayFrame};
use worker_agent::internals::{Action, Input, Link, LinkError, RunId, apply_action, next_frame};

use crate::agent_node::AgentNode;
use crate::limits::Limit;
use crate::model::Stage;
use crate::network::{Arrival, ConnId};
use crate::planted::AgentBug;
use crate::workers::short_debug;
use crate::world::World;

/// The agent's end of its connection.
pub(crate) struct AgentEnd {
    pub(crate) conn: Option<ConnId>,
    pub(crate) link: Link,
    /// True while the link waits for a connection.
    is_connecting: bool,
    /// True once the link has its configuration, which never changes.
    is_configured: bool,
    /// True if the network has repeated frames on the connection, perhaps of an earlier one: the relay may then
    /// acknowledge frames that this connection never carried.
    pub(crate) has_repeated_frames: bool,
}

impl AgentEnd {
    /// Creates the end of an agent process that starts at this reading of the agent's monotonic clock.
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            conn: None,
            link: Link::new(now),
            is_connecting: false,
            is_configured: false,
            has_repeated_frames: false,
        }
    }
}

impl World {
    /// Feeds the link an input, and executes the actions that follow.
    pub(crate) fn handle_input(&mut self, agent: &AgentNode, input: Input) -> Result<(), String> {
        self.agent_end.link.handle_input(input, self.clocks.agent_monotonic());
        self.run_actions(agent)
    }

    pub(crate) fn run_actions(&mut self, agent: &AgentNode) -> Result<(), String> {
        while let Some(action) = self.agent_end.link.next_action() {
            if let Some(input) = self.execute(agent, action)? {
                self.agent_end.link.handle_input(input, self.clocks.agent_monotonic());
            }
        }
        Ok(())
    }

    fn execute(&mut self, agent: &AgentNode, action: Action) -> Result<Option<Input>, String> {
        match action {
            Action::CheckConfig if self.agent_end.is_configured => {}
            Action::CheckConfig => {
                self.agent_end.is_configured = true;
                return Ok(Some(Input::Configured { has_relay_changed: false }));
            }
            Action::Connect => self.agent_end.is_connecting = true,
            Action::Synchronize { .. } if self.planted_bug.agent == Some(AgentBug::OwnWallClock) => {}
            Action::Synchronize { hello_sent, relay_now } => {
                agent.spool.relay_time().synchronize(hello_sent, relay_now);
            }
            Action::SetRecoveryCause { .. } => {
                self.is_welcomed = true;
                let clock_error = self.model.clock_errors.entry(self.agent_process).or_default();
                *clock_error = (*clock_error).max(self.clocks.now.saturating_sub(self.hello_sent_at));
            }
            Action::Spool(action) => return Ok(apply_action(&agent.spool, &action)),
            Action::Start { run, spec, .. } => {
                return self.start_job(agent, run, &spec).map(|reply| Some(Input::Started(reply)));
            }
            // The simulated relay has no streams, and no job of a simulation is held.
            Action::Extend { .. } | Action::Continue(_) | Action::Stream { .. } => {}
            Action::Cancel { job, .. } => {
                if let Some(job) = self.model.jobs.get_mut(&job) {
                    job.has_received_cancel = job.stage == Stage::Running;
                }
            }
            Action::Abandon(run) => agent.spool.remove_run(&run),
            Action::Close(error) => {
                self.close(&error)?;
                return Ok(Some(Input::Closed { jitter: self.rng.u32(..) }));
            }
        }
        Ok(None)
    }

    fn start_job(&mut self, agent: &AgentNode, run: RunId, spec: &str) -> Result<AgentFrame, String> {
        if self.is_full_for(agent, &run.job) {
            let RunId { job, epoch } = run;
            let reason = "as many jobs as it can run".to_owned();
            return Ok(AgentFrame::Refused { job, epoch, reason, is_busy: true });
        }
        let reply = agent.accept_job(&run, spec).map_err(|e| format!("{run}: {e}"))?;
        self.record_accepted_job(agent, &run.job);
        self.check_folder(&run.job)?;
        self.check_schedule(&run.job)?;
        Ok(reply)
    }

    /// Closes the agent's end of the connection.
    fn close(&mut self, error: &LinkError) -> Result<(), String> {
        match error {
            // The relay may still have output of a run whose agent was lost before any event of the run was durable.
            LinkError::Protocol(_)
                if self.agent_end.has_repeated_frames || self.wipes > 0 || self.has_damage() => {}
            LinkError::Protocol(_) | LinkError::Spool(_) => return Err(error.to_string()),
            _ => {}
        }
        self.agent_end.has_repeated_frames = false;
        let Some(id) = self.agent_end.conn.take() else { return Ok(()) };
        self.trace_line(|| format!("agent: closes {id}: {error}"));
        if let Some(conn) = self.network.conn(id) {
            conn.up.end(usize::MAX);
        }
        Ok(())
    }

    /// Tells the link that its deadline has passed, unless frames that have arrived are still unread.
    pub(crate) fn check_deadline(&mut self, agent: &AgentNode) -> Result<(), String> {
        let due = self.agent_end.link.deadline().is_some_and(|at| at <= self.clocks.agent_monotonic());
        let conn = self.agent_end.conn.and_then(|id| self.network.conn(id));
        if due && conn.is_none_or(|conn| conn.down.frames_in_flight() == 0) {
            self.handle_input(agent, Input::Timer)?;
        }
        Ok(())
    }

    /// Connects if the link waits for a connection, and sends the link's first frame.
    pub(crate) fn connect(&mut self, agent: &AgentNode) -> Result<(), String> {
        self.network.remove_unused(self.agent_end.conn);
        if !std::mem::take(&mut self.agent_end.is_connecting) {
            return Ok(());
        }
        if !self.relay.is_up() {
            let (address, reason) = ("relay".to_owned(), "it is down".to_owned());
            return self.handle_input(agent, Input::Failed(LinkError::Unreachable { address, reason }));
        }
        let id = self.network.connect();
        self.agent_end.conn = Some(id);
        self.trace_line(|| format!("agent: connects as {id}"));
        self.hello_sent_at = self.clocks.now;
        self.handle_input(agent, agent.connected(self.mix.capacity))?;
        self.send(agent).map(|_| ())
    }

    /// Sends the agent's next frame. Returns true if there was one.
    pub(crate) fn send(&mut self, agent: &AgentNode) -> Result<bool, String> {
        let Some(id) = self.agent_end.conn else { return Ok(false) };
        if self.agent_end.link.is_serving() && !self.agent_end.link.may_send() && agent.was_appended() {
            self.handle_input(agent, Input::Appended)?;
        }
        if !self.agent_end.link.may_send() {
            return Ok(false);
        }
        let Some(bytes) = next_frame(&mut self.agent_end.link, &agent.spool) else {
            self.run_actions(agent)?;
            return Ok(false);
        };
        self.trace_line(|| format!("agent: sends {}", short_debug(&wire::decode::<AgentFrame>(&bytes))));
        if may_repeat(&bytes) {
            self.sent_frames.push(bytes.clone());
        }
        self.send_to_relay(id, bytes);
        Ok(true)
    }

    /// Lets the agent receive the next frame. Returns true if there was one.
    pub(crate) fn receive_at_agent(&mut self, agent: &AgentNode) -> Result<bool, String> {
        let Some(id) = self.agent_end.conn else { return Ok(false) };
        let arrival = self.network.conn(id).map_or(Arrival::Closed, |conn| conn.down.receive());
        let bytes = match arrival {
            Arrival::Nothing => return Ok(false),
            Arrival::Closed => {
                let ended = LinkError::Closed("end of the connection".to_owned());
                self.handle_input(agent, Input::Failed(ended))?;
                return Ok(false);
            }
            Arrival::Frame(bytes) => bytes,
        };
        let frame: RelayFrame = wire::decode(&bytes).map_err(|e| format!("a frame: {e}"))?;
        self.trace_line(|| format!("agent: receives {}", short_debug(&frame)));
        self.handle_input(agent, Input::Message(Some(frame)))?;
        self.handle_dropped_runs(agent)?;
        Ok(true)
    }

    fn record_accepted_job(&mut self, agent: &AgentNode, id: &JobId) {
        let (agent_process, now) = (self.agent_process, self.clocks.now);
        let limit = Duration::from_secs(self.rng.u64(10..60));
        let Some(job) = self.model.jobs.get_mut(id).filter(|job| !job.is_spooled()) else { return };
        let first = agent.events(id).unwrap_or_default();
        for event in first {
            job.add_entry(event.body, agent_process, now);
        }
        (job.stage, job.synced_events) = (Stage::Running, job.kept_events());
        self.slots.insert(id.clone(), None);
        self.limits.insert(id.clone(), Limit::new(self.clocks.agent_monotonic(), limit));
        self.record_file_lengths(id, true);
    }

    /// Checks that no other running job excludes a job that was just accepted, because of their folders.
    fn check_folder(&self, id: &JobId) -> Result<(), String> {
        let Some(job) = self.model.jobs.get(id) else { return Ok(()) };
        let mut others = self.model.jobs.iter();
        match others
            .find(|(other, state)| *other != id && state.stage == Stage::Running && job.excludes(state))
        {
            Some((other, _)) => Err(format!("{id} works in the folder of {other}")),
            None => Ok(()),
        }
    }

    /// Checks that for a job that was just accepted all dependencies have completed and its group has a free slot.
    fn check_schedule(&self, id: &JobId) -> Result<(), String> {
        let Some(job) = self.model.jobs.get(id) else { return Ok(()) };
        if let Some(dependency) = job.after.iter().find(|job| !self.relay.log_checker.has_completed(job)) {
            return Err(format!("{id} starts after {dependency}, which has not completed"));
        }
        if self.model.exceeds_group(id) {
            return Err(format!("{id} starts although its group {:?} has no free slot", job.group));
        }
        Ok(())
    }

    /// Applies the removal of runs from the spool to the model: the relay must have all of each removed run.
    fn handle_dropped_runs(&mut self, agent: &AgentNode) -> Result<(), String> {
        let runs = agent.runs();
        let is_gone = |id: &JobId| !runs.iter().any(|run| run.job == *id);
        let spooled = self.model.jobs.iter().filter(|(id, job)| job.is_spooled() && is_gone(id));
        let gone: Vec<JobId> = spooled.map(|(id, _)| id.clone()).collect();
        for id in &gone {
            let Some(job) = self.model.jobs.get(id) else { continue };
            self.relay
                .log_checker
                .check_complete(id, job, &self.model)
                .map_err(|e| format!("the spool removed {id}, but {e}"))?;
            if let Some(job) = self.model.jobs.get_mut(id) {
                job.stage = Stage::Absent;
            }
            self.limits.remove(id);
            // If the worker is still running, its slot becomes free when it has ended.
            if let Some(slot) = self.slots.get_mut(id) {
                *slot = Some(self.clocks.now + Duration::from_secs(3));
            }
        }
        Ok(())
    }

    /// Returns true if the agent has not accepted this job and has no free slot for it.
    fn is_full_for(&self, agent: &AgentNode, job: &JobId) -> bool {
        let has_job = agent.runs().iter().any(|run| run.job == *job);
        !has_job && self.slots.len() >= self.mix.capacity as usize
    }

    fn has_damage(&self) -> bool {
        self.model.jobs.values().any(|job| job.is_spool_damaged)
    }
}

/// Returns true if the network may repeat the frame. An outcome is not repeated, because it could arrive before the
/// run's output and end the run. Frames of other kinds are valid on one connection only.
fn may_repeat(bytes: &[u8]) -> bool {
    match wire::decode(bytes) {
        Ok(AgentFrame::Events { batch, .. }) => {
            !batch.iter().any(|event| matches!(event.body, EventBody::Finished { .. }))
        }
        Ok(AgentFrame::Output { .. } | AgentFrame::Pong { .. }) => true,
        _ => false,
    }
}
