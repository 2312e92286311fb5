//! Connected agents, each with its newest connection.

use std::collections::BTreeMap;

use common::ids::JobId;
use common::vitals::MachineVitals;
use common::wire::Hello;

use super::capacity::AgentId;
use crate::state_dir::tokens::HolderKind;

/// Maximum number of connected agents: four times the thousand that the relay is designed for. Each agent costs a
/// socket and some 20 KiB.
const MAX_AGENTS: usize = 4096;

/// Number of a connection, given when it is accepted. Numbers increase. Only an agent's newest connection, which has
/// the highest number, is current.
pub(in crate::daemon) type ConnectionNumber = u64;

/// Id of a connection: the agent, and the connection's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) struct ConnectionId {
    pub(in crate::daemon) agent: AgentId,
    pub(in crate::daemon) number: ConnectionNumber,
}

/// The connection of a welcomed agent.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Connection {
    pub(in crate::daemon) number: ConnectionNumber,
    /// The agent's hello, without jobs that are closed in the registry, and with the newest vitals of its machine.
    pub(in crate::daemon) hello: Hello,
    /// Kind of the holder of the token that the agent uses.
    pub(in crate::daemon) holder: HolderKind,
}

impl Connection {
    pub(super) fn connection_id(&self) -> ConnectionId {
        ConnectionId { agent: self.hello.agent.as_str().into(), number: self.number }
    }

    /// Returns true if the agent's hello named this job.
    pub(super) fn names_job(&self, job: &JobId) -> bool {
        self.hello.jobs.iter().any(|progress| progress.job == *job)
    }
}

/// Number of each agent's newest connection. It is kept when the connection has ended, because the hello of an older
/// connection may be handled late. The size is bounded by the number of tokens, each of which is bound to one agent.
#[derive(Debug, Default)]
pub(in crate::daemon) struct NewestConnections(BTreeMap<AgentId, ConnectionNumber>);

impl NewestConnections {
    /// Records a connection. Returns `false` if its agent has or had a newer connection.
    pub(in crate::daemon) fn advance(&mut self, agent: &AgentId, number: ConnectionNumber) -> bool {
        match self.0.get_mut(agent) {
            Some(newest) if *newest > number => return false,
            Some(newest) => *newest = number,
            None => drop(self.0.insert(agent.clone(), number)),
        }
        true
    }
}

/// Connected agents.
#[derive(Debug, Default)]
pub(super) struct Connections {
    connections: BTreeMap<AgentId, Connection>,
    newest_numbers: NewestConnections,
}

impl Connections {
    /// Checks that an agent may connect.
    ///
    /// # Errors
    /// The reason, if too many agents are connected.
    pub(super) fn check_admission(&self, agent: &AgentId) -> Result<(), String> {
        if self.connections.len() >= MAX_AGENTS && !self.connections.contains_key(agent) {
            return Err(format!("{MAX_AGENTS} agents are connected, the maximum"));
        }
        Ok(())
    }

    /// Stores a connection, which replaces an older connection of the same agent. Returns `false` if the agent has or
    /// had a newer connection.
    pub(super) fn connect(&mut self, agent: AgentId, connection: Connection) -> bool {
        let is_newest = self.newest_numbers.advance(&agent, connection.number);
        if is_newest {
            self.connections.insert(agent, connection);
        }
        is_newest
    }

    /// Removes the newest connection of an agent; returns `false` for an older connection.
    pub(super) fn disconnect(&mut self, connection_id: &ConnectionId) -> bool {
        let is_current = self.is_current(connection_id);
        if is_current {
            self.connections.remove(&connection_id.agent);
        }
        is_current
    }

    /// Returns true if a connection is the newest one of its agent.
    pub(super) fn is_current(&self, connection_id: &ConnectionId) -> bool {
        self.connections.get(&connection_id.agent).is_some_and(|newest| newest.number == connection_id.number)
    }

    pub(super) fn get_connection(&self, agent: &str) -> Option<&Connection> {
        self.connections.get(agent)
    }

    /// Sets the newest vitals of an agent's machine.
    pub(super) fn set_vitals(&mut self, agent: &str, vitals: MachineVitals) {
        if let Some(connection) = self.connections.get_mut(agent) {
            connection.hello.vitals = Some(Box::new(vitals));
        }
    }

    /// Returns the connection of any agent: the first by id.
    pub(super) fn first_connection(&self) -> Option<&Connection> {
        self.connections.values().next()
    }

    /// Returns the connections of the agents that run jobs of any kind, so without the containers of single jobs.
    pub(super) fn shared_agents(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values().filter(|connection| connection.holder != HolderKind::Box)
    }

    /// Returns true if an agent is connected that runs jobs of any kind.
    pub(super) fn has_shared_agent(&self) -> bool {
        self.shared_agents().next().is_some()
    }

    /// Returns true if no agent is connected.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Removes all connections and returns their numbers.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = ConnectionNumber> + use<> {
        std::mem::take(&mut self.connections).into_values().map(|connection| connection.number)
    }
}
