//! Figures: measurements of the tests.

use std::env;
use std::fs::File;
use std::io::Write;
use std::time::Duration;

/// Environment variable with the path of a file that collects the figures of all tests; `tests/run.sh` prints it.
const FILE: &str = "RELAY_TEST_FIGURES";
/// Environment variable that requests the full number of repetitions, however long they take.
const NIGHTLY: &str = "RELAY_TEST_NIGHTLY";

/// Writes `figure: TEXT` to stdout, and to the file if there is one.
#[expect(clippy::print_stdout, reason = "a manual run prints the figure")]
pub fn figure(text: &str) {
    println!("figure: {text}");
    if let Some(path) = env::var_os(FILE) {
        let file = File::options().append(true).create(true).open(&path);
        // One write, because tests run in parallel.
        let written = file.and_then(|mut file| file.write_all(format!("figure: {text}\n").as_bytes()));
        written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

/// Returns the number of repetitions: `normal`, or `nightly` in a nightly run.
pub fn times<T>(normal: T, nightly: T) -> T {
    if env::var_os(NIGHTLY).is_some() { nightly } else { normal }
}

/// Formats a duration as milliseconds without decimals.
pub fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// Returns the percentile `part` of the times (50 for the median); zero if there are none.
pub fn percentile(mut times: Vec<Duration>, part: usize) -> Duration {
    times.sort_unstable();
    let place = (times.len() * part).div_ceil(100).saturating_sub(1);
    times.get(place).copied().unwrap_or_default()
}
