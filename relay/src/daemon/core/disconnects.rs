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

/// Time within which a live agent reconnects: it notices a dead connection after 14 s, then tries every 5 s at most,
/// and each try takes 10 s at most.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Expired timeout of an agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// This agent's offered jobs go to other agents.
    GiveUp(AgentId),
    /// This agent will never reconnect.
    Lost(AgentId),
}

/// Disconnected agents.
#[derive(Debug, Default)]
pub(super) struct DisconnectTracker {
    since: BTreeMap<AgentId, Instant>,
    /// The platform's agent as last known, and the time since when another agent is connected in its place.
    replaced: Option<(AgentId, Instant)>,
}

impl DisconnectTracker {
    /// Records that an agent has disconnected.
    pub(super) fn disconnected(&mut self, agent: AgentId, now: Instant) {
        self.since.insert(agent, now);
    }

    /// Records that an agent has connected; `platform` is the platform's agent as last known.
    pub(super) fn connected(&mut self, agent: &AgentId, platform: Option<&AgentId>, now: Instant) {
        self.since.remove(agent);
        if platform == Some(agent) {
            self.replaced = None;
        } else if let Some(platform) = platform
            && self.replaced.is_none()
        {
            self.replaced = Some((platform.clone(), now));
        }
    }

    /// Returns the timeouts that have expired at `now`, each once. `here` returns true for a connected agent; `anybody`
    /// is true if any agent is connected.
    pub(super) fn due(&mut self, here: impl Fn(&str) -> bool, anybody: bool, now: Instant) -> Vec<Due> {
        let is_over = |since: Instant| now.duration_since(since) >= RECONNECT_TIMEOUT;
        let mut due = Vec::new();
        self.since.retain(|agent, since| {
            let over = is_over(*since);
            if over {
                due.push(Due::GiveUp(agent.clone()));
            }
            !over
        });
        match self.replaced.take() {
            Some((agent, _)) if here(&agent) || !anybody => {}
            Some((agent, since)) if is_over(since) => due.push(Due::Lost(agent)),
            replaced => self.replaced = replaced,
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
        tracker.disconnected("a".into(), now);
        tracker.disconnected("b".into(), now);
        tracker.connected(&"b".into(), None, now);
        assert_eq!(tracker.due(|_| false, true, now), []);
        assert_eq!(tracker.due(|_| false, true, now + RECONNECT_TIMEOUT), [Due::GiveUp("a".into())]);
        assert_eq!(tracker.due(|_| false, true, now + RECONNECT_TIMEOUT), []);
    }

    #[test]
    fn a_platform_s_agent_is_lost_once_another_has_been_in_its_place_for_long() {
        let (mut tracker, now) = (DisconnectTracker::default(), Instant::now());
        let (old, new): (AgentId, AgentId) = ("old".into(), "new".into());
        tracker.connected(&new, Some(&old), now);
        assert_eq!(tracker.due(|agent| agent == "new", true, now), []);
        assert_eq!(
            tracker.due(|agent| agent == "new", true, now + RECONNECT_TIMEOUT),
            [Due::Lost(old.clone())]
        );

        tracker.connected(&new, Some(&old), now);
        tracker.connected(&old, Some(&old), now);
        assert_eq!(tracker.due(|_| true, true, now + RECONNECT_TIMEOUT), [], "it has come back");

        tracker.connected(&new, Some(&old), now);
        assert_eq!(tracker.due(|_| false, false, now + RECONNECT_TIMEOUT), [], "nobody is there");
    }
}
