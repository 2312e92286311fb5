//! Figures: values that a test measured, such as times and memory.

use std::io::Write;
use std::time::Duration;

/// Environment variable with the path of a file that collects the figures of all tests. `tests/run.sh` prints the file.
const FILE_VARIABLE: &str = "RELAY_TEST_FIGURES";

/// Writes `figure: TEXT` to stdout, and to the file that [`FILE_VARIABLE`] names, if it is set.
#[expect(clippy::print_stdout, reason = "a person who runs a test by hand wants to see it")]
pub(crate) fn figure(text: &str) {
    println!("figure: {text}");
    if let Some(path) = std::env::var_os(FILE_VARIABLE) {
        let file = std::fs::File::options().append(true).create(true).open(path);
        // One write, because tests in other processes append to the same file.
        file.unwrap().write_all(format!("figure: {text}\n").as_bytes()).unwrap();
    }
}

/// Returns a number of repetitions: `nightly` in a nightly run, otherwise `normal`.
pub(crate) fn times<T>(normal: T, nightly: T) -> T {
    if std::env::var_os("RELAY_TEST_NIGHTLY").is_some() { nightly } else { normal }
}

/// Formats milliseconds with one decimal.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Returns the 99th percentile of the times.
pub(crate) fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1]
}

/// Returns the resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Returns the CPU time that a process has used so far, in milliseconds.
pub(crate) fn cpu_ms(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ticks * 1000 / rustix::param::clock_ticks_per_second()
}
