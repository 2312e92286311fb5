//! Ownership of jobs: only a job's agent may send its events, and only on the agent's newest connection. Pure.
//!
//! ```text
//!  queued ──offered to A──► A's ──A's `accepted` is recorded──► A's, as the record says
//!    │ found at startup: an earlier relay may have offered it, so it belongs to the first agent that holds it
//!    └────────────────────────────────────────────────────────────────────────────────────────────────► A's
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use common::event::{Event, EventBody};
use common::ids::JobId;

use crate::daemon::core::AgentId;
use crate::daemon::core::{ConnectionId, ConnectionNumber};

/// Newest connections and offers.
#[derive(Debug, Default)]
pub(super) struct JobOwnership {
    newest: BTreeMap<AgentId, ConnectionNumber>,
    offers: BTreeMap<JobId, AgentId>,
    /// Queued jobs of an earlier relay, and jobs that could not be read at startup.
    inherited: BTreeSet<JobId>,
    /// Jobs for which a connection got no answer about what is durable, or of which something received on it was not
    /// recorded.
    resend: BTreeMap<JobId, ConnectionNumber>,
}

impl JobOwnership {
    /// Starts with the jobs that were found queued at startup, or could not be read.
    pub(super) fn new(inherited: impl IntoIterator<Item = JobId>) -> Self {
        Self { inherited: inherited.into_iter().collect(), ..Self::default() }
    }

    /// Registers a connection after its hello: nothing is accepted from its agent's older ones any more. Returns
    /// `false` if it is itself an older one.
    pub(super) fn connected(&mut self, connection_id: &ConnectionId) -> bool {
        let newest = self.newest.entry(connection_id.agent.clone()).or_insert(connection_id.number);
        *newest = connection_id.number.max(*newest);
        *newest == connection_id.number
    }

    /// Removes a connection that has ended.
    pub(super) fn disconnected(&mut self, connection_id: &ConnectionId) {
        if self.newest.get(&connection_id.agent) == Some(&connection_id.number) {
            self.newest.remove(&connection_id.agent);
        }
        self.resend.retain(|_, number| *number != connection_id.number);
    }

    /// Blocks a job on this connection: its agent reconnects, receives what is durable, and sends the rest again. Data
    /// after something that was not recorded may include the job's end.
    pub(super) fn demand_resend(&mut self, connection_id: &ConnectionId, job: &JobId) {
        self.resend.insert(job.clone(), connection_id.number);
    }

    /// Unblocks a job: a connection receives what is durable of it.
    pub(super) fn unblock(&mut self, job: &JobId) {
        self.resend.remove(job);
    }

    /// Assigns a job that is about to be sent to an agent.
    pub(super) fn offer(&mut self, job: JobId, agent: AgentId) {
        self.inherited.remove(&job);
        self.offers.insert(job, agent);
    }

    /// Forgets a job that has ended.
    pub(super) fn forget(&mut self, job: &JobId) {
        self.inherited.remove(job);
        self.offers.remove(job);
        self.resend.remove(job);
    }

    /// Returns true if a job that an agent reports to hold is its own; `recorded` is the agent in the job's record.
    pub(super) fn holds(&mut self, agent: &AgentId, job: &JobId, recorded: Option<&str>) -> bool {
        if recorded.is_none() && self.inherited.remove(job) {
            self.offers.insert(job.clone(), agent.clone());
        }
        self.owner(job, recorded) == Some(&**agent)
    }

