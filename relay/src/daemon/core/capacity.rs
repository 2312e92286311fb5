//! Capacity and free slots of each agent. Pure; finds the agent with the most free slots without a scan of all agents.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::JobId;

use super::scheduler::AgentId;

#[derive(Debug, Default)]
struct Agent {
    /// Number of jobs that it runs at once; `None` while it is disconnected.
    capacity: Option<usize>,
    /// Set once it has reported that it is full: no job is offered until one of its jobs ends, or the next retry.
    full: bool,
    /// Jobs that it has, or was offered.
    jobs: BTreeSet<JobId>,
}

impl Agent {
    fn free_slots(&self) -> usize {
        match self.capacity {
            Some(capacity) if !self.full => capacity.saturating_sub(self.jobs.len()),
            _ => 0,
        }
    }
}

/// Agents that are connected or have jobs.
#[derive(Debug, Default)]
pub(super) struct Agents {
    agents: BTreeMap<AgentId, Agent>,
    /// Agents with free slots, by slot count.
    by_free_slots: BTreeSet<(usize, AgentId)>,
}

impl Agents {
    pub(super) fn connect(&mut self, id: &AgentId, capacity: usize) {
        self.change(id, |agent| {
            agent.capacity = Some(capacity);
            agent.full = false;
        });
    }

    /// Records that an agent has disconnected.
    pub(super) fn disconnect(&mut self, id: &AgentId) {
        self.change(id, |agent| agent.capacity = None);
    }

    pub(super) fn is_connected(&self, id: &AgentId) -> bool {
        self.agents.get(id).is_some_and(|agent| agent.capacity.is_some())
    }

    pub(super) fn assign(&mut self, id: &AgentId, job: &JobId) {
        self.change(id, |agent| {
            agent.jobs.insert(job.clone());
        });
    }

    /// Removes a job from an agent; if it `ended` there, an agent that was full has a free slot again.
    pub(super) fn release(&mut self, id: &AgentId, job: &JobId, ended: bool) {
        self.change(id, |agent| {
            agent.jobs.remove(job);
            agent.full &= !ended;
        });
    }

    /// Records that an agent is full.
    pub(super) fn set_full(&mut self, id: &AgentId) {
        self.change(id, |agent| agent.full = true);
    }

    /// Resets all agents that have reported that they are full: they may have free slots again.
    pub(super) fn reset_full(&mut self) {
        let full: Vec<AgentId> =
            self.agents.iter().filter(|(_, agent)| agent.full).map(|(id, _)| id.clone()).collect();
        for id in full {
            self.change(&id, |agent| agent.full = false);
        }
    }

    pub(super) fn jobs(&self, id: &AgentId) -> BTreeSet<JobId> {
        self.agents.get(id).map_or_else(BTreeSet::new, |agent| agent.jobs.clone())
    }

    pub(super) fn agents_with_jobs(&self) -> Vec<AgentId> {
        let holding = self.agents.iter().filter(|(_, agent)| !agent.jobs.is_empty());
        holding.map(|(id, _)| id.clone()).collect()
    }

    /// Returns the connected agent with the most free slots, if there is one.
    pub(super) fn least_loaded(&self) -> Option<AgentId> {
        self.by_free_slots.last().map(|(_, id)| id.clone())
    }

    /// Changes an agent and updates the index. Every change goes through here, so that the index is always right.
    fn change(&mut self, id: &AgentId, change: impl FnOnce(&mut Agent)) {
        let agent = self.agents.entry(id.clone()).or_default();
        let before = agent.free_slots();
        change(agent);
        let after = agent.free_slots();
        if agent.capacity.is_none() && agent.jobs.is_empty() {
            self.agents.remove(id);
        }
        if before != after {
            self.by_free_slots.remove(&(before, id.clone()));
            if after > 0 {
                self.by_free_slots.insert((after, id.clone()));
            }
        }
    }
}
