//! Capacity and free slots of each agent; the agent with the most free slots is found without a scan of all. Slots for
//! boxes. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::ids::JobId;

/// Id of an agent process.
pub(in crate::daemon) type AgentId = Arc<str>;

#[derive(Debug, Default)]
struct AgentCapacity {
    /// Maximum number of concurrent jobs; `None` while the agent is disconnected.
    capacity: Option<usize>,
    /// True after the agent reported that it is full: it gets no job until one of its jobs ends, or until
    /// [`AgentTable::clear_reported_full`] gives all full agents another chance.
    has_reported_full: bool,
    /// True while the agent's machine has too little memory or disk space for another job.
    has_low_resources: bool,
    /// Jobs that the agent runs or was offered.
    jobs: BTreeSet<JobId>,
}

impl AgentCapacity {
    fn free_slots(&self) -> usize {
        match self.capacity {
            Some(capacity) if !self.has_reported_full && !self.has_low_resources => {
                capacity.saturating_sub(self.jobs.len())
            }
            _ => 0,
        }
    }
}

/// Agents that are connected or have jobs.
#[derive(Debug, Default)]
pub(super) struct AgentTable {
    agents: BTreeMap<AgentId, AgentCapacity>,
    /// Agents with free slots, sorted by the number of free slots.
    free_slot_index: BTreeSet<(usize, AgentId)>,
}

impl AgentTable {
    pub(super) fn connect(&mut self, id: &AgentId, capacity: usize) {
        self.change_agent(id, |agent| {
            agent.capacity = Some(capacity);
            agent.has_reported_full = false;
        });
    }

    /// Records that an agent has disconnected.
    pub(super) fn disconnect(&mut self, id: &AgentId) {
        self.change_agent(id, |agent| {
            agent.capacity = None;
            agent.has_low_resources = false;
        });
    }

    pub(super) fn is_connected(&self, id: &AgentId) -> bool {
        self.agents.get(id).is_some_and(|agent| agent.capacity.is_some())
    }

    /// Returns true if an agent is connected, and its machine has memory and disk space for another job.
    pub(super) fn is_usable(&self, id: &AgentId) -> bool {
        self.agents.get(id).is_some_and(|agent| agent.capacity.is_some() && !agent.has_low_resources)
    }

    pub(super) fn assign(&mut self, id: &AgentId, job: &JobId) {
        self.change_agent(id, |agent| {
            agent.jobs.insert(job.clone());
        });
    }

    /// Removes a job from an agent. If the job has ended there, an agent that was full has a free slot.
    pub(super) fn release(&mut self, id: &AgentId, job: &JobId, has_ended: bool) {
        self.change_agent(id, |agent| {
            agent.jobs.remove(job);
            agent.has_reported_full &= !has_ended;
        });
    }

    /// Records whether an agent's machine has too little memory or disk space. The agent is connected or about to
    /// connect.
    pub(super) fn set_low_resources(&mut self, id: &AgentId, is_low: bool) {
        self.change_agent(id, |agent| agent.has_low_resources = is_low);
    }

    pub(super) fn set_full(&mut self, id: &AgentId) {
        self.change_agent(id, |agent| agent.has_reported_full = true);
    }

    /// Resets all agents that have reported that they are full: they may have free slots again.
    pub(super) fn clear_reported_full(&mut self) {
        let full_agents: Vec<AgentId> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.has_reported_full)
            .map(|(id, _)| id.clone())
            .collect();
        for id in full_agents {
            self.change_agent(&id, |agent| agent.has_reported_full = false);
        }
    }

    pub(super) fn jobs(&self, id: &AgentId) -> BTreeSet<JobId> {
        self.agents.get(id).map_or_else(BTreeSet::new, |agent| agent.jobs.clone())
    }

    pub(super) fn agents_with_jobs(&self) -> Vec<AgentId> {
        let agents = self.agents.iter().filter(|(_, agent)| !agent.jobs.is_empty());
        agents.map(|(id, _)| id.clone()).collect()
    }

    /// Returns the connected agent with the most free slots, if there is one.
    pub(super) fn least_loaded(&self) -> Option<AgentId> {
        self.free_slot_index.last().map(|(_, id)| id.clone())
    }

    /// Changes an agent and updates the index. Every change uses this function, so that the index is always correct.
    fn change_agent(&mut self, id: &AgentId, change: impl FnOnce(&mut AgentCapacity)) {
        let agent = self.agents.entry(id.clone()).or_default();
        let slots_before = agent.free_slots();
        change(agent);
        let slots_after = agent.free_slots();
        if agent.capacity.is_none() && agent.jobs.is_empty() && !agent.has_low_resources {
            self.agents.remove(id);
        }
        if slots_before != slots_after {
            self.free_slot_index.remove(&(slots_before, id.clone()));
            if slots_after > 0 {
                self.free_slot_index.insert((slots_after, id.clone()));
            }
        }
    }
}

/// Slots for boxes.
#[derive(Debug, Default)]
pub(super) struct BoxSlots {
    /// The platform's agent and the maximum number of boxes; `None` before it has connected.
    pub(super) host: Option<(AgentId, usize)>,
    /// True once the boxes that exist are known, so that no job gets a second one.
    pub(super) are_boxes_known: bool,
    /// Jobs that have or await a box, without those that pause in their thread.
    pub(super) jobs: BTreeSet<JobId>,
}

/// Destination of the next job.
pub(super) enum Target {
    Agent(AgentId),
    /// A new box.
    Box,
}
