//! Description of what a step's processes were doing when it timed out, for people.

use common::{duration, text};

use super::stall::IdleUsage;
use crate::observe::Process;

/// Maximum number of processes examined for an error: the newest, which do the work of the others.
const MAX_INSPECTED: usize = 16;
/// Maximum length of a process name, in bytes; the kernel keeps 15.
const MAX_NAME: usize = 40;

/// The part of a process that an error message needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessSummary {
    pid: u32,
    name: String,
}

/// Describes what a process waits for.
pub(crate) type Inspect<'a> = &'a dyn Fn(u32) -> Option<String>;

/// Returns the newest processes of a step, oldest first.
pub(super) fn summaries(processes: &[Process]) -> Vec<ProcessSummary> {
    let living: Vec<&Process> = processes.iter().filter(|process| !process.zombie).collect();
    let newest = &living[living.len().saturating_sub(MAX_INSPECTED)..];
    let summary = |process: &&Process| ProcessSummary {
        pid: process.pid,
        name: text::one_line(&process.name, MAX_NAME),
    };
    newest.iter().map(summary).collect()
}

/// Formats a stall: `node (pid 312): 0.0 % CPU, 0 bytes in 2m, waiting on TCP 10.0.0.1:443 ESTABLISHED`.
pub(super) fn describe_stall(processes: &[ProcessSummary], quiet: IdleUsage, inspect: Inspect<'_>) -> String {
    let (who, waits) = most_telling(processes, inspect);
    let per_mille = quiet.cpu.as_millis() * 1000 / quiet.time.as_millis().max(1);
    let rounded = quiet.time.as_millis().next_multiple_of(100);
    format!(
        "{who}: {}.{} % CPU, {} bytes in {}{waits}",
        per_mille / 10,
        per_mille % 10,
        quiet.bytes,
        duration::short(u64::try_from(rounded).unwrap_or(u64::MAX)),
    )
}

/// Formats a timeout: `node (pid 312) was waiting on TCP 10.0.0.1:443 ESTABLISHED`; empty if nothing is known.
pub(super) fn describe_timeout(processes: &[ProcessSummary], inspect: Inspect<'_>) -> String {
    if processes.is_empty() {
        return String::new();
    }
    let (who, waits) = most_telling(processes, inspect);
    format!("{who} was {}", waits.strip_prefix(", ").unwrap_or("running"))
}

/// Returns the most telling process: the newest one that waits on the network, or else the newest of all.
fn most_telling(processes: &[ProcessSummary], inspect: Inspect<'_>) -> (String, String) {
    let seen: Vec<_> = processes.iter().rev().map(|process| (process, inspect(process.pid))).collect();
    let on_network = seen.iter().find(|(_, waits)| waits.as_ref().is_some_and(|waits| waits.contains("TCP")));
    match on_network.or(seen.first()) {
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
        summaries(&processes)
    }

    #[test]
    fn a_stall_names_the_process_that_waits_on_the_network_and_what_it_did() {
        let quiet =
            IdleUsage { time: Duration::from_millis(10_020), cpu: Duration::from_millis(54), bytes: 120 };
        assert_eq!(
            describe_stall(&tree(), quiet, &inspect),
            "npm install (pid 2): 0.5 % CPU, 120 bytes in 10.1s, waiting on TCP 127.0.0.1:4873 ESTABLISHED"
        );
        assert_eq!(describe_stall(&[], quiet, &inspect), "no process: 0.5 % CPU, 120 bytes in 10.1s");
    }

    #[test]
    fn a_timeout_says_what_was_waited_for_as_far_as_it_is_known() {
        assert_eq!(
            describe_timeout(&tree(), &inspect),
            "npm install (pid 2) was waiting on TCP 127.0.0.1:4873 ESTABLISHED"
        );
        assert_eq!(describe_timeout(&tree()[..1], &inspect), "sh (pid 1) was running");
        assert_eq!(describe_timeout(&[], &inspect), "");
    }
}
