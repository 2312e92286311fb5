//! Connected agents, each with its newest connection.

use std::collections::BTreeMap;

use super::message::{ConnectionHandle, ConnectionId, ConnectionNumber};
use super::scheduler::AgentId;

/// Maximum number of agents at once: four times what the figures need. Each costs a socket and some 20 KiB.
pub(super) const MAX_AGENTS: usize = 4096;

/// Connected agents.
#[derive(Debug, Default)]
pub(super) struct Connections {
    by_agent: BTreeMap<AgentId, ConnectionHandle>,
    /// Number of the newest connection.
    last: ConnectionNumber,
}

impl Connections {
    /// Numbers a new connection.
    ///
    /// # Errors
    /// The reason, if too many agents are connected.
    pub(super) fn register(&mut self, agent: &AgentId) -> Result<ConnectionNumber, String> {
        if self.by_agent.len() >= MAX_AGENTS && !self.by_agent.contains_key(agent) {
            return Err(format!("{MAX_AGENTS} agents are connected, the maximum"));
        }
        self.last += 1;
        Ok(self.last)
    }

    /// Stores a connection in place of an older one of its agent; returns `false` if it is itself the older one.
    /// Dropping a handle ends its connection.
    pub(super) fn connect(&mut self, agent: AgentId, connection: ConnectionHandle) -> bool {
        let newer = self.by_agent.get(&agent).is_none_or(|here| here.id < connection.id);
        if newer {
            self.by_agent.insert(agent, connection);
        }
        newer
    }

    /// Removes a connection; returns `false` if it was not its agent's newest.
    pub(super) fn disconnect(&mut self, connection_id: &ConnectionId) -> bool {
        let current = self.is_current(connection_id);
        if current {
            self.by_agent.remove(&connection_id.agent);
        }
        current
    }

    /// Returns true if this is its agent's newest connection.
    pub(super) fn is_current(&self, connection_id: &ConnectionId) -> bool {
        self.by_agent.get(&connection_id.agent).is_some_and(|here| here.id == connection_id.number)
    }

    /// Returns an agent's connection.
    pub(super) fn get(&self, agent: &str) -> Option<&ConnectionHandle> {
        self.by_agent.get(agent)
    }

    /// Returns the connection of any agent: the first by id.
    pub(super) fn first(&self) -> Option<&ConnectionHandle> {
        self.by_agent.values().next()
    }

    /// Number of connected agents.
    pub(super) fn len(&self) -> usize {
        self.by_agent.len()
    }

    /// Returns true if no agent is connected.
    pub(super) fn is_empty(&self) -> bool {
        self.by_agent.is_empty()
    }

    /// Ends all connections.
    pub(super) fn clear(&mut self) {
        self.by_agent.clear();
    }
}
