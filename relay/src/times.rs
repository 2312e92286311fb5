//! Clock times and durations for display.

use common::duration;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Returns the milliseconds from `from` to `to`; 0 if `to` is earlier.
pub fn millis_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}

/// Formats a clock time: `12:03:04`, with the date unless it is the date of `now`.
pub fn format_clock(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (at, now) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let format = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(format).to_string()
}

/// Formats the age of a moment: `2m ago`.
pub fn format_ago(at: Timestamp, now: Timestamp) -> String {
    match millis_between(at, now) {
        0..1000 => "just now".to_owned(),
        ms => format!("{} ago", format_largest_unit(ms / 1000)),
    }
}

/// Formats a remaining time, rounded up: `9m` for 8 minutes and 57 seconds.
pub fn format_remaining(ms: u64) -> String {
    let seconds = ms.div_ceil(1000);
    match seconds {
        0..=60 => format_largest_unit(seconds),
        61..=3600 => format_largest_unit(seconds.div_ceil(60) * 60),
        _ => duration::format_duration(seconds.div_ceil(60) * 60_000),
    }
}

/// Formats the largest unit that fits, rounded down.
fn format_largest_unit(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_323_045 + second).unwrap()
    }

    #[test]
    fn an_age_has_one_unit_and_a_moment_in_the_future_is_just_now() {
        let texts = [0, 40, 130, 7300, 200_000, -50].map(|second| format_ago(at(-second), at(0)));
        assert_eq!(texts, ["just now", "40s ago", "2m ago", "2h ago", "2d ago", "just now"]);
    }

    #[test]
    fn a_remaining_time_is_rounded_up() {
        assert_eq!(
            [400, 60_000, 537_000, 600_000, 5_000_000].map(format_remaining),
            ["1s", "1m", "9m", "10m", "1h24m"]
        );
    }

    #[test]
    fn the_date_is_shown_on_another_day_only() {
        let zone = TimeZone::UTC;
        assert_eq!(format_clock(at(0), at(60), &zone), "03:04:05");
        assert_eq!(format_clock(at(0), at(100_000), &zone), "2026-01-02 03:04:05");
    }
}
