//! Ownership of jobs: only a job's agent may send its events, and only on the agent's newest connection. Pure.
//!
//! ```text
//!  queued ──offered to A──► owned by A ──A's `accepted` is recorded──► owned by A, as the record says
//!    │ found at startup: an earlier relay may have offered it, so the first agent that names it in a hello owns it
//!    └──────────────────────────────────────────────────────────────────────────────────────────────► owned by A
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use common::event::{Event, EventBody};
use common::ids::JobId;

use crate::daemon::core::AgentId;
use crate::daemon::core::{ConnectionId, ConnectionNumber, NewestConnections};

/// Connections of agents and offers of jobs, from which the owner of each job follows.
#[derive(Debug, Default)]
pub(super) struct JobOwnership {
    newest_connections: NewestConnections,
    /// Connections that have not ended.
    open_connections: BTreeMap<AgentId, ConnectionNumber>,
    /// Agent to which a job was offered.
    offers: BTreeMap<JobId, AgentId>,
    /// Queued jobs of an earlier relay, and jobs that could not be read at startup.
    inherited_jobs: BTreeSet<JobId>,
    /// Jobs whose data a connection has to resend, because their durable state could not be reported, or because
    /// received data was not recorded.
    resend_required: BTreeMap<JobId, ConnectionNumber>,
}

impl JobOwnership {
    /// Starts with the jobs that were found queued at startup, or could not be read.
    pub(super) fn new(inherited_jobs: impl IntoIterator<Item = JobId>) -> Self {
        Self { inherited_jobs: inherited_jobs.into_iter().collect(), ..Self::default() }
    }

    /// Registers a connection after its hello. Nothing is accepted from older connections of the agent. Returns `false`
    /// if the agent has or had a newer connection.
    pub(super) fn on_connect(&mut self, connection_id: &ConnectionId) -> bool {
        let ConnectionId { agent, number } = connection_id;
        let is_newest = self.newest_connections.advance(agent, *number);
        if is_newest {
            self.open_connections.insert(agent.clone(), *number);
        }
        is_newest
    }

    /// Removes a connection that has ended.
    pub(super) fn on_disconnect(&mut self, connection_id: &ConnectionId) {
        if self.open_connections.get(&connection_id.agent) == Some(&connection_id.number) {
            self.open_connections.remove(&connection_id.agent);
        }
        self.resend_required.retain(|_, number| *number != connection_id.number);
    }

    /// Blocks a job on a connection until the agent reconnects and resends everything that is not durable. Otherwise
    /// data after a gap, such as the end of the job, could be recorded.
    pub(super) fn demand_resend(&mut self, connection_id: &ConnectionId, job: &JobId) {
        self.resend_required.insert(job.clone(), connection_id.number);
    }

    /// Unblocks a job, after its durable state was reported.
    pub(super) fn unblock(&mut self, job: &JobId) {
        self.resend_required.remove(job);
    }

    /// Assigns a job to an agent before the job is sent.
    pub(super) fn offer(&mut self, job: JobId, agent: AgentId) {
        self.inherited_jobs.remove(&job);
        self.offers.insert(job, agent);
    }

    /// Removes a job that has ended.
    pub(super) fn remove_job(&mut self, job: &JobId) {
        self.inherited_jobs.remove(job);
        self.offers.remove(job);
        self.resend_required.remove(job);
    }

    /// Returns true if a job that an agent reports belongs to that agent. An inherited job without a recorded agent is
    /// assigned to the first agent that reports it. `recorded_agent` is the agent in the job's record.
    pub(super) fn assign_or_check_owner(
        &mut self,
        agent: &AgentId,
        job: &JobId,
        recorded_agent: Option<&str>,
    ) -> bool {
        if recorded_agent.is_none() && self.inherited_jobs.remove(job) {
            self.offers.insert(job.clone(), agent.clone());
        }
        self.owner(job, recorded_agent) == Some(&**agent)
    }

