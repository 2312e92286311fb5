//! The agent's connection: frames sent and received, jobs accepted and let go.

use std::time::Duration;

use common::event::EventBody;
use common::ids::JobId;
use common::wire::{self, AgentFrame, RelayFrame};
use worker_agent::internals::AgentSide;

use crate::agent::short;
use crate::limits::Limit;
use crate::model::Stage;
use crate::network::{Arrival, ConnId};
use crate::world::{End, World};

impl World {
    pub(crate) fn dial(&mut self, agent: &AgentSide, end: &mut End<'_>) -> Result<(), String> {
        self.network.tidy(end.conn);
        if end.conn.is_none() && self.relay.is_up() {
            let id = self.network.dial();
            end.conn = Some(id);
            self.say(|| format!("agent: dials {id}"));
            self.asked = self.clocks.now;
            self.say_to_relay(id, &agent.hello(self.mix.capacity))?;
        }
        Ok(())
    }

    /// Sends the next frame. Returns true if there was one.
    pub(crate) fn send(&mut self, end: &mut End<'_>) -> Result<bool, String> {
        let (Some(id), Some(link)) = (end.conn, &mut end.link) else { return Ok(false) };
        match link.next_frame()? {
            None => Ok(false),
            Some(bytes) => {
                self.say(|| format!("agent: sends {}", short(&wire::decode::<AgentFrame>(&bytes))));
                // A replayed outcome that came before its output would not be a repeat, but the end of a run.
                if !is_end(&bytes) {
                    self.sent.push(bytes.clone());
                }
                self.put(id, bytes);
                Ok(true)
            }
        }
    }

    /// Takes the next frame. Returns true if there was one.
    pub(crate) fn hear<'a>(&mut self, agent: &'a AgentSide, end: &mut End<'a>) -> Result<bool, String> {
        let Some(id) = end.conn else { return Ok(false) };
        let arrival = self.network.conn(id).map_or(Arrival::End, |conn| conn.down.receive());
        let bytes = match arrival {
            Arrival::Nothing => return Ok(false),
            Arrival::End => {
                self.say(|| format!("agent: {id} has ended"));
                self.hang_up(id, end);
                return Ok(false);
            }
            Arrival::Frame(bytes) => bytes,
        };
        let frame: RelayFrame = wire::decode(&bytes).map_err(|e| format!("a frame: {e}"))?;
        self.say(|| format!("agent: hears {}", short(&frame)));
        match (&mut end.link, frame) {
            (None, frame) => {
                end.link = Some(agent.take_welcome(frame)?);
                self.welcomed = true;
                let unsure = self.model.unsure.entry(self.life).or_default();
                *unsure = (*unsure).max(self.clocks.now.saturating_sub(self.asked));
            }
            (Some(_), RelayFrame::Start { job, epoch, .. }) if self.is_full_for(agent, &job) => {
                let reason = "as many jobs as it can run".to_owned();
                self.say_to_relay(id, &AgentFrame::Refused { job, epoch, reason, busy: true })?;
            }
            (Some(_), RelayFrame::Cancel { job, .. }) => {
                if let Some(job) = self.model.jobs.get_mut(&job) {
                    job.told = job.stage == Stage::Alive;
                }
            }
            (Some(_), RelayFrame::Start { job, epoch, spec }) => {
                let reply = agent.accept_job(&job, epoch, &spec).map_err(|e| format!("{job}: {e}"))?;
                self.took(agent, &job);
                self.say_to_relay(id, &reply)?;
            }
            (Some(link), frame) => match link.take(frame) {
                // The relay may still have output of a run whose agent was lost before any event of it was durable.
                Err(reason) if end.replayed || self.wipes > 0 || self.has_damage() => {
                    self.say(|| format!("agent: leaves {id}: {reason}"));
                    self.hang_up(id, end);
                }
                taken => taken?,
            },
        }
        self.let_go(agent)?;
        Ok(true)
    }

    fn hang_up(&mut self, id: ConnId, end: &mut End<'_>) {
        if let Some(conn) = self.network.conn(id) {
            conn.up.end(usize::MAX);
        }
        *end = End::default();
    }

    fn took(&mut self, agent: &AgentSide, id: &JobId) {
        let (life, now) = (self.life, self.clocks.now);
        let limit = Duration::from_secs(self.rng.u64(10..60));
        let Some(job) = self.model.jobs.get_mut(id).filter(|job| !job.is_spooled()) else { return };
        let first = agent.events(id, 1).unwrap_or_default();
        for event in first {
            job.spooled(event.body, life, now);
        }
        (job.stage, job.synced) = (Stage::Alive, job.kept());
        self.slots.insert(id.clone(), None);
        let measured = agent.limit(common::duration::millis(limit));
        self.limits.insert(id.clone(), Limit::begun(measured, limit));
        self.written(id, true);
    }

    /// Handles runs that the spool has dropped: only those that the relay has to the end may be dropped.
    fn let_go(&mut self, agent: &AgentSide) -> Result<(), String> {
        let runs = agent.runs();
        for (id, job) in self.model.jobs.iter_mut().filter(|(_, job)| job.is_spooled()) {
            if runs.iter().any(|run| run.job == *id) {
                continue;
            }
            self.relay.book.complete(id, job).map_err(|e| format!("the spool let {id} go, but {e}"))?;
            job.stage = Stage::Nothing;
            self.limits.remove(id);
            // The worker takes a while to end.
            if let Some(slot) = self.slots.get_mut(id) {
                *slot = Some(self.clocks.now + Duration::from_secs(3));
            }
        }
        Ok(())
    }

    /// Returns true if the agent has no free slot for this job, which it does not have yet.
    fn is_full_for(&self, agent: &AgentSide, job: &JobId) -> bool {
        let has = agent.runs().iter().any(|run| run.job == *job);
        !has && self.slots.len() >= self.mix.capacity as usize
    }

    fn has_damage(&self) -> bool {
        self.model.jobs.values().any(|job| job.damaged)
    }
}

fn is_end(bytes: &[u8]) -> bool {
    let Ok(AgentFrame::Events { batch, .. }) = wire::decode(bytes) else { return false };
    batch.iter().any(|event| matches!(event.body, EventBody::Finished { .. }))
}
