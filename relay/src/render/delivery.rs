//! Failed deliveries of a completion notice.

use common::duration;
use jiff::Timestamp;

use super::times::between;
use crate::registry::outbox::{Channel, ChannelState, Entry};

/// Describes the failed deliveries and their reasons; `None` if there are none.
pub fn trouble(entry: &Entry, now: Timestamp) -> Option<String> {
    let troubles: Vec<String> = entry.ways.iter().filter_map(|(name, way)| one(name, way, now)).collect();
    (!troubles.is_empty()).then(|| troubles.join("; "))
}

fn one(name: &str, way: &Channel, now: Timestamp) -> Option<String> {
    let reason = way.last_error.as_deref()?;
    match way.state {
        ChannelState::Taken => None,
        ChannelState::GivenUp => Some(format!("{name} given up ({reason})")),
        ChannelState::Pending => {
            let next = way.next_at.map(|at| between(now, at)).filter(|ms| *ms > 0);
            let next = next.map_or("now".to_owned(), |ms| format!("in {}", duration::short(ms)));
            Some(format!("{name} not taken yet ({reason}), next try {next}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples::at;

    #[test]
    fn only_what_went_wrong_is_told() {
        let way = |state, next: Option<i64>, error: Option<&str>| Channel {
            state,
            attempts: 1,
            next_at: next.map(at),
            last_error: error.map(str::to_owned),
        };
        let entry = |ways: Vec<(&str, Channel)>| Entry {
            schema: 1,
            job: "a#1".parse().unwrap(),
            ended_at: at(0),
            session: None,
            ways: ways.into_iter().map(|(name, way)| (name.to_owned(), way)).collect(),
        };
        let fine = entry(vec![
            ("codex", way(ChannelState::Taken, None, None)),
            ("webhook", way(ChannelState::Pending, Some(0), None)),
        ]);
        assert_eq!(trouble(&fine, at(5)), None);
        let bad = entry(vec![
            ("command", way(ChannelState::GivenUp, None, Some("exit code 3"))),
            ("webhook", way(ChannelState::Pending, Some(8), Some("connection refused"))),
        ]);
        assert_eq!(
            trouble(&bad, at(0)).as_deref(),
            Some(
                "command given up (exit code 3); webhook not taken yet (connection refused), next try in 8.0s"
            )
        );
        assert!(trouble(&bad, at(8)).unwrap().ends_with("next try now"));
    }
}
