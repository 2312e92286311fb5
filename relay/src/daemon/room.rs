//! How much room each agent has for jobs. Pure; answers who has the most without looking at all of them.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::JobId;

use super::dispatch::AgentId;

#[derive(Debug, Default)]
struct Agent {
    /// How many jobs it runs at once; none while it is not connected.
    capacity: Option<usize>,
    /// It said that it is full; nothing is offered until one of its jobs ends, or it is asked again.
    full: bool,
    /// What it has, or was offered.
    jobs: BTreeSet<JobId>,
}

impl Agent {
    fn room(&self) -> usize {
        match self.capacity {
            Some(capacity) if !self.full => capacity.saturating_sub(self.jobs.len()),
            _ => 0,
        }
    }
}

/// Agents that are connected, or that jobs are with.
#[derive(Debug, Default)]
pub(super) struct Agents {
    agents: BTreeMap<AgentId, Agent>,
    /// Agents by their room, without those that have none.
    rooms: BTreeSet<(usize, AgentId)>,
}

impl Agents {
    /// An agent is there and runs so many jobs at once.
    pub(super) fn connect(&mut self, id: &AgentId, capacity: usize) {
        self.change(id, |agent| {
            agent.capacity = Some(capacity);
            agent.full = false;
        });
    }

    /// An agent is gone.
    pub(super) fn disconnect(&mut self, id: &AgentId) {
        self.change(id, |agent| agent.capacity = None);
    }

    /// Whether an agent is there.
    pub(super) fn is_connected(&self, id: &AgentId) -> bool {
        self.agents.get(id).is_some_and(|agent| agent.capacity.is_some())
    }

    /// A job is with an agent from now on.
    pub(super) fn give(&mut self, id: &AgentId, job: &JobId) {
        self.change(id, |agent| {
            agent.jobs.insert(job.clone());
        });
    }

    /// A job is no longer with an agent; if it `ended` there, an agent that was full has room again.
    pub(super) fn take(&mut self, id: &AgentId, job: &JobId, ended: bool) {
        self.change(id, |agent| {
            agent.jobs.remove(job);
            agent.full &= !ended;
        });
    }

    /// An agent said that it is full.
    pub(super) fn fill_up(&mut self, id: &AgentId) {
        self.change(id, |agent| agent.full = true);
    }

    /// Agents that said that they are full may have room again: they are asked the next time.
    pub(super) fn ask_again(&mut self) {
        let full: Vec<AgentId> =
            self.agents.iter().filter(|(_, agent)| agent.full).map(|(id, _)| id.clone()).collect();
        for id in full {
            self.change(&id, |agent| agent.full = false);
        }
    }

    /// What is with an agent.
    pub(super) fn jobs(&self, id: &AgentId) -> BTreeSet<JobId> {
        self.agents.get(id).map_or_else(BTreeSet::new, |agent| agent.jobs.clone())
    }

    /// Every agent that jobs are with.
    pub(super) fn holders(&self) -> Vec<AgentId> {
        let holding = self.agents.iter().filter(|(_, agent)| !agent.jobs.is_empty());
        holding.map(|(id, _)| id.clone()).collect()
    }

    /// The connected agent with the most room, if any has some.
    pub(super) fn roomiest(&self) -> Option<AgentId> {
        self.rooms.last().map(|(_, id)| id.clone())
    }

    /// Every change goes through here, so that the index is always right.
    fn change(&mut self, id: &AgentId, change: impl FnOnce(&mut Agent)) {
        let agent = self.agents.entry(id.clone()).or_default();
        let before = agent.room();
        change(agent);
        let after = agent.room();
        if agent.capacity.is_none() && agent.jobs.is_empty() {
            self.agents.remove(id);
        }
        if before != after {
            self.rooms.remove(&(before, id.clone()));
            if after > 0 {
                self.rooms.insert((after, id.clone()));
            }
        }
    }
}
