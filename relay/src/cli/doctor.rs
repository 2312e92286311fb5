//! `relay doctor`

use clap::Args;

use super::Context;
use super::help::after_help;
use crate::doctor::{self, CheckContext, State};
use crate::exit::Code;

/// Flags of `relay doctor`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Exit code: 5 if a check fails, else 0 (also with warnings). With --json one object per line: \
     check, state (ok, skipped, warn, fail), detail, fix.",
    ["relay doctor", "relay doctor --json"]
))]
pub struct DoctorArgs {}

/// Runs all checks and prints the findings, each problem with its fix.
pub fn run(_: &DoctorArgs, context: &Context) -> Code {
    let output = &context.output;
    let findings = doctor::run(CheckContext::new(&context.root, &context.registry, context.initiator()));
    if output.json {
        for finding in &findings {
            output.json(finding);
        }
    } else {
        let marks = doctor::text::Marks::of_locale(&|name| std::env::var(name).ok());
        output.print(&doctor::text::list(&findings, marks, output.paint));
    }
    let fails = findings.iter().any(|finding| finding.state == State::Fail);
    if fails { Code::Unreachable } else { Code::Done }
}
