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

use crate::daemon::message::{ConnectionId, ConnectionNumber};
use crate::daemon::scheduler::AgentId;

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
    pub(super) fn hello(&mut self, caller: &ConnectionId) -> bool {
        let newest = self.newest.entry(caller.agent.clone()).or_insert(caller.session);
        *newest = caller.session.max(*newest);
        *newest == caller.session
    }

    /// Removes a connection that has ended.
    pub(super) fn left(&mut self, caller: &ConnectionId) {
        if self.newest.get(&caller.agent) == Some(&caller.session) {
            self.newest.remove(&caller.agent);
        }
        self.resend.retain(|_, session| *session != caller.session);
    }

    /// Blocks a job on this connection: its agent reconnects, receives what is durable, and sends the rest again. Data
    /// after something that was not recorded may include the job's end.
    pub(super) fn demand_resend(&mut self, caller: &ConnectionId, job: &JobId) {
        self.resend.insert(job.clone(), caller.session);
    }

    /// Unblocks a job: a connection receives what is durable of it.
    pub(super) fn told(&mut self, job: &JobId) {
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
    pub(super) fn admit(&self, caller: &ConnectionId, job: &JobId, recorded: Option<&str>) -> io::Result<()> {
        let denied = |reason: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        if self.newest.get(&caller.agent) != Some(&caller.session) {
            return denied("a newer connection of this agent took over");
        }
        if self.owner(job, recorded) != Some(&*caller.agent) {
            return denied("it is not this agent's");
        }
        if self.resend.get(job) == Some(&caller.session) {
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
pub(super) fn check_own_name(caller: &ConnectionId, batch: &[Event]) -> io::Result<()> {
    let foreign =
        |event: &Event| matches!(&event.body, EventBody::Accepted { agent, .. } if **agent != *caller.agent);
    if batch.iter().any(foreign) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it was accepted in another agent's name",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(text: &str) -> JobId {
        text.parse().unwrap()
    }

    fn caller(agent: &str, session: ConnectionNumber) -> ConnectionId {
        ConnectionId { agent: agent.into(), session }
    }

    #[test]
    fn nothing_is_taken_from_a_connection_once_a_newer_one_has_said_hello() {
        let mut claims = JobOwnership::default();
        let (old, new) = (caller("a", 1), caller("a", 2));
        assert!(claims.hello(&old));
        assert!(claims.admit(&old, &job("j#1"), Some("a")).is_ok());
        assert!(claims.hello(&new) && !claims.hello(&old));
        assert!(claims.admit(&old, &job("j#1"), Some("a")).is_err());
        claims.left(&old);
        assert!(claims.admit(&new, &job("j#1"), Some("a")).is_ok());
        claims.left(&new);
        assert!(claims.admit(&new, &job("j#1"), Some("a")).is_err(), "nor from one that has ended");
    }

    #[test]
    fn what_has_to_be_sent_anew_is_taken_on_another_connection_or_behind_a_new_answer() {
        let mut claims = JobOwnership::default();
        let (old, new) = (caller("a", 1), caller("a", 2));
        let blocked = |claims: &JobOwnership, caller, name| {
            claims.admit(caller, &job(name), Some("a")).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
        };
        assert!(claims.hello(&old));
        claims.demand_resend(&old, &job("j#1"));
        assert_eq!([blocked(&claims, &old, "j#1"), blocked(&claims, &old, "j#2")], [true, false]);
        assert!(claims.hello(&new));
        assert!(claims.admit(&new, &job("j#1"), Some("a")).is_ok());
        claims.demand_resend(&new, &job("j#1"));
        claims.left(&old);
        assert!(blocked(&claims, &new, "j#1"));
        claims.told(&job("j#1"));
        assert!(claims.admit(&new, &job("j#1"), Some("a")).is_ok());
    }

    #[test]
    fn a_job_is_its_agent_s_by_record_or_by_offer_and_nobody_else_s() {
        let mut claims = JobOwnership::new([job("old#1")]);
        let (a, b) = (caller("a", 1), caller("b", 2));
        assert!(claims.hello(&a) && claims.hello(&b));
        claims.offer(job("j#1"), "a".into());
        for (job, recorded) in [(job("j#1"), None), (job("j#2"), Some("a"))] {
            assert!(claims.admit(&a, &job, recorded).is_ok() && claims.holds(&a.agent, &job, recorded));
            assert!(claims.admit(&b, &job, recorded).is_err() && !claims.holds(&b.agent, &job, recorded));
        }
        assert!(!claims.holds(&a.agent, &job("j#3"), None), "it was offered to nobody");
        assert!(claims.holds(&b.agent, &job("old#1"), None), "the relay before may have offered it");
        assert!(
            !claims.holds(&a.agent, &job("old#1"), None) && claims.admit(&b, &job("old#1"), None).is_ok()
        );
        claims.forget(&job("j#1"));
        assert!(claims.admit(&a, &job("j#1"), None).is_err());
    }
}
