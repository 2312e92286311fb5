//! Failed deliveries of completion notices.

use common::ids::JobId;

use super::context::CheckContext;
use super::finding::Finding;
use crate::registry::outbox::{self, ChannelState, Entry};

const DELIVERIES: &str = "deliveries";
/// Maximum number of entries read: those of the newest jobs.
const MAX_READ: usize = 1000;

/// Checks the outbox.
pub(super) fn check(scene: &CheckContext) -> Vec<Finding> {
    let names = scene.registry.outbox().names().unwrap_or_default();
    let jobs =
        names.iter().take(MAX_READ).filter_map(|name| name.strip_suffix(".json")?.parse::<JobId>().ok());
    let entries: Vec<Entry> =
        jobs.filter_map(|job| outbox::read(&scene.registry, &job).ok().flatten()).collect();
    vec![judge(&entries)]
}

fn judge(entries: &[Entry]) -> Finding {
    let ways =
        || entries.iter().flat_map(|entry| entry.ways.iter().map(move |(name, way)| (entry, name, way)));
    let given_up: Vec<_> = ways().filter(|(_, _, way)| way.state == ChannelState::GivenUp).collect();
    let Some((entry, name, way)) = given_up.iter().max_by_key(|(entry, ..)| entry.ended_at) else {
        let pending = ways().filter(|(_, _, way)| way.state == ChannelState::Pending).count();
        return Finding::ok(
            DELIVERIES,
            if pending == 0 { "all were taken".to_owned() } else { format!("{pending} on their way") },
        );
    };
    Finding::warn(
        DELIVERIES,
        format!(
            "{} given up, the newest that of {} by {name}: {}",
            given_up.len(),
            entry.job,
            way.last_error.as_deref().unwrap_or("nobody said why")
        ),
        "correct [notify] in platform/relay.toml; `relay notices` shows the ends that nobody has seen",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::registry::outbox::Channel;
    use super::super::finding::State;
    use super::*;

    #[test]
    fn what_was_given_up_is_named() {
        let entry = |state| Entry {
            schema: outbox::SCHEMA,
            job: "demo#1".parse().unwrap(),
            ended_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            session: None,
            ways: BTreeMap::from([(
                "webhook".to_owned(),
                Channel { state, attempts: 9, next_at: None, last_error: Some("404".into()) },
            )]),
        };
        assert_eq!(judge(&[]).detail, "all were taken");
        assert_eq!(judge(&[entry(ChannelState::Taken)]).detail, "all were taken");
        assert_eq!(judge(&[entry(ChannelState::Pending)]).detail, "1 on their way");
        let found = judge(&[entry(ChannelState::GivenUp)]);
        assert_eq!(found.state, State::Warn);
        assert_eq!(found.detail, "1 given up, the newest that of demo#1 by webhook: 404");
    }
}
