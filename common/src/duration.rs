//! Durations in human-readable form: `90s`, `10m`, `1h30m`.

use std::time::Duration;

/// Longest limit that a user may set: a year. A longer one is a typing error. Sums of allowed limits fit into `u64`
/// milliseconds.
pub const MAX_LIMIT: Duration = Duration::from_secs(366 * 24 * 3600);

/// Parses a duration such as `90s`, `10m` or `1h30m`.
///
/// # Errors
/// Returns one line that describes the fault: no unit, zero, or more than [`MAX_LIMIT`].
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let value = humantime::parse_duration(text.trim())
        .map_err(|_| format!("'{text}' is not a duration: write it like 90s, 10m or 1h30m"))?;
    if value.is_zero() {
        return Err(format!("'{text}' is zero: a limit must be longer than 0"));
    }
    if value > MAX_LIMIT {
        return Err(format!("'{text}' is longer than a year, the maximum"));
    }
    Ok(value)
}

/// Converts a duration to whole milliseconds; to `u64::MAX` if there are more.
pub fn to_millis(value: Duration) -> u64 {
    u64::try_from(value.as_millis()).unwrap_or(u64::MAX)
}

/// Formats a duration in milliseconds with at most two units: `0.4s`, `12.3s`, `1m03s`, `2h05m`, `3d04h`.
pub fn format_duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}.{}s", (ms % 1000) / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// Formats a limit in milliseconds without units that are zero: `1m30s`, `10m`.
pub fn format_limit(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string().replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_with_units_is_parsed_and_any_other_text_is_refused() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        for bad in ["", "5", "0s", "-1s", "10 parsecs", "400d", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_shown_with_at_most_two_units_and_limits_without_zeros() {
        let shown = [0, 1_250, 63_000, 7_500_000, 273_600_000].map(format_duration);
        assert_eq!(shown, ["0.0s", "1.2s", "1m03s", "2h05m", "3d04h"]);
        assert_eq!([format_limit(600_000), format_limit(90_000)], ["10m", "1m30s"]);
    }
}
