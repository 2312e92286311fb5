//! Text about the failed deliveries of a completion notice.

use common::duration;
use jiff::Timestamp;

use crate::registry::outbox::{ChannelDelivery, ChannelState, OutboxEntry};
use crate::times::millis_between;

/// Describes the failed deliveries and their reasons; `None` if there are none.
pub fn failed_delivery(entry: &OutboxEntry, now: Timestamp) -> Option<String> {
    let failures: Vec<String> =
        entry.channels.iter().filter_map(|(name, channel)| describe_channel(name, channel, now)).collect();
    (!failures.is_empty()).then(|| failures.join("; "))
}

fn describe_channel(name: &str, channel: &ChannelDelivery, now: Timestamp) -> Option<String> {
    let reason = channel.last_error.as_deref()?;
    match channel.state {
        ChannelState::Accepted => None,
        ChannelState::GivenUp => Some(format!("{name} given up ({reason})")),
        ChannelState::Pending => {
            let next = channel.next_at.map(|at| millis_between(now, at)).filter(|ms| *ms > 0);
            let next = next.map_or("now".to_owned(), |ms| format!("in {}", duration::format_duration(ms)));
            Some(format!("{name} not delivered yet ({reason}), next try {next}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples::at;

    #[test]
    fn only_failed_deliveries_are_described() {
        let channel = |state, next: Option<i64>, error: Option<&str>| ChannelDelivery {
            state,
            attempts: 1,
            next_at: next.map(at),
            last_error: error.map(str::to_owned),
        };
        let entry = |channels: Vec<(&str, ChannelDelivery)>| OutboxEntry {
            schema: 1,
            job: "a#1".parse().unwrap(),
            ended_at: at(0),
            session: None,
            channels: channels.into_iter().map(|(name, channel)| (name.to_owned(), channel)).collect(),
        };
        let without_failure = entry(vec![
            ("codex", channel(ChannelState::Accepted, None, None)),
            ("webhook", channel(ChannelState::Pending, Some(0), None)),
        ]);
        assert_eq!(failed_delivery(&without_failure, at(5)), None);
        let with_failures = entry(vec![
            ("command", channel(ChannelState::GivenUp, None, Some("exit code 3"))),
            ("webhook", channel(ChannelState::Pending, Some(8), Some("connection refused"))),
        ]);
        assert_eq!(
            failed_delivery(&with_failures, at(0)).as_deref(),
            Some(
                "command given up (exit code 3); webhook not delivered yet (connection refused), next try in 8.0s"
            )
        );
        assert!(failed_delivery(&with_failures, at(8)).unwrap().ends_with("next try now"));
    }
}
