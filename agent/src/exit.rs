//! Exit codes of `worker-agent`.

use std::process::ExitCode;

/// Success.
pub(crate) const OK: u8 = 0;
/// The state directory can't be used: permissions are missing, or another agent holds it.
pub(crate) const FAILED: u8 = 1;
/// The command line or the configuration on stdin is wrong.
pub(crate) const USAGE: u8 = 2;

/// Prints one line on stderr and returns the exit code.
#[expect(clippy::print_stderr, reason = "the one place where this program prints messages")]
pub(crate) fn with_line(code: u8, line: &str) -> ExitCode {
    eprintln!("worker-agent: {line}");
    ExitCode::from(code)
}
