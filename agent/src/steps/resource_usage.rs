//! Resource usage of a step's processes, accumulated over snapshots between which processes start and exit. Pure.

use std::collections::HashMap;

use common::event::Resources;

use crate::observe::Process;

/// Total usage so far; never decreases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UsageTotals {
    /// CPU time, in milliseconds.
    pub(crate) cpu_ms: u64,
    /// Bytes read and written, and bytes sent over TCP.
    pub(crate) transferred_bytes: u64,
    /// Bytes received over TCP.
    pub(crate) received_bytes: u64,
}

/// Meter that accumulates the usage of a set of processes.
#[derive(Debug, Default)]
pub(crate) struct UsageMeter {
    totals: UsageTotals,
    /// CPU time of all processes in the last snapshot, in milliseconds. Only the sum is meaningful, because a parent
    /// inherits the usage of its dead children.
    cpu_sum: u64,
    /// Bytes read and written by all processes in the last snapshot. Only the sum is meaningful, as with `cpu_sum`.
    io_sum: u64,
    /// Bytes sent and received by each process until the last snapshot. No parent inherits these counters, so each
    /// process is tracked separately.
    network_by_process: HashMap<(u32, u64), (u64, u64)>,
    peak_memory: u64,
    has_samples: bool,
}

impl UsageMeter {
    /// Adds a snapshot of all processes of the step.
    pub(crate) fn add_snapshot(&mut self, processes: &[Process]) {
        self.has_samples |= !processes.is_empty();
        let cpu_sum: u64 = processes.iter().map(|process| process.cpu_ms).sum();
        let io_sum: u64 = processes.iter().filter_map(|process| process.io_bytes).sum();
        // The sums decrease when an orphan exits, because its usage passes to the shim, which is not part of the step.
        self.totals.cpu_ms += cpu_sum.saturating_sub(self.cpu_sum);
        self.totals.transferred_bytes =
            self.totals.transferred_bytes.saturating_add(io_sum.saturating_sub(self.io_sum));
        (self.cpu_sum, self.io_sum) = (cpu_sum, io_sum);
        let mut network = HashMap::with_capacity(processes.len());
        for process in processes {
            let key = (process.pid, process.start_ticks);
            let now = (process.sent_bytes, process.received_bytes);
            let before = self.network_by_process.get(&key).copied().unwrap_or_default();
            self.totals.transferred_bytes =
                self.totals.transferred_bytes.saturating_add(now.0.saturating_sub(before.0));
            self.totals.received_bytes =
                self.totals.received_bytes.saturating_add(now.1.saturating_sub(before.1));
            network.insert(key, now);
        }
        self.network_by_process = network;
        let memory = processes.iter().map(|process| process.memory_bytes).sum();
        self.peak_memory = self.peak_memory.max(memory);
    }

    /// Returns the total usage so far.
    pub(crate) fn totals(&self) -> UsageTotals {
        self.totals
    }

    /// Returns the usage for the record; `None` if no process was seen.
    pub(crate) fn resources(&self) -> Option<Resources> {
        let resources = Resources { cpu_ms: self.totals.cpu_ms, peak_memory: self.peak_memory };
        self.has_samples.then_some(resources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::fixtures::process;

    #[test]
    fn the_usage_of_exited_processes_is_counted_exactly_once() {
        let mut usage = UsageMeter::default();
        assert_eq!(usage.resources(), None);
        let (mut parent, mut child) = (process(1, 0, "make"), process(2, 1, "cc"));
        (parent.cpu_ms, child.cpu_ms) = (100, 50);
        (parent.io_bytes, child.io_bytes) = (Some(10), Some(1000));
        (parent.memory_bytes, child.memory_bytes) = (4096, 8192);
        usage.add_snapshot(&[parent.clone(), child.clone()]);
        assert_eq!(usage.totals(), UsageTotals { cpu_ms: 150, transferred_bytes: 1010, received_bytes: 0 });
        // The child has exited, and the parent inherits the child's usage.
        (parent.cpu_ms, parent.io_bytes, parent.received_bytes) = (160, Some(1030), 5);
        usage.add_snapshot(&[parent]);
        assert_eq!(usage.totals(), UsageTotals { cpu_ms: 160, transferred_bytes: 1030, received_bytes: 5 });
        assert_eq!(usage.resources(), Some(Resources { cpu_ms: 160, peak_memory: 12_288 }));
    }

    #[test]
    fn the_exit_of_an_orphan_does_not_decrease_the_totals() {
        let mut usage = UsageMeter::default();
        let (mut shell, mut orphan) = (process(1, 0, "sh"), process(2, 1, "x"));
        (shell.cpu_ms, orphan.cpu_ms) = (10, 90);
        usage.add_snapshot(&[shell.clone(), orphan]);
        usage.add_snapshot(&[shell.clone()]);
        shell.cpu_ms = 30;
        usage.add_snapshot(&[shell]);
        assert_eq!(usage.totals().cpu_ms, 120);
    }
}
