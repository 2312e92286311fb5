//! The agent's connection: drives its state machine over the simulated network.

use std::time::Duration;

use common::event::EventBody;
use common::ids::JobId;
use common::wire::{self, AgentFrame, RelayFrame};
use worker_agent::internals::{Action, Input, Link, LinkError, RunId, apply_action, next_frame};

use crate::agent::short;
use crate::agent_node::AgentNode;
use crate::limits::Limit;
use crate::model::Stage;
use crate::network::{Arrival, ConnId};
use crate::planted::OfAgent;
use crate::world::World;

/// The agent's end of its connection.
pub(crate) struct End {
    pub(crate) conn: Option<ConnId>,
    pub(crate) link: Link,
    /// The link waits for a connection.
    connecting: bool,
    /// The link has its configuration, which never changes.
    configured: bool,
    /// True if frames came twice on it, perhaps from an earlier connection: the relay may then acknowledge frames that
    /// this one never sent.
    pub(crate) replayed: bool,
}

impl End {
    /// The end of an agent process that starts at this reading of its monotonic clock.
    pub(crate) fn new(now: Duration) -> Self {
        Self { conn: None, link: Link::new(now), connecting: false, configured: false, replayed: false }
    }
}

impl World {
    /// Feeds the link an input, and executes the actions that follow.
    pub(crate) fn take(&mut self, agent: &AgentNode, input: Input) -> Result<(), String> {
        self.end.link.handle_input(input, self.clocks.agent_monotonic());
        self.run_actions(agent)
    }

    pub(crate) fn run_actions(&mut self, agent: &AgentNode) -> Result<(), String> {
        while let Some(action) = self.end.link.next_action() {
            if let Some(input) = self.execute(agent, action)? {
                self.end.link.handle_input(input, self.clocks.agent_monotonic());
            }
        }
        Ok(())
    }

