//! Runs all checks at once.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::context::CheckContext;
use super::finding::Finding;
use super::{
    agent, clock, codex, credentials, deliveries, engine, inotify, linger, machine, relay, rules, settings,
    shell, storage, trust,
};

/// Time limit of all checks: a program has 5 s, and no check runs two in a row that hang.
const TIME_LIMIT: Duration = Duration::from_millis(5800);

type Check = fn(&CheckContext) -> Vec<Finding>;

/// Checks in display order: those that others depend on come first. The name is shown for a check that hangs.
const CHECKS: [(&str, Check); 16] = [
    ("settings", settings::check),
    ("trust", trust::check),
    ("registry", storage::registry),
    ("disk", storage::disk),
    ("relay", relay::check),
    ("engine", engine::check),
    ("agent", agent::check),
    ("machine", machine::check),
    ("codex", codex::check),
    ("credentials", credentials::check),
    ("rules", rules::check),
    ("login-shell", shell::check),
    ("clock", clock::check),
    ("inotify", inotify::check),
    ("linger", linger::check),
    ("deliveries", deliveries::check),
];

/// Runs all checks concurrently and returns their findings in a fixed order, after 6 s at the latest.
pub fn run(context: CheckContext) -> Vec<Finding> {
    let deadline = Instant::now() + TIME_LIMIT;
    let context = Arc::new(context);
    let (sender, answers) = channel();
    for (place, (_, check)) in CHECKS.into_iter().enumerate() {
        let (context, sender) = (Arc::clone(&context), sender.clone());
        // A check that hangs, for example in an unreachable file system, ends with the process.
        thread::spawn(move || sender.send((place, check(&context))));
    }
    drop(sender);
    let mut found: [Option<Vec<Finding>>; CHECKS.len()] = [const { None }; CHECKS.len()];
    while let Ok((place, findings)) = answers.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    {
        if let Some(slot) = found.get_mut(place) {
            *slot = Some(findings);
        }
    }
    let late = |name: &'static str| {
        vec![Finding::fail(
            name,
            format!("no answer within {} s", TIME_LIMIT.as_secs_f32().ceil()),
            "check for a file system or a program that hangs",
        )]
    };
    CHECKS.into_iter().zip(found).flat_map(|((name, _), found)| found.unwrap_or_else(|| late(name))).collect()
}
