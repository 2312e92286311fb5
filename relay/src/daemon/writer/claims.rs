//! Who may speak of a job: its agent alone, on its newest connection alone. Pure.
//!
//! ```text
//!  queued ──offered to A──► A's ──A's `accepted` is recorded──► A's, as the record says
//!    │ found at a start: a relay that died may have offered it, so the first agent that holds it has it
//!    └────────────────────────────────────────────────────────────────────────────────────────────────► A's
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use common::event::{Event, EventBody};
use common::ids::JobId;

use crate::daemon::dispatch::AgentId;
use crate::daemon::input::{Caller, SessionId};

/// Connections and offers.
#[derive(Debug, Default)]
pub(super) struct Claims {
    newest: BTreeMap<AgentId, SessionId>,
    offers: BTreeMap<JobId, AgentId>,
    /// Jobs of the last relay's time that are queued, or could not be read at the start.
    inherited: BTreeSet<JobId>,
    /// Jobs of which a connection could not be told what is durable, or of which something that came on it was not taken.
    resend: BTreeMap<JobId, SessionId>,
}

impl Claims {
    /// Begins with the jobs that a start has found to be queued, or could not read.
    pub(super) fn new(inherited: impl IntoIterator<Item = JobId>) -> Self {
        Self { inherited: inherited.into_iter().collect(), ..Self::default() }
    }

    /// A connection has said hello: nothing is taken from its agent's older ones any more. `false` if it is an older
    /// one itself.
    pub(super) fn hello(&mut self, caller: &Caller) -> bool {
        let newest = self.newest.entry(caller.agent.clone()).or_insert(caller.session);
        *newest = caller.session.max(*newest);
        *newest == caller.session
    }

    /// A connection has ended.
    pub(super) fn left(&mut self, caller: &Caller) {
        if self.newest.get(&caller.agent) == Some(&caller.session) {
            self.newest.remove(&caller.agent);
        }
        self.resend.retain(|_, session| *session != caller.session);
    }

    /// Takes nothing more of a job on this connection: its agent comes back, is told what is durable, and sends what follows.
    /// What comes behind something that was not taken may be the job's end.
    pub(super) fn demand_resend(&mut self, caller: &Caller, job: &JobId) {
        self.resend.insert(job.clone(), caller.session);
    }

    /// A connection is told what is durable of a job.
    pub(super) fn told(&mut self, job: &JobId) {
        self.resend.remove(job);
    }

    /// A job is about to be sent to an agent.
    pub(super) fn offer(&mut self, job: JobId, agent: AgentId) {
        self.inherited.remove(&job);
        self.offers.insert(job, agent);
    }

    /// A job has ended.
    pub(super) fn forget(&mut self, job: &JobId) {
        self.inherited.remove(job);
        self.offers.remove(job);
        self.resend.remove(job);
    }

    /// Whether a job that an agent says it holds is its own; `recorded` is the agent in the job's record.
    pub(super) fn holds(&mut self, agent: &AgentId, job: &JobId, recorded: Option<&str>) -> bool {
        if recorded.is_none() && self.inherited.remove(job) {
            self.offers.insert(job.clone(), agent.clone());
        }
        self.owner(job, recorded) == Some(&**agent)
    }

    /// Lets through what a job's agent says on its newest connection.
    ///
    /// # Errors
    /// `PermissionDenied` with the reason; `WouldBlock` for a job of which the agent has to send everything anew.
    pub(super) fn admit(&self, caller: &Caller, job: &JobId, recorded: Option<&str>) -> io::Result<()> {
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

/// Refuses events with which an agent would give its job to another one.
///
/// # Errors
/// `PermissionDenied` with the reason.
pub(super) fn own_name(caller: &Caller, batch: &[Event]) -> io::Result<()> {
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

    fn caller(agent: &str, session: SessionId) -> Caller {
        Caller { agent: agent.into(), session }
    }

    #[test]
    fn nothing_is_taken_from_a_connection_once_a_newer_one_has_said_hello() {
        let mut claims = Claims::default();
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
        let mut claims = Claims::default();
        let (old, new) = (caller("a", 1), caller("a", 2));
        let blocked = |claims: &Claims, caller, name| {
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
        let mut claims = Claims::new([job("old#1")]);
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
