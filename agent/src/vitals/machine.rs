//! CPUs, load and memory of the machine. CPUs and memory respect the limits of the agent's cgroup; load and swap are
//! always the machine's.

use std::thread;

use common::vitals::{MachineVitals, Space};
use sysinfo::{MemoryRefreshKind, System};

/// Meter of the machine. It reads only values in the kernel's memory, so it never waits for a disk.
#[derive(Debug)]
pub(super) struct Machine {
    system: System,
}

impl Machine {
    /// Creates a meter, which has measured nothing yet.
    pub(super) fn new() -> Self {
        Self { system: System::new() }
    }

    /// Measures CPUs, load and memory. The disks stay unknown.
    pub(super) fn measure(&mut self) -> MachineVitals {
        self.system.refresh_memory_specifics(MemoryRefreshKind::everything());
        let (memory, memory_limit) = self.memory();
        MachineVitals {
            // sysinfo counts all CPUs of the machine. This number respects the limits of a cgroup or an affinity.
            cores: thread::available_parallelism().map_or(0, |cores| u32::try_from(cores.get()).unwrap_or(0)),
            load_milli: thousandths(System::load_average().one),
            memory,
            memory_limit,
            swap: memory
                .map(|_| Space { total: self.system.total_swap(), available: self.system.free_swap() }),
            workspaces: None,
            state: None,
        }
    }

    /// Returns the memory, and the cgroup's limit if there is one below the machine's memory. Without a readable
    /// `/proc` both are unknown.
    fn memory(&self) -> (Option<Space>, Option<u64>) {
        let total = self.system.total_memory();
        if total == 0 {
            return (None, None);
        }
        let machine = Space { total, available: self.system.available_memory() };
        let limits = self.system.cgroup_limits().filter(|limits| limits.total_memory < total);
        match limits {
            None => (Some(machine), None),
            // sysinfo's free memory of a cgroup counts the page cache, which can be reclaimed, as used.
            Some(limits) => {
                let limited = cgroup_memory(machine, limits.total_memory, limits.rss);
                (Some(limited), Some(limits.total_memory))
            }
        }
    }
}

/// Returns the memory of a cgroup with this limit, of which its processes use `used` bytes.
fn cgroup_memory(machine: Space, limit: u64, used: u64) -> Space {
    Space { total: limit, available: machine.available.min(limit.saturating_sub(used)) }
}

fn thousandths(load: f64) -> u32 {
    // The number is converted through text, because a cast from a float to an integer can silently be inexact.
    format!("{:.0}", load * 1000.0).parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn meminfo(key: &str) -> u64 {
        let text = fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap() * 1024
    }

    #[test]
    fn the_machine_is_measured_as_the_kernel_shows_it() {
        let vitals = Machine::new().measure();
        assert_eq!(Ok(vitals.cores), thread::available_parallelism().unwrap().get().try_into());
        let memory = vitals.memory.unwrap();
        assert_eq!(memory.total, vitals.memory_limit.unwrap_or_else(|| meminfo("MemTotal:")));
        assert!(0 < memory.available && memory.available < memory.total, "{memory:?}");
        assert_eq!(vitals.swap.unwrap().total, meminfo("SwapTotal:"));
        let load = fs::read_to_string("/proc/loadavg").unwrap();
        let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
        assert!(thousandths(load).abs_diff(vitals.load_milli) < 1000, "{load} and {vitals:?}");
    }

    #[test]
    fn the_available_memory_of_a_cgroup_depends_on_its_limit_and_use() {
        let machine = Space { total: 1000, available: 300 };
        assert_eq!(cgroup_memory(machine, 500, 100), Space { total: 500, available: 300 });
        assert_eq!(cgroup_memory(machine, 500, 450), Space { total: 500, available: 50 });
        assert_eq!(cgroup_memory(machine, 500, 501), Space { total: 500, available: 0 });
    }

    #[test]
    fn a_load_is_rounded_and_never_negative() {
        assert_eq!([0.0, 1.2504, -1.0, f64::NAN, f64::INFINITY].map(thousandths), [0, 1250, 0, 0, 0]);
    }
}
