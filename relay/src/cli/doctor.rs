//! The command `relay doctor`.

use clap::Args;

use super::Context;
use super::help::after_help;
use crate::doctor::{self, CheckContext, State};
use crate::exit::ExitCode;

/// Flags of `relay doctor`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Exit code: 5 if a check fails, else 0 (also with warnings). With --json one object per line: \
     check, state (ok, skipped, warn, fail), detail, fix.",
    ["relay doctor", "relay doctor --json"]
))]
pub struct DoctorArgs {}

/// Runs all checks and prints the findings, each problem with its fix.
pub fn run(_: &DoctorArgs, context: &Context) -> ExitCode {
    let output = &context.output;
    let findings =
        doctor::run_checks(CheckContext::new(&context.root, &context.registry, context.initiator()));
    if output.json {
        for finding in &findings {
            output.print_json(finding);
        }
    } else {
        let marks = doctor::text::StateMarks::for_locale(&|name| std::env::var(name).ok());
        output.print(&doctor::text::format_findings(&findings, marks, output.paint));
    }
    let has_failure = findings.iter().any(|finding| finding.state == State::Fail);
    if has_failure { ExitCode::Unreachable } else { ExitCode::Done }
}
