//! Runner of all checks at once.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::context::CheckContext;
use super::finding::Finding;
use super::{
    agent, clock, codex, credentials, deliveries, engine, inotify, linger, machine, network, relay, rules,
    settings, shell, storage, trust,
};

/// Time limit for all checks together. A program that a check runs has 5 s, and no check waits for two hanging programs
/// in sequence.
const CHECKS_TIMEOUT: Duration = Duration::from_millis(5800);

type CheckFn = fn(&CheckContext) -> Vec<Finding>;

/// Checks in display order: prerequisites of other checks come first. The name is shown if the check hangs.
const CHECKS: [(&str, CheckFn); 17] = [
    ("settings", settings::check_settings),
    ("trust", trust::check_trust),
    ("network", network::check_network),
    ("registry", storage::check_registry),
    ("disk", storage::check_disk),
    ("relay", relay::check_relay),
    ("engine", engine::check_engine),
    ("agent", agent::check_agent),
    ("machine", machine::check_machine),
    ("codex", codex::check_codex),
    ("credentials", credentials::check_credentials),
    ("rules", rules::check_rules),
    ("login-shell", shell::check_login_shell),
    ("clock", clock::check_clocks),
    ("inotify", inotify::check_inotify),
    ("linger", linger::check_linger),
    ("deliveries", deliveries::check_deliveries),
];

/// Runs all checks concurrently and returns their findings in a fixed order, after 6 s at the latest.
pub fn run_checks(context: CheckContext) -> Vec<Finding> {
    let deadline = Instant::now() + CHECKS_TIMEOUT;
    let context = Arc::new(context);
    let (sender, answers) = channel();
    for (index, (_, check)) in CHECKS.into_iter().enumerate() {
        let (context, sender) = (Arc::clone(&context), sender.clone());
        // A check that hangs, for example in an unreachable file system, ends with the process.
        thread::spawn(move || sender.send((index, check(&context))));
    }
    drop(sender);
    let mut findings_of_checks: [Option<Vec<Finding>>; CHECKS.len()] = [const { None }; CHECKS.len()];
    while let Ok((index, findings)) = answers.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    {
        if let Some(slot) = findings_of_checks.get_mut(index) {
            *slot = Some(findings);
        }
    }
    let timeout_findings = |name: &'static str| {
        vec![Finding::fail(
            name,
            format!("no answer within {} s", CHECKS_TIMEOUT.as_secs_f32().ceil()),
            "check for a file system or a program that hangs",
        )]
    };
    CHECKS
        .into_iter()
        .zip(findings_of_checks)
        .flat_map(|((name, _), found)| found.unwrap_or_else(|| timeout_findings(name)))
        .collect()
}
