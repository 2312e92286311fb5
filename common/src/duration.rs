//! Durations in human-readable form: `90s`, `10m`, `1h30m`.

use std::time::Duration;

/// Maximum limit: a year. Longer limits are typing errors, and sums of limits up to this one fit into `u64`
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

/// Converts to whole milliseconds, saturating.
pub fn to_millis(value: Duration) -> u64 {
    u64::try_from(value.as_millis()).unwrap_or(u64::MAX)
}

/// Formats a duration with at most two units: `0.4s`, `12.3s`, `1m03s`, `2h05m`, `3d04h`.
pub fn format_duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}.{}s", (ms % 1000) / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// Formats a limit without needless zeros: `90s` is `1m30s`, `10m` stays `10m`.
pub fn format_limit(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string().replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn human_durations_are_read_and_nonsense_is_refused() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        for bad in ["", "5", "0s", "-1s", "10 parsecs", "400d", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn elapsed_times_stay_short() {
        let shown = [0, 1_250, 63_000, 7_500_000, 273_600_000].map(format_duration);
        assert_eq!(shown, ["0.0s", "1.2s", "1m03s", "2h05m", "3d04h"]);
        assert_eq!([format_limit(600_000), format_limit(90_000)], ["10m", "1m30s"]);
    }
}