    /// Checks that a connection may send data of a job: it must be the newest one of the job's agent.
    ///
    /// # Errors
    /// `PermissionDenied` with the reason; `WouldBlock` for a job of which the agent must send everything again.
    pub(super) fn admit(
        &self,
        connection_id: &ConnectionId,
        job: &JobId,
        recorded: Option<&str>,
    ) -> io::Result<()> {
        let denied = |reason: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        if self.newest.get(&connection_id.agent) != Some(&connection_id.number) {
            return denied("a newer connection of this agent took over");
        }
        if self.owner(job, recorded) != Some(&*connection_id.agent) {
            return denied("it belongs to another agent");
        }
        if self.resend.get(job) == Some(&connection_id.number) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    fn owner<'a>(&'a self, job: &JobId, recorded: Option<&'a str>) -> Option<&'a str> {
        recorded.or_else(|| self.offers.get(job).map(|agent| &**agent))
    }
}

/// Refuses events with which an agent would assign its job to another agent.
///
/// # Errors
/// `PermissionDenied` with the reason.
pub(super) fn check_own_name(connection_id: &ConnectionId, batch: &[Event]) -> io::Result<()> {
    let foreign = |event: &Event| matches!(&event.body, EventBody::Accepted { agent, .. } if **agent != *connection_id.agent);
    if batch.iter().any(foreign) {
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
    fn nothing_is_taken_from_a_connection_once_a_newer_one_has_said_hello() {
        let mut ownership = JobOwnership::default();
        let (old, new) = (connection_id("a", 1), connection_id("a", 2));
        assert!(ownership.connected(&old));
        assert!(ownership.admit(&old, &job("j#1"), Some("a")).is_ok());
        assert!(ownership.connected(&new) && !ownership.connected(&old));
        assert!(ownership.admit(&old, &job("j#1"), Some("a")).is_err());
        ownership.disconnected(&old);
        assert!(ownership.admit(&new, &job("j#1"), Some("a")).is_ok());
        ownership.disconnected(&new);
        assert!(ownership.admit(&new, &job("j#1"), Some("a")).is_err(), "nor from one that has ended");
    }

    #[test]
    fn what_has_to_be_sent_anew_is_taken_on_another_connection_or_behind_a_new_answer() {
        let mut ownership = JobOwnership::default();
        let (old, new) = (connection_id("a", 1), connection_id("a", 2));
        let blocked = |ownership: &JobOwnership, connection_id, name| {
            ownership
                .admit(connection_id, &job(name), Some("a"))
                .is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
        };
        assert!(ownership.connected(&old));
        ownership.demand_resend(&old, &job("j#1"));
        assert_eq!([blocked(&ownership, &old, "j#1"), blocked(&ownership, &old, "j#2")], [true, false]);
        assert!(ownership.connected(&new));
        assert!(ownership.admit(&new, &job("j#1"), Some("a")).is_ok());
        ownership.demand_resend(&new, &job("j#1"));
        ownership.disconnected(&old);
        assert!(blocked(&ownership, &new, "j#1"));
        ownership.unblock(&job("j#1"));
        assert!(ownership.admit(&new, &job("j#1"), Some("a")).is_ok());
    }

    #[test]
    fn a_job_is_its_agent_s_by_record_or_by_offer_and_nobody_else_s() {
        let mut ownership = JobOwnership::new([job("old#1")]);
        let (a, b) = (connection_id("a", 1), connection_id("b", 2));
        assert!(ownership.connected(&a) && ownership.connected(&b));
        ownership.offer(job("j#1"), "a".into());
        for (job, recorded) in [(job("j#1"), None), (job("j#2"), Some("a"))] {
            assert!(ownership.admit(&a, &job, recorded).is_ok() && ownership.holds(&a.agent, &job, recorded));
            assert!(
                ownership.admit(&b, &job, recorded).is_err() && !ownership.holds(&b.agent, &job, recorded)
            );
        }
        assert!(!ownership.holds(&a.agent, &job("j#3"), None), "it was offered to nobody");
        assert!(ownership.holds(&b.agent, &job("old#1"), None), "the relay before may have offered it");
        assert!(
            !ownership.holds(&a.agent, &job("old#1"), None)
                && ownership.admit(&b, &job("old#1"), None).is_ok()
        );
        ownership.forget(&job("j#1"));
        assert!(ownership.admit(&a, &job("j#1"), None).is_err());
    }
}
