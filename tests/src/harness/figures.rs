//! Figures: measured or counted results that the tests print.

use std::env;
use std::fs::File;
use std::io::Write;
use std::time::Duration;

/// Environment variable with the path of a file that collects the figures of all tests; `tests/run.sh` prints it.
const FILE: &str = "RELAY_TEST_FIGURES";
/// Environment variable that is set in nightly runs, which repeat each test as often as the design requires.
const NIGHTLY: &str = "RELAY_TEST_NIGHTLY";

/// Writes `figure: TEXT` to stdout, and to the file that `RELAY_TEST_FIGURES` names, if it is set.
#[expect(clippy::print_stdout, reason = "a manual run prints the figure")]
pub fn figure(text: &str) {
    println!("figure: {text}");
    if let Some(path) = env::var_os(FILE) {
        let file = File::options().append(true).create(true).open(&path);
        // A single write keeps the lines of parallel tests apart.
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

/// Returns a percentile of the times (`percent` is 50 for the median); zero if there are no times.
pub fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(rank).copied().unwrap_or_default()
}
