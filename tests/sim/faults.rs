//! Faults of one side or one job: freezes, set clocks, bad records, cancels, and requests of dead daemons.

use std::time::Duration;

use common::ids::JobId;
use relay::internals::DaemonRequest;

use crate::agent_node::AgentNode;
use crate::bad_files::BadRecord;
use crate::clocks::Side;
use crate::world::{STEP, World};

impl World {
    /// Advances time by one step on every side that is not frozen.
    pub(crate) fn advance_time(&mut self, agent: &AgentNode) -> Result<(), String> {
        self.clocks.advance(STEP);
        let now = self.clocks.now;
        self.frozen.retain(|_, until| *until > now);
        let is_frozen = self.is_frozen(Side::Relay);
        let closed = self.relay.advance_time(STEP, is_frozen, &mut self.network)?;
        if !closed.is_empty() {
            self.trace_line(|| format!("relay: closed: {closed:?}"));
        }
        if !self.is_frozen(Side::Agent) {
            self.check_limits(agent)?;
            self.check_deadline(agent)?;
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
        self.trace_line(|| format!("{side:?} is frozen for {time:?}"));
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
        self.trace_line(|| {
            format!("the clock of {side:?} is set an hour {}", if forward { "ahead" } else { "back" })
        });
    }

    /// Picks a job whose log holds an event and no outcome.
    fn pick_unfinished_job(&mut self) -> Option<JobId> {
        let is_unfinished =
            |job: &&JobId| self.relay.log_checker.has_events(job) && !self.relay.log_checker.has_outcome(job);
        let unfinished: Vec<JobId> = self.model.jobs.keys().filter(is_unfinished).cloned().collect();
        (!unfinished.is_empty()).then(|| unfinished[self.rng.usize(..unfinished.len())].clone())
    }

    pub(crate) fn replace_record(&mut self) {
        let Some(job) = self.pick_unfinished_job().filter(|_| self.bad_record.is_none()) else { return };
        self.kill_relay();
        self.bad_record = BadRecord::replace(self.relay.registry(), &job, &mut self.rng);
        if let Some(bad_record) = &self.bad_record {
            self.tally.bad_files += 1;
            let what = if bad_record.is_folder() { "a folder" } else { "of a newer program" };
            self.trace_line(|| format!("the record of {job} is {what}"));
            if let Some(job) = self.model.jobs.get_mut(&job) {
                job.had_bad_record = true;
            }
        }
    }

    pub(crate) fn restore_record(&mut self) -> Result<(), String> {
        let Some(bad_record) = self.bad_record.take() else { return Ok(()) };
        self.trace_line(|| format!("the record of {} is restored", bad_record.job));
        bad_record.restore()
    }

    pub(crate) fn cancel(&mut self) {
        let Some(job) = self.pick_unfinished_job() else { return };
        self.trace_line(|| format!("cancel {job}"));
        self.tally.cancels += 1;
        self.relay.file_request(&DaemonRequest::Cancel { job: job.clone(), grace_ms: 1000 });
        if let Some(job) = self.model.jobs.get_mut(&job) {
            job.is_cancel_requested = true;
        }
    }

    /// Leaves a request that no running daemon may obey: it names a dead daemon or, in an old format, none.
    pub(crate) fn leave_request(&mut self) {
        let Some(relay) = self.relay.previous_identity() else { return };
        let request = match self.rng.u8(..3) {
            0 => DaemonRequest::Down { relay: Some(relay) },
            1 => DaemonRequest::Down { relay: None },
            _ => DaemonRequest::Restart { relay },
        };
        self.trace_line(|| format!("left: {request:?}"));
        self.tally.left_requests += 1;
        self.relay.file_request(&request);
    }
}
