//! Figures: what a test measured, for whoever wants to see it and not only that it was good enough.

use std::env;
use std::fs::File;
use std::io::Write;
use std::time::Duration;

/// Names a file that collects the figures of all tests; `tests/run.sh` prints it.
const FILE: &str = "RELAY_TEST_FIGURES";
/// Set where everything is to be repeated as often as the design asks, however long that takes.
const SOAK: &str = "RELAY_TEST_SOAK";

/// Writes `figure: TEXT` to stdout, and to the file if there is one.
///
/// # Panics
/// When the file can't be written.
#[expect(clippy::print_stdout, reason = "whoever runs a test by hand wants to see it")]
pub fn figure(text: &str) {
    println!("figure: {text}");
    if let Some(path) = env::var_os(FILE) {
        let file = File::options().append(true).create(true).open(&path);
        // One write: tests run side by side.
        let written = file.and_then(|mut file| file.write_all(format!("figure: {text}\n").as_bytes()));
        written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

/// How often something is repeated: `normal` times, or `soak` times where a soak was asked for.
pub fn times<T>(normal: T, soak: T) -> T {
    if env::var_os(SOAK).is_some() { soak } else { normal }
}

/// Milliseconds without decimals.
pub fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// What this part of all is not above (50 of 100 for the median); nothing of nothing.
pub fn percentile(mut times: Vec<Duration>, part: usize) -> Duration {
    times.sort_unstable();
    let place = (times.len() * part).div_ceil(100).saturating_sub(1);
    times.get(place).copied().unwrap_or_default()
}
