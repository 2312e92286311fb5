//! Faults of one side or one job, beside crashes and the network.

use std::time::Duration;

use common::ids::JobId;
use relay::internals::DaemonRequest;

use crate::agent_node::AgentNode;
use crate::clocks::Side;
use crate::spoiled::Spoiled;
use crate::world::{STEP, World};

impl World {
    /// Advances time by one step.
    pub(crate) fn pass(&mut self, agent: &AgentNode) -> Result<(), String> {
        self.clocks.pass(STEP);
        let now = self.clocks.now;
        self.frozen.retain(|_, until| *until > now);
        let frozen = self.is_frozen(Side::Relay);
        let closed = self.relay.pass(STEP, frozen, &mut self.network)?;
        if !closed.is_empty() {
            self.say(|| format!("relay: closed: {closed:?}"));
        }
        if !self.is_frozen(Side::Agent) {
            self.check_limits(agent)?;
            self.tick(agent)?;
        }
        Ok(())
    }

    pub(crate) fn is_frozen(&self, side: Side) -> bool {
        self.frozen.contains_key(&side)
    }

    pub(crate) fn freeze(&mut self, side: Side) {
        if side == Side::Relay && !self.relay.is_up() {
            return;
        }
        let time = Duration::from_secs(self.rng.u64(3..40));
        self.say(|| format!("{side:?} is frozen for {time:?}"));
        if !self.is_frozen(side) && side == Side::Agent {
            self.limits.values_mut().for_each(|limit| limit.pauses += 1);
        }
        self.tally.freezes += 1;
        self.frozen.insert(side, self.clocks.now + time);
    }

    pub(crate) fn set_clock(&mut self) {
        let side = if self.rng.bool() { Side::Agent } else { Side::Relay };
        let forward = self.rng.bool();
        self.tally.clocks_set += 1;
        self.clocks.set(side, forward);
        self.say(|| {
            format!("the clock of {side:?} is set an hour {}", if forward { "ahead" } else { "back" })
        });
    }

    /// Picks a job that has begun and not ended.
    fn some_open(&mut self) -> Option<JobId> {
        let open = |job: &&JobId| self.relay.book.begun(job) && !self.relay.book.ended(job);
        let open: Vec<JobId> = self.model.jobs.keys().filter(open).cloned().collect();
        (!open.is_empty()).then(|| open[self.rng.usize(..open.len())].clone())
    }

    pub(crate) fn spoil_record(&mut self) {
        let Some(job) = self.some_open().filter(|_| self.spoiled.is_none()) else { return };
        self.kill_relay();
        self.spoiled = Spoiled::in_registry(self.relay.registry(), &job, &mut self.rng);
        if let Some(spoiled) = &self.spoiled {
            self.tally.spoiled += 1;
            let what = if spoiled.is_folder() { "a folder" } else { "of a newer program" };
            self.say(|| format!("the record of {job} is {what}"));
            if let Some(job) = self.model.jobs.get_mut(&job) {
                job.was_spoiled = true;
            }
        }
    }

    pub(crate) fn mend_record(&mut self) -> Result<(), String> {
        let Some(spoiled) = self.spoiled.take() else { return Ok(()) };
        self.say(|| format!("the record of {} is put right", spoiled.job));
        spoiled.mend()
    }

    pub(crate) fn cancel(&mut self) {
        let Some(job) = self.some_open() else { return };
        self.say(|| format!("cancel {job}"));
        self.tally.cancels += 1;
        self.relay.file(&DaemonRequest::Cancel { job: job.clone(), grace_ms: 1000 });
        if let Some(job) = self.model.jobs.get_mut(&job) {
            job.cancelled = true;
        }
    }

    /// Leaves a request that its daemon died before reading, or one of an earlier version, which names no daemon.
    pub(crate) fn leave_request(&mut self) {
        let Some(relay) = self.relay.earlier() else { return };
        let request = match self.rng.u8(..3) {
            0 => DaemonRequest::Down { relay: Some(relay) },
            1 => DaemonRequest::Down { relay: None },
            _ => DaemonRequest::Restart { relay },
        };
        self.say(|| format!("left: {request:?}"));
        self.tally.left_requests += 1;
        self.relay.file(&request);
    }
}
