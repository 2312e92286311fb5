//! Text about the hold of a job that waits until the account can use the model.

use common::event::FailureKind;
use common::hold::Hold;
use common::record::JobRecord;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

use super::View;

/// Describes a hold in the time zone of the reader: `held: usage limit until 15:35`.
pub fn hold_text(hold: &Hold, view: &View) -> String {
    format!("held: {}", hold_reason(hold, view))
}

/// Describes the reason and the end of a hold: `usage limit until 15:35`.
pub fn hold_reason(hold: &Hold, view: &View) -> String {
    let what = match hold.kind {
        FailureKind::Auth => {
            return "log in with `codex login`, or set a new key and run `relay restart`: the model's server \
                    refuses the login"
                .to_owned();
        }
        FailureKind::UsageLimit => "usage limit".to_owned(),
        FailureKind::BudgetExceeded => "budget of the day".to_owned(),
        kind => <&str>::from(kind).replace('_', " "),
    };
    match (hold.until, hold.next_try_at) {
        (Some(until), _) => format!("{what} until {}", minute_text(until, view)),
        (None, Some(at)) => format!("{what}, next try at {}", minute_text(at, view)),
        (None, None) => what,
    }
}

/// Returns the hold with the latest next try, for a headline, if one of these jobs is held.
pub fn hold_of_jobs(records: &[JobRecord]) -> Option<&Hold> {
    let held = records.iter().filter(|record| !record.state.is_final());
    held.filter_map(|record| record.held.as_ref()).max_by_key(|hold| hold.next_try_at)
}

/// Formats a time to the minute, rounded up, with the date unless it is today's.
fn minute_text(at: Timestamp, view: &View) -> String {
    let up = TimestampRound::new().smallest(Unit::Minute).mode(RoundMode::Ceil);
    let at = at.round(up).unwrap_or(at).to_zoned(view.zone.clone());
    let today = view.now.to_zoned(view.zone.clone()).date();
    at.strftime(if at.date() == today { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use jiff::tz::{Offset, TimeZone};

    use super::super::samples;
    use super::*;

    #[test]
    fn a_hold_is_described_in_the_zone_of_the_reader() {
        let mut view = samples::view(73);
        view.now = "2026-01-02T10:00:00Z".parse().unwrap();
        let at = |minutes: i64| view.now.checked_add(SignedDuration::from_secs(minutes * 60 - 20)).ok();
        let hold = |kind, until, next_try_at| Hold { kind, message: String::new(), until, next_try_at };
        let kind = FailureKind::UsageLimit;
        let known = hold(kind, at(95), at(95));
        assert_eq!(hold_text(&known, &view), "held: usage limit until 11:35");
        assert_eq!(hold_text(&hold(kind, None, at(5)), &view), "held: usage limit, next try at 10:05");
        let tomorrow = hold(kind, at(24 * 60), None);
        assert_eq!(hold_text(&tomorrow, &view), "held: usage limit until 2026-01-03 10:00");
        assert!(hold_text(&hold(FailureKind::Auth, None, None), &view).contains("`codex login`"));
        view.zone = TimeZone::fixed(Offset::constant(9));
        assert_eq!(hold_text(&known, &view), "held: usage limit until 20:35");
    }
}
