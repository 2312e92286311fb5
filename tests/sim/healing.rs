//! Healing: the phase after the last fault, in which everything must be delivered.

use common::ids::JobId;

use crate::agent_node::AgentNode;
use crate::world::World;

/// Rounds within which everything must be delivered after the last fault.
const HEALING_ROUNDS: u32 = 500;
/// Rounds within which all other jobs must end while the record of one job can't be read.
const ROUNDS_WITH_BAD_RECORD: u32 = 200;

impl World {
    /// Stops all faults and checks that everything is delivered.
    pub(crate) fn heal(&mut self, agent: &AgentNode) -> Result<(), String> {
        self.trace_line(|| "healing".to_owned());
        self.network.end_broken_connections();
        // A freeze must not end early: the product treats a gap of two seconds as load of the machine, not as a freeze.
        while !self.frozen.is_empty() {
            self.advance_time(agent)?;
        }
        if let Some(bad_job) = self.bad_record.as_ref().map(|bad_record| bad_record.job.clone()) {
            self.heal_others(&bad_job, agent)?;
            self.restore_record()?;
        }
        let mut records = Ok(());
        for _ in 0..HEALING_ROUNDS {
            self.run_healing_round(agent)?;
            if agent.runs().is_empty() && !self.relay.is_busy() && self.all_ended() {
                // The relay notices a restored record only after a while.
                records = self.check_records();
                if records.is_ok() {
                    return self.check_settled();
                }
            }
        }
        records?;
        let open: Vec<_> =
            self.model.jobs.keys().filter(|job| !self.relay.log_checker.has_outcome(job)).collect();
        Err(format!("it does not heal: {open:?} have no end, the spool holds {:?}", agent.runs()))
    }

    /// Advances time by a second, then runs every action that delivers something.
    fn run_healing_round(&mut self, agent: &AgentNode) -> Result<(), String> {
        self.step += 1;
        for _ in 0..10 {
            self.advance_time(agent)?;
        }
        self.start_relay()?;
        self.end_lost_run(agent);
        self.finish_run(agent);
        self.connect(agent)?;
        while self.send(agent)? {}
        while self.receive_at_relay()? {}
        self.commit(usize::MAX)?;
        while self.receive_at_agent(agent)? {}
        Ok(())
    }

    /// Checks that all other jobs end while the record of `bad_job` can't be read.
    fn heal_others(&mut self, bad_job: &JobId, agent: &AgentNode) -> Result<(), String> {
        for _ in 0..ROUNDS_WITH_BAD_RECORD {
            self.run_healing_round(agent)?;
            let may_wait = |job: &JobId| job == bad_job || self.model.waits_for(job, bad_job);
            if self.model.jobs.keys().all(|job| may_wait(job) || self.relay.log_checker.has_outcome(job)) {
                return Ok(());
            }
        }
        let open =
            self.model.jobs.keys().filter(|job| *job != bad_job && !self.relay.log_checker.has_outcome(job));
        Err(format!("the bad file of {bad_job} hurts others: {:?} have no end", open.collect::<Vec<_>>()))
    }

    fn all_ended(&self) -> bool {
        self.model.jobs.keys().all(|job| self.relay.log_checker.has_outcome(job))
    }

    fn check_records(&self) -> Result<(), String> {
        let registry = self.relay.registry();
        self.model.jobs.keys().try_for_each(|id| self.relay.log_checker.check_record(registry, id))
    }

    /// Checks the final logs, records and outputs of all jobs.
    fn check_settled(&mut self) -> Result<(), String> {
        self.relay.let_second_pass();
        let registry = self.relay.registry().to_owned();
        for (id, job) in &self.model.jobs {
            self.relay.log_checker.check_complete(id, job, &self.model)?;
            self.relay.log_checker.check_record(&registry, id)?;
            job.check_output(
                id,
                &std::fs::read(crate::log_checker::job_file(&registry, id, "log")).unwrap_or_default(),
            )?;
        }
        Ok(())
    }
}