    fn execute(&mut self, agent: &AgentNode, action: Action) -> Result<Option<Input>, String> {
        match action {
            Action::CheckConfig if self.end.configured => {}
            Action::CheckConfig => {
                self.end.configured = true;
                return Ok(Some(Input::Configured { has_relay_changed: false }));
            }
            Action::Connect => self.end.connecting = true,
            Action::Synchronize { .. } if self.planted.agent == Some(OfAgent::OwnWallClock) => {}
            Action::Synchronize { hello_sent: asked, relay_now: theirs } => {
                agent.spool.relay_time().synchronize(asked, theirs);
            }
            Action::SetRecoveryCause { .. } => {
                self.welcomed = true;
                let unsure = self.model.unsure.entry(self.life).or_default();
                *unsure = (*unsure).max(self.clocks.now.saturating_sub(self.asked));
            }
            Action::Spool(action) => return Ok(apply_action(&agent.spool, &action)),
            Action::Start { run, spec } => {
                return self.start_job(agent, run, &spec).map(|reply| Some(Input::Started(reply)));
            }
            // The simulated relay has no streams.
            Action::Extend { .. } | Action::Stream { .. } => {}
            Action::Cancel { job, .. } => {
                if let Some(job) = self.model.jobs.get_mut(&job) {
                    job.told = job.stage == Stage::Alive;
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
        self.took(agent, &run.job);
        self.check_folder(&run.job)?;
        self.check_schedule(&run.job)?;
        Ok(reply)
    }

    /// Closes the agent's end.
    fn close(&mut self, error: &LinkError) -> Result<(), String> {
        match error {
            // The relay may still have output of a run whose agent was lost before any event of it was durable.
            LinkError::Protocol(_) if self.end.replayed || self.wipes > 0 || self.has_damage() => {}
            LinkError::Protocol(_) | LinkError::Spool(_) => return Err(error.to_string()),
            _ => {}
        }
        self.end.replayed = false;
        let Some(id) = self.end.conn.take() else { return Ok(()) };
        self.say(|| format!("agent: leaves {id}: {error}"));
        if let Some(conn) = self.network.conn(id) {
            conn.up.end(usize::MAX);
        }
        Ok(())
    }

    /// Lets the link see the time. Frames that have arrived come first.
    pub(crate) fn tick(&mut self, agent: &AgentNode) -> Result<(), String> {
        let due = self.end.link.deadline().is_some_and(|at| at <= self.clocks.agent_monotonic());
        let conn = self.end.conn.and_then(|id| self.network.conn(id));
        if due && conn.is_none_or(|conn| conn.down.under_way() == 0) {
            self.take(agent, Input::Timer)?;
        }
        Ok(())
    }

    /// Connects if the link waits for it, and sends its first frame.
    pub(crate) fn dial(&mut self, agent: &AgentNode) -> Result<(), String> {
        self.network.tidy(self.end.conn);
        if !std::mem::take(&mut self.end.connecting) {
            return Ok(());
        }
        if !self.relay.is_up() {
            let (address, reason) = ("relay".to_owned(), "it is down".to_owned());
            return self.take(agent, Input::Failed(LinkError::Unreachable { address, reason }));
        }
        let id = self.network.dial();
        self.end.conn = Some(id);
        self.say(|| format!("agent: dials {id}"));
        self.asked = self.clocks.now;
        self.take(agent, agent.connected(self.mix.capacity))?;
        self.send(agent).map(|_| ())
    }

    /// Sends the next frame. Returns true if there was one.
    pub(crate) fn send(&mut self, agent: &AgentNode) -> Result<bool, String> {
        let Some(id) = self.end.conn else { return Ok(false) };
        if self.end.link.is_serving() && !self.end.link.may_send() && agent.was_appended() {
            self.take(agent, Input::Appended)?;
        }
        if !self.end.link.may_send() {
            return Ok(false);
        }
        let Some(bytes) = next_frame(&mut self.end.link, &agent.spool) else {
            self.run_actions(agent)?;
            return Ok(false);
        };
        self.say(|| format!("agent: sends {}", short(&wire::decode::<AgentFrame>(&bytes))));
        if may_repeat(&bytes) {
            self.sent.push(bytes.clone());
        }
        self.put(id, bytes);
        Ok(true)
    }

    /// Takes the next frame. Returns true if there was one.
    pub(crate) fn hear(&mut self, agent: &AgentNode) -> Result<bool, String> {
        let Some(id) = self.end.conn else { return Ok(false) };
        let arrival = self.network.conn(id).map_or(Arrival::End, |conn| conn.down.receive());
        let bytes = match arrival {
            Arrival::Nothing => return Ok(false),
            Arrival::End => {
                let ended = LinkError::Closed("end of the connection".to_owned());
                self.take(agent, Input::Failed(ended))?;
                return Ok(false);
            }
            Arrival::Frame(bytes) => bytes,
        };
        let frame: RelayFrame = wire::decode(&bytes).map_err(|e| format!("a frame: {e}"))?;
        self.say(|| format!("agent: hears {}", short(&frame)));
        self.take(agent, Input::Message(Some(frame)))?;
        self.let_go(agent)?;
        Ok(true)
    }

    fn took(&mut self, agent: &AgentNode, id: &JobId) {
        let (life, now) = (self.life, self.clocks.now);
        let limit = Duration::from_secs(self.rng.u64(10..60));
        let Some(job) = self.model.jobs.get_mut(id).filter(|job| !job.is_spooled()) else { return };
        let first = agent.events(id).unwrap_or_default();
        for event in first {
            job.spooled(event.body, life, now);
        }
        (job.stage, job.synced) = (Stage::Alive, job.kept());
        self.slots.insert(id.clone(), None);
        self.limits.insert(id.clone(), Limit::new(self.clocks.agent_monotonic(), limit));
        self.written(id, true);
    }

    /// Checks that a job that was just accepted is alone in its folder.
    fn check_folder(&self, id: &JobId) -> Result<(), String> {
        let Some(job) = self.model.jobs.get(id) else { return Ok(()) };
        let mut others = self.model.jobs.iter();
        match others.find(|(other, state)| *other != id && state.stage == Stage::Alive && job.excludes(state))
        {
            Some((other, _)) => Err(format!("{id} works in the folder of {other}")),
            None => Ok(()),
        }
    }

    /// Checks that a job that was just accepted had nothing to wait for.
    fn check_schedule(&self, id: &JobId) -> Result<(), String> {
        let Some(job) = self.model.jobs.get(id) else { return Ok(()) };
        if let Some(dependency) = job.after.iter().find(|job| !self.relay.book.completed(job)) {
            return Err(format!("{id} starts after {dependency}, which has not completed"));
        }
        if self.model.exceeds_group(id) {
            return Err(format!("{id} starts although its group {:?} has no free slot", job.group));
        }
        Ok(())
    }

    /// Handles runs that the spool has dropped: only those that the relay has to the end may be dropped.
    fn let_go(&mut self, agent: &AgentNode) -> Result<(), String> {
        let runs = agent.runs();
        let is_gone = |id: &JobId| !runs.iter().any(|run| run.job == *id);
        let spooled = self.model.jobs.iter().filter(|(id, job)| job.is_spooled() && is_gone(id));
        let gone: Vec<JobId> = spooled.map(|(id, _)| id.clone()).collect();
        for id in &gone {
            let Some(job) = self.model.jobs.get(id) else { continue };
            self.relay
                .book
                .complete(id, job, &self.model)
                .map_err(|e| format!("the spool let {id} go, but {e}"))?;
            if let Some(job) = self.model.jobs.get_mut(id) {
                job.stage = Stage::Nothing;
            }
            self.limits.remove(id);
            // The worker takes a while to end.
            if let Some(slot) = self.slots.get_mut(id) {
                *slot = Some(self.clocks.now + Duration::from_secs(3));
            }
        }
        Ok(())
    }

    /// Returns true if the agent has no free slot for this job, which it does not have yet.
    fn is_full_for(&self, agent: &AgentNode, job: &JobId) -> bool {
        let has = agent.runs().iter().any(|run| run.job == *job);
        !has && self.slots.len() >= self.mix.capacity as usize
    }

    fn has_damage(&self) -> bool {
        self.model.jobs.values().any(|job| job.damaged)
    }
}

/// Returns true if the relay may receive the frame twice. A repeated outcome that came before its output would not be a
/// repeat, but the end of a run; the other frames belong to one connection.
fn may_repeat(bytes: &[u8]) -> bool {
    match wire::decode(bytes) {
        Ok(AgentFrame::Events { batch, .. }) => {
            !batch.iter().any(|event| matches!(event.body, EventBody::Finished { .. }))
        }
        Ok(AgentFrame::Output { .. } | AgentFrame::Pong { .. }) => true,
        _ => false,
    }
}