    /// Checks that a connection may send data of a job: it must be the newest one of the job's agent.
    ///
    /// # Errors
    /// `PermissionDenied` with the reason; `WouldBlock` for a job that the agent must resend.
    pub(super) fn check_sender(
        &self,
        connection_id: &ConnectionId,
        job: &JobId,
        recorded_agent: Option<&str>,
    ) -> io::Result<()> {
        let denied = |reason: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        if self.open_connections.get(&connection_id.agent) != Some(&connection_id.number) {
            return denied("a newer connection of this agent took over");
        }
        if self.owner(job, recorded_agent) != Some(&*connection_id.agent) {
            return denied("it belongs to another agent");
        }
        if self.resend_required.get(job) == Some(&connection_id.number) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    fn owner<'a>(&'a self, job: &JobId, recorded_agent: Option<&'a str>) -> Option<&'a str> {
        recorded_agent.or_else(|| self.offers.get(job).map(|agent| &**agent))
    }
}

/// Refuses `accepted` events that name another agent.
///
/// # Errors
/// `PermissionDenied` with the reason.
pub(super) fn check_accepted_agent(connection_id: &ConnectionId, batch: &[Event]) -> io::Result<()> {
    let is_foreign = |event: &Event| matches!(&event.body, EventBody::Accepted { agent, .. } if **agent != *connection_id.agent);
    if batch.iter().any(is_foreign) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it was accepted for another agent"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(text: &str) -> JobId {
        text.parse().unwrap()
    }

    fn connection_id(agent: &str, number: ConnectionNumber) -> ConnectionId {
        ConnectionId { agent: agent.into(), number }
    }

    #[test]
    fn nothing_is_accepted_from_a_connection_that_is_not_the_newest() {
        let mut ownership = JobOwnership::default();
        let (old, new) = (connection_id("a", 1), connection_id("a", 2));
        assert!(ownership.on_connect(&old));
        assert!(ownership.check_sender(&old, &job("j#1"), Some("a")).is_ok());
        assert!(ownership.on_connect(&new) && !ownership.on_connect(&old));
        assert!(ownership.check_sender(&old, &job("j#1"), Some("a")).is_err());
        ownership.on_disconnect(&old);
        assert!(ownership.check_sender(&new, &job("j#1"), Some("a")).is_ok());
        ownership.on_disconnect(&new);
        assert!(
            ownership.check_sender(&new, &job("j#1"), Some("a")).is_err(),
            "nothing is accepted from a connection that has ended"
        );
        assert!(!ownership.on_connect(&old), "nor from an older connection");
    }

    #[test]
    fn a_blocked_job_is_accepted_on_a_new_connection_or_once_it_is_unblocked() {
        let mut ownership = JobOwnership::default();
        let (old, new) = (connection_id("a", 1), connection_id("a", 2));
        let blocked = |ownership: &JobOwnership, connection_id, name| {
            ownership
                .check_sender(connection_id, &job(name), Some("a"))
                .is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
        };
        assert!(ownership.on_connect(&old));
        ownership.demand_resend(&old, &job("j#1"));
        assert_eq!([blocked(&ownership, &old, "j#1"), blocked(&ownership, &old, "j#2")], [true, false]);
        assert!(ownership.on_connect(&new));
        assert!(ownership.check_sender(&new, &job("j#1"), Some("a")).is_ok());
        ownership.demand_resend(&new, &job("j#1"));
        ownership.on_disconnect(&old);
        assert!(blocked(&ownership, &new, "j#1"));
        ownership.unblock(&job("j#1"));
        assert!(ownership.check_sender(&new, &job("j#1"), Some("a")).is_ok());
    }

    #[test]
    fn a_job_belongs_to_the_agent_in_its_record_or_offer_and_to_no_other() {
        let mut ownership = JobOwnership::new([job("old#1")]);
        let (a, b) = (connection_id("a", 1), connection_id("b", 2));
        assert!(ownership.on_connect(&a) && ownership.on_connect(&b));
        ownership.offer(job("j#1"), "a".into());
        for (job, recorded_agent) in [(job("j#1"), None), (job("j#2"), Some("a"))] {
            assert!(
                ownership.check_sender(&a, &job, recorded_agent).is_ok()
                    && ownership.assign_or_check_owner(&a.agent, &job, recorded_agent)
            );
            assert!(
                ownership.check_sender(&b, &job, recorded_agent).is_err()
                    && !ownership.assign_or_check_owner(&b.agent, &job, recorded_agent)
            );
        }
        assert!(
            !ownership.assign_or_check_owner(&a.agent, &job("j#3"), None),
            "the job was offered to no agent"
        );
        assert!(
            ownership.assign_or_check_owner(&b.agent, &job("old#1"), None),
            "an earlier relay may have offered the job"
        );
        assert!(
            !ownership.assign_or_check_owner(&a.agent, &job("old#1"), None)
                && ownership.check_sender(&b, &job("old#1"), None).is_ok()
        );
        ownership.remove_job(&job("j#1"));
        assert!(ownership.check_sender(&a, &job("j#1"), None).is_err());
    }
}
