//! Exit codes of `worker-agent`.

use std::process::ExitCode;

/// Success.
pub(crate) const OK: u8 = 0;
/// The command failed; for example, permissions for the state directory are missing, or another agent holds it.
pub(crate) const FAILED: u8 = 1;
/// The command line or the configuration on stdin is wrong.
pub(crate) const USAGE: u8 = 2;

/// Prints a message of one line on stderr, and returns `code` as the exit code.
#[expect(clippy::print_stderr, reason = "the one place where this program prints messages")]
pub(crate) fn print_error(code: u8, line: &str) -> ExitCode {
    eprintln!("worker-agent: {line}");
    ExitCode::from(code)
}
