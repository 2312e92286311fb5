//! Connected agents, each with its newest connection.

use std::collections::BTreeMap;

use common::ids::JobId;
use common::vitals::MachineVitals;
use common::wire::Hello;

use super::scheduler::AgentId;

/// Maximum number of connected agents: four times the thousand that the relay is designed for. Each agent costs a
/// socket and some 20 KiB.
const MAX_AGENTS: usize = 4096;

/// Number of a connection, given when it is accepted. Numbers increase. Only an agent's newest connection, which has the
/// highest number, is current.
pub(in crate::daemon) type ConnectionNumber = u64;

/// An agent and one of its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) struct ConnectionId {
    pub(in crate::daemon) agent: AgentId,
    pub(in crate::daemon) number: ConnectionNumber,
}

/// The connection of a welcomed agent.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Connection {
    pub(in crate::daemon) number: ConnectionNumber,
    /// The agent's hello, without jobs that are closed in the registry;
    /// with the newest vitals of its machine.
    pub(in crate::daemon) hello: Hello,
    /// True if the agent uses the token that the platform was given.
    pub(in crate::daemon) is_platform: bool,
}

impl Connection {
    pub(super) fn connection_id(&self) -> ConnectionId {
        ConnectionId { agent: self.hello.agent.as_str().into(), number: self.number }
    }

    /// Returns true if the agent's hello named this job.
    pub(super) fn names_job(&self, job: &JobId) -> bool {
        self.hello.jobs.iter().any(|held| held.job == *job)
    }
}

/// Number of each agent's newest connection, also after its end: a hello of an older connection may be handled late.
/// Bounded by the number of tokens, each of which is bound to one agent.
#[derive(Debug, Default)]
pub(in crate::daemon) struct NewestConnections(BTreeMap<AgentId, ConnectionNumber>);

impl NewestConnections {
    /// Records a connection. Returns `false` if its agent has or had a newer one.
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
    by_agent: BTreeMap<AgentId, Connection>,
    newest: NewestConnections,
}

impl Connections {
    /// Checks that an agent may connect.
    ///
    /// # Errors
    /// The reason, if too many agents are connected.
    pub(super) fn admit(&self, agent: &AgentId) -> Result<(), String> {
        if self.by_agent.len() >= MAX_AGENTS && !self.by_agent.contains_key(agent) {
            return Err(format!("{MAX_AGENTS} agents are connected, the maximum"));
        }
        Ok(())
    }

    /// Stores a connection, which replaces an older connection of the same agent. Returns `false` if the agent has or
    /// had a newer connection.
    pub(super) fn connect(&mut self, agent: AgentId, connection: Connection) -> bool {
        let newer = self.newest.advance(&agent, connection.number);
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
        self.by_agent.get(&connection_id.agent).is_some_and(|here| here.number == connection_id.number)
    }

    pub(super) fn get_connection(&self, agent: &str) -> Option<&Connection> {
        self.by_agent.get(agent)
    }

    /// Sets the newest vitals of an agent's machine.
    pub(super) fn set_vitals(&mut self, agent: &str, vitals: MachineVitals) {
        if let Some(connection) = self.by_agent.get_mut(agent) {
            connection.hello.vitals = Some(Box::new(vitals));
        }
    }

    /// Returns the connection of any agent: the first by id.
    pub(super) fn first_connection(&self) -> Option<&Connection> {
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

    /// Removes all connections and returns their numbers.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = ConnectionNumber> + use<> {
        std::mem::take(&mut self.by_agent).into_values().map(|connection| connection.number)
    }
}
