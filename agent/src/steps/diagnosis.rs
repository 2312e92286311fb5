//! Description of a step's processes when the step stalls or times out, for display.

use common::{duration, text_format};

use super::stall::IdleUsage;
use crate::observe::Process;

/// Maximum number of processes examined for an error message: the newest ones, which usually do the actual work.
const MAX_INSPECTED_PROCESSES: usize = 16;
/// Maximum length of a process name in a message, in bytes.
const MAX_NAME: usize = 40;

/// Properties of a process for an error message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessSummary {
    pid: u32,
    name: String,
}

/// Function that describes what the process with an id waits for.
pub(crate) type Inspect<'a> = &'a dyn Fn(u32) -> Option<String>;

/// Returns the newest processes of a step, oldest first.
pub(super) fn newest_summaries(processes: &[Process]) -> Vec<ProcessSummary> {
    let living: Vec<&Process> = processes.iter().filter(|process| !process.is_zombie).collect();
    let newest = &living[living.len().saturating_sub(MAX_INSPECTED_PROCESSES)..];
    let summary = |process: &&Process| ProcessSummary {
        pid: process.pid,
        name: text_format::one_line(&process.name, MAX_NAME),
    };
    newest.iter().map(summary).collect()
}

/// Formats a stall: `node (pid 312): 0.0 % CPU, 0 bytes in 2m, waiting on TCP 10.0.0.1:443 ESTABLISHED`.
pub(super) fn describe_stall(
    processes: &[ProcessSummary],
    idle_usage: IdleUsage,
    inspect: Inspect<'_>,
) -> String {
    let (culprit, waits) = most_likely_culprit(processes, inspect);
    let per_mille = idle_usage.cpu_time.as_millis() * 1000 / idle_usage.window.as_millis().max(1);
    let rounded = idle_usage.window.as_millis().next_multiple_of(100);
    format!(
        "{culprit}: {}.{} % CPU, {} bytes in {}{waits}",
        per_mille / 10,
        per_mille % 10,
        idle_usage.bytes,
        duration::format_duration(u64::try_from(rounded).unwrap_or(u64::MAX)),
    )
}

/// Formats a timeout: `node (pid 312) was waiting on TCP 10.0.0.1:443 ESTABLISHED`; empty if nothing is known.
pub(super) fn describe_timeout(processes: &[ProcessSummary], inspect: Inspect<'_>) -> String {
    if processes.is_empty() {
        return String::new();
    }
    let (culprit, waits) = most_likely_culprit(processes, inspect);
    format!("{culprit} was {}", waits.strip_prefix(", ").unwrap_or("running"))
}

/// Returns the most likely cause: the newest process that waits for the network, or else the newest of all, and what it
/// waits for.
fn most_likely_culprit(processes: &[ProcessSummary], inspect: Inspect<'_>) -> (String, String) {
    let inspected: Vec<_> = processes.iter().rev().map(|process| (process, inspect(process.pid))).collect();
    let on_network =
        inspected.iter().find(|(_, waits)| waits.as_ref().is_some_and(|waits| waits.contains("TCP")));
    match on_network.or(inspected.first()) {
        None => ("no process".to_owned(), String::new()),
        Some((process, waits)) => (
            format!("{} (pid {})", process.name, process.pid),
            waits.as_ref().map(|waits| format!(", {waits}")).unwrap_or_default(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observe::fixtures::process;

    fn inspect(pid: u32) -> Option<String> {
        match pid {
            2 => Some("waiting on TCP 127.0.0.1:4873 ESTABLISHED".to_owned()),
            3 => Some("sleeping in do_epoll_wait".to_owned()),
            _ => None,
        }
    }

    fn tree() -> Vec<ProcessSummary> {
        let processes = [process(1, 0, "sh"), process(2, 1, "npm install"), process(3, 2, "node")];
        newest_summaries(&processes)
    }

    #[test]
    fn a_stall_names_the_process_that_waits_on_the_network_and_what_it_did() {
        let idle_usage = IdleUsage {
            window: Duration::from_millis(10_020),
            cpu_time: Duration::from_millis(54),
            bytes: 120,
        };
        assert_eq!(
            describe_stall(&tree(), idle_usage, &inspect),
            "npm install (pid 2): 0.5 % CPU, 120 bytes in 10.1s, waiting on TCP 127.0.0.1:4873 ESTABLISHED"
        );
        assert_eq!(describe_stall(&[], idle_usage, &inspect), "no process: 0.5 % CPU, 120 bytes in 10.1s");
    }

    #[test]
    fn a_timeout_names_what_was_waited_for_as_far_as_it_is_known() {
        assert_eq!(
            describe_timeout(&tree(), &inspect),
            "npm install (pid 2) was waiting on TCP 127.0.0.1:4873 ESTABLISHED"
        );
        assert_eq!(describe_timeout(&tree()[..1], &inspect), "sh (pid 1) was running");
        assert_eq!(describe_timeout(&[], &inspect), "");
    }
}
