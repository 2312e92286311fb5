//! Check for failed deliveries of completion notices.

use common::ids::JobId;

use super::context::CheckContext;
use super::finding::Finding;
use crate::registry::outbox::{self, ChannelState, OutboxEntry};

const DELIVERIES_CHECK: &str = "deliveries";
/// Maximum number of outbox entries that are read, those of the newest jobs.
const MAX_ENTRIES: usize = 1000;

pub(super) fn check_deliveries(context: &CheckContext) -> Vec<Finding> {
    let names = context.registry.outbox().names().unwrap_or_default();
    let jobs =
        names.iter().take(MAX_ENTRIES).filter_map(|name| name.strip_suffix(".json")?.parse::<JobId>().ok());
    let entries: Vec<OutboxEntry> =
        jobs.filter_map(|job| outbox::read_entry(&context.registry, &job).ok().flatten()).collect();
    vec![assess_deliveries(&entries)]
}

fn assess_deliveries(entries: &[OutboxEntry]) -> Finding {
    let channels = || {
        entries
            .iter()
            .flat_map(|entry| entry.channels.iter().map(move |(name, channel)| (entry, name, channel)))
    };
    let given_up: Vec<_> =
        channels().filter(|(_, _, channel)| channel.state == ChannelState::GivenUp).collect();
    let Some((entry, name, channel)) = given_up.iter().max_by_key(|(entry, ..)| entry.ended_at) else {
        let pending = channels().filter(|(_, _, channel)| channel.state == ChannelState::Pending).count();
        return Finding::ok(
            DELIVERIES_CHECK,
            if pending == 0 { "all were accepted".to_owned() } else { format!("{pending} pending") },
        );
    };
    Finding::warn(
        DELIVERIES_CHECK,
        format!(
            "{} given up, most recently {} by {name}: {}",
            given_up.len(),
            entry.job,
            channel.last_error.as_deref().unwrap_or("no reason given")
        ),
        "correct [notify] in platform/relay.toml; `relay notices` shows unseen notices",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::registry::outbox::ChannelDelivery;
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_delivery_that_was_given_up_is_named() {
        let entry = |state| OutboxEntry {
            schema: outbox::SCHEMA_VERSION,
            job: "demo#1".parse().unwrap(),
            ended_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            session: None,
            channels: BTreeMap::from([(
                "webhook".to_owned(),
                ChannelDelivery { state, attempts: 9, next_at: None, last_error: Some("404".into()) },
            )]),
        };
        assert_eq!(assess_deliveries(&[]).detail, "all were accepted");
        assert_eq!(assess_deliveries(&[entry(ChannelState::Accepted)]).detail, "all were accepted");
        assert_eq!(assess_deliveries(&[entry(ChannelState::Pending)]).detail, "1 pending");
        let found = assess_deliveries(&[entry(ChannelState::GivenUp)]);
        assert_eq!(found.state, State::Warn);
        assert_eq!(found.detail, "1 given up, most recently demo#1 by webhook: 404");
    }
}
