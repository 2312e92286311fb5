//! Timeouts of disconnected agents. Pure.
//!
//! ```text
//!  agent disconnected ──RECONNECT_TIMEOUT──► its offered jobs go to other agents; its running jobs wait for it
//!  agent of the platform connected ──RECONNECT_TIMEOUT, repeatedly──► the jobs of its predecessors are lost
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::capacity::AgentId;

/// Time within which a live agent reconnects. It detects a dead connection within 14 s, then tries again within 5 s,
/// and each attempt takes at most 10 s.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExpiredTimeout {
    /// This agent has been disconnected for so long that its offered jobs go to other agents.
    ReleaseOffers(AgentId),
    /// The platform's agent has been connected so long that absent agents without a valid token were replaced by it.
    FindRevoked,
}

/// Timeouts of disconnected agents, and of the platform's agents.
#[derive(Debug, Default)]
pub(super) struct DisconnectTracker {
    disconnected_since: BTreeMap<AgentId, Instant>,
    /// Connected agents with the platform's token, each with the time since its connection or the last search for its
    /// predecessors.
    platform_agents: BTreeMap<AgentId, Instant>,
}

impl DisconnectTracker {
    /// Records that an agent has disconnected.
    pub(super) fn on_disconnect(&mut self, agent: AgentId, now: Instant) {
        self.platform_agents.remove(&agent);
        self.disconnected_since.insert(agent, now);
    }

    /// Records that an agent has connected.
    pub(super) fn on_connect(&mut self, agent: &AgentId, is_platform: bool, now: Instant) {
        self.disconnected_since.remove(agent);
        if is_platform {
            self.platform_agents.insert(agent.clone(), now);
        }
    }

    /// Returns true if an agent has disconnected so recently that it may be about to reconnect.
    pub(super) fn is_awaited(&self, agent: &AgentId) -> bool {
        self.disconnected_since.contains_key(agent)
    }

    /// Returns the timeouts that have expired at `now`, each once.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<ExpiredTimeout> {
        let is_expired = |since: Instant| now.duration_since(since) >= RECONNECT_TIMEOUT;
        let mut expired_timeouts = Vec::new();
        self.disconnected_since.retain(|agent, since| {
            let has_expired = is_expired(*since);
            if has_expired {
                expired_timeouts.push(ExpiredTimeout::ReleaseOffers(agent.clone()));
            }
            !has_expired
        });
        if self.platform_agents.values().any(|since| is_expired(*since)) {
            self.platform_agents.values_mut().for_each(|since| *since = now);
            expired_timeouts.push(ExpiredTimeout::FindRevoked);
        }
        expired_timeouts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_offered_jobs_are_taken_from_a_disconnected_agent() {
        let (mut tracker, now) = (DisconnectTracker::default(), Instant::now());
        tracker.on_disconnect("a".into(), now);
        tracker.on_disconnect("b".into(), now);
        tracker.on_connect(&"b".into(), false, now);
        assert_eq!(tracker.take_expired(now), []);
        assert!(tracker.is_awaited(&"a".into()) && !tracker.is_awaited(&"b".into()));
        assert_eq!(
            tracker.take_expired(now + RECONNECT_TIMEOUT),
            [ExpiredTimeout::ReleaseOffers("a".into())]
        );
        assert_eq!(tracker.take_expired(now + RECONNECT_TIMEOUT), []);
        assert!(!tracker.is_awaited(&"a".into()));
    }

    #[test]
    fn predecessors_are_searched_while_the_platform_s_agent_is_connected() {
        let (mut tracker, now) = (DisconnectTracker::default(), Instant::now());
        let agent: AgentId = "new".into();
        tracker.on_connect(&"elsewhere".into(), false, now);
        assert_eq!(tracker.take_expired(now + RECONNECT_TIMEOUT), []);
        tracker.on_connect(&agent, true, now);
        assert_eq!(tracker.take_expired(now), []);
        assert_eq!(tracker.take_expired(now + RECONNECT_TIMEOUT), [ExpiredTimeout::FindRevoked]);
        assert_eq!(tracker.take_expired(now + RECONNECT_TIMEOUT), []);
        assert_eq!(tracker.take_expired(now + RECONNECT_TIMEOUT * 2), [ExpiredTimeout::FindRevoked]);
        tracker.on_disconnect(agent.clone(), now);
        assert_eq!(tracker.take_expired(now + RECONNECT_TIMEOUT * 3), [ExpiredTimeout::ReleaseOffers(agent)]);
    }
}
