//! Timeouts of disconnected agents. Pure.
//!
//! ```text
//!  disconnected ──RECONNECT_TIMEOUT──► its offered jobs go to other agents; its running jobs stay its own and wait for it
//!  the platform's agent replaced by another one ──RECONNECT_TIMEOUT──► its state was lost, and its jobs with it
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::scheduler::AgentId;

/// Time within which a live agent reconnects: it detects a dead connection within 14 s, then tries again within 5 s,
/// and each attempt takes at most 10 s.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Expired timeout of an agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExpiredTimeout {
    /// This agent's offered jobs go to other agents.
    ReleaseOffers(AgentId),
    /// This agent will never reconnect.
    Lost(AgentId),
}

/// Disconnected agents.
#[derive(Debug, Default)]
pub(super) struct DisconnectTracker {
    disconnected_since: BTreeMap<AgentId, Instant>,
    /// The last known agent of the platform, and the time since which another agent is connected instead.
    replaced_agent: Option<(AgentId, Instant)>,
}

impl DisconnectTracker {
    /// Records that an agent has disconnected.
    pub(super) fn on_disconnect(&mut self, agent: AgentId, now: Instant) {
        self.disconnected_since.insert(agent, now);
    }

    /// Records that an agent has connected; `platform` is the last known agent of the platform.
    pub(super) fn on_connect(&mut self, agent: &AgentId, platform: Option<&AgentId>, now: Instant) {
        self.disconnected_since.remove(agent);
        if platform == Some(agent) {
            self.replaced_agent = None;
        } else if let Some(platform) = platform
            && self.replaced_agent.is_none()
        {
            self.replaced_agent = Some((platform.clone(), now));
        }
    }

    /// Returns the timeouts that have expired at `now`, each once. `is_connected` returns true for a connected agent;
    /// `any_connected` is true if there is one.
    pub(super) fn expired(
        &mut self,
        is_connected: impl Fn(&str) -> bool,
        any_connected: bool,
        now: Instant,
    ) -> Vec<ExpiredTimeout> {
        let is_over = |since: Instant| now.duration_since(since) >= RECONNECT_TIMEOUT;
        let mut due = Vec::new();
        self.disconnected_since.retain(|agent, since| {
            let over = is_over(*since);
            if over {
                due.push(ExpiredTimeout::ReleaseOffers(agent.clone()));
            }
            !over
        });
        match self.replaced_agent.take() {
            Some((agent, _)) if is_connected(&agent) || !any_connected => {}
            Some((agent, since)) if is_over(since) => due.push(ExpiredTimeout::Lost(agent)),
            replaced => self.replaced_agent = replaced,
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_offered_is_taken_from_an_agent_that_is_away() {
        let (mut tracker, now) = (DisconnectTracker::default(), Instant::now());
        tracker.on_disconnect("a".into(), now);
        tracker.on_disconnect("b".into(), now);
        tracker.on_connect(&"b".into(), None, now);
        assert_eq!(tracker.expired(|_| false, true, now), []);
        assert_eq!(
            tracker.expired(|_| false, true, now + RECONNECT_TIMEOUT),
            [ExpiredTimeout::ReleaseOffers("a".into())]
        );
        assert_eq!(tracker.expired(|_| false, true, now + RECONNECT_TIMEOUT), []);
    }

    #[test]
    fn a_platform_s_agent_is_lost_once_another_has_been_in_its_place_for_long() {
        let (mut tracker, now) = (DisconnectTracker::default(), Instant::now());
        let (old, new): (AgentId, AgentId) = ("old".into(), "new".into());
        tracker.on_connect(&new, Some(&old), now);
        assert_eq!(tracker.expired(|agent| agent == "new", true, now), []);
        assert_eq!(
            tracker.expired(|agent| agent == "new", true, now + RECONNECT_TIMEOUT),
            [ExpiredTimeout::Lost(old.clone())]
        );

        tracker.on_connect(&new, Some(&old), now);
        tracker.on_connect(&old, Some(&old), now);
        assert_eq!(tracker.expired(|_| true, true, now + RECONNECT_TIMEOUT), [], "it has come back");

        tracker.on_connect(&new, Some(&old), now);
        assert_eq!(tracker.expired(|_| false, false, now + RECONNECT_TIMEOUT), [], "nobody is there");
    }
}
