//! Recovery after the chaos: no more faults happen, and everything has to be delivered.

use common::ids::JobId;

use crate::agent_node::AgentNode;
use crate::world::World;

/// Rounds within which everything must be delivered after the last fault.
const HEALING: u32 = 500;
/// Rounds within which every other job must end while the file of one is still spoiled.
const WITH_SPOILED: u32 = 200;

impl World {
    /// Stops all faults and checks that everything is delivered.
    pub(crate) fn heal(&mut self, agent: &AgentNode) -> Result<(), String> {
        self.say(|| "healing".to_owned());
        self.network.mend();
        // A freeze must not be cut short: a gap of two seconds counts as a busy machine.
        while !self.frozen.is_empty() {
            self.pass(agent)?;
        }
        if let Some(spoiled) = self.spoiled.as_ref().map(|spoiled| spoiled.job.clone()) {
            self.heal_others(&spoiled, agent)?;
            self.mend_record()?;
        }
        let mut stale = Ok(());
        for _ in 0..HEALING {
            self.round(agent)?;
            if agent.runs().is_empty() && !self.relay.is_busy() && self.all_ended() {
                // The relay finds a record that was put right a little later.
                stale = self.check_records();
                if stale.is_ok() {
                    return self.settled();
                }
            }
        }
        stale?;
        let open: Vec<_> = self.model.jobs.keys().filter(|job| !self.relay.book.ended(job)).collect();
        Err(format!("it does not heal: {open:?} have no end, the spool holds {:?}", agent.runs()))
    }

    /// Runs every possible action, then advances time by a second.
    fn round(&mut self, agent: &AgentNode) -> Result<(), String> {
        self.step += 1;
        for _ in 0..10 {
            self.pass(agent)?;
        }
        self.start_relay()?;
        self.end_lost(agent);
        self.finish(agent);
        self.dial(agent)?;
        while self.send(agent)? {}
        while self.receive()? {}
        self.commit(usize::MAX)?;
        while self.hear(agent)? {}
        Ok(())
    }

    /// Checks that all other jobs end while the file of one job is still spoiled.
    fn heal_others(&mut self, spoiled: &JobId, agent: &AgentNode) -> Result<(), String> {
        for _ in 0..WITH_SPOILED {
            self.round(agent)?;
            let may_wait = |job: &JobId| job == spoiled || self.model.waits_for(job, spoiled);
            if self.model.jobs.keys().all(|job| may_wait(job) || self.relay.book.ended(job)) {
                return Ok(());
            }
        }
        let open = self.model.jobs.keys().filter(|job| *job != spoiled && !self.relay.book.ended(job));
        Err(format!("the bad file of {spoiled} hurts others: {:?} have no end", open.collect::<Vec<_>>()))
    }

    fn all_ended(&self) -> bool {
        self.model.jobs.keys().all(|job| self.relay.book.ended(job))
    }

    fn check_records(&self) -> Result<(), String> {
        let registry = self.relay.registry();
        self.model.jobs.keys().try_for_each(|id| self.relay.book.record(registry, id))
    }

    /// Checks that everything has reached its final place.
    fn settled(&mut self) -> Result<(), String> {
        self.relay.rest();
        let registry = self.relay.registry().to_owned();
        for (id, job) in &self.model.jobs {
            self.relay.book.complete(id, job, &self.model)?;
            self.relay.book.record(&registry, id)?;
            job.check_output(
                id,
                &std::fs::read(crate::book::file(&registry, id, "log")).unwrap_or_default(),
            )?;
        }
        Ok(())
    }
}
