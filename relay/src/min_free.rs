//! Memory and disk space that a machine must keep free. No job is started on a machine that has less.

use common::vitals::{MachineVitals, Space};
use serde::{Deserialize, Serialize};

use crate::machine_text::format_size;

/// Minimum of free memory or disk space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Minimum {
    /// Default minimum, in bytes, limited to a tenth of the total, so that a small machine can run jobs too.
    Default(u64),
    /// Minimum from the settings, in bytes; 0 for none.
    Set(u64),
}

impl Minimum {
    /// Returns the minimum of a memory or disk of this size, in bytes.
    fn for_total(self, total: u64) -> u64 {
        match self {
            Self::Default(bytes) => bytes.min(total / 10),
            Self::Set(bytes) => bytes,
        }
    }
}

/// Minimums of a machine: `[platform] min_free_memory` and `min_free_disk`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinFree {
    /// Minimum of available memory.
    pub memory: Minimum,
    /// Minimum of available space on the disks of the workspaces and of the agent's state.
    pub disk: Minimum,
}

impl Default for MinFree {
    fn default() -> Self {
        // Enough memory for a worker and a small tool, and enough disk space for the files of a small build.
        Self { memory: Minimum::Default(256 << 20), disk: Minimum::Default(512 << 20) }
    }
}

impl MinFree {
    /// Returns the memory or disk that a machine has too little of, if any. An unknown amount counts as enough.
    pub fn shortage(&self, vitals: &MachineVitals) -> Option<Shortage> {
        let short = |resource, space: Option<Space>, minimum: Minimum| {
            let Space { total, available } = space?;
            let minimum = minimum.for_total(total);
            (available < minimum).then_some(Shortage { resource, available, minimum })
        };
        short(Resource::Memory, vitals.memory, self.memory)
            .or_else(|| short(Resource::Workspaces, vitals.workspaces, self.disk))
            .or_else(|| short(Resource::State, vitals.state, self.disk))
    }
}

/// Memory or a disk of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// The machine's memory.
    Memory,
    /// The disk of the platform's workspaces.
    Workspaces,
    /// The disk of the agent's state.
    State,
}

/// A lack of memory or disk space on a machine. No job is started there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// Memory or disk.
    pub resource: Resource,
    /// Available amount, in bytes.
    pub available: u64,
    /// Minimum that should be available, in bytes.
    pub minimum: u64,
}

impl Shortage {
    /// Formats the shortage for people, with the setting that defines the minimum.
    pub fn describe(&self) -> String {
        let (what, setting) = match self.resource {
            Resource::Memory => ("of memory free", "min_free_memory"),
            Resource::Workspaces => ("free on the disk of the workspaces", "min_free_disk"),
            Resource::State => ("free on the disk of the agent's state", "min_free_disk"),
        };
        let (available, minimum) = (format_size(self.available), format_size(self.minimum));
        format!(
            "the machine has {available} {what}, less than the reserve of {minimum} ([platform] {setting})"
        )
    }

    /// Returns advice for people how to end the shortage.
    pub fn advice(&self) -> &'static str {
        match self.resource {
            Resource::Memory => {
                "queued jobs start when there is more: end what uses it, or lower the setting"
            }
            Resource::Workspaces | Resource::State => {
                "queued jobs start when there is more: delete what is not needed, or lower the setting"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn vitals(memory: u64, workspaces: u64, state: u64) -> MachineVitals {
        let space = |available| Some(Space { total: 8192 * MIB, available: available * MIB });
        let (memory, workspaces, state) = (space(memory), space(workspaces), space(state));
        MachineVitals { memory, workspaces, state, ..MachineVitals::default() }
    }

    fn shortage(min: MinFree, vitals: &MachineVitals) -> Option<String> {
        min.shortage(vitals).map(|shortage| shortage.describe())
    }

    #[test]
    fn a_shortage_names_the_first_resource_below_its_minimum() {
        let default = MinFree::default();
        assert_eq!(shortage(default, &vitals(256, 512, 512)), None);
        assert_eq!(
            shortage(default, &vitals(180, 0, 0)).as_deref(),
            Some(
                "the machine has 180 MiB of memory free, less than the reserve of 256 MiB ([platform] min_free_memory)"
            )
        );
        assert_eq!(
            shortage(default, &vitals(256, 511, 512)).as_deref(),
            Some(
                "the machine has 511 MiB free on the disk of the workspaces, less than the reserve of 512 MiB \
                 ([platform] min_free_disk)"
            )
        );
        let state = default.shortage(&vitals(256, 512, 0)).map(|shortage| shortage.resource);
        assert_eq!(state, Some(Resource::State));
    }

    #[test]
    fn unknown_vitals_and_disabled_minimums_are_no_shortage() {
        assert_eq!(MinFree::default().shortage(&MachineVitals::default()), None);
        let off = MinFree { memory: Minimum::Set(0), disk: Minimum::Set(0) };
        assert_eq!(off.shortage(&vitals(0, 0, 0)), None);
    }

    #[test]
    fn a_default_minimum_is_at_most_a_tenth_of_the_total_but_a_setting_is_not() {
        let small = Some(Space { total: 100 * MIB, available: 10 * MIB });
        let vitals = MachineVitals { memory: small, state: small, ..MachineVitals::default() };
        assert_eq!(MinFree::default().shortage(&vitals), None);
        let set = MinFree { memory: Minimum::Set(11 * MIB), ..MinFree::default() };
        assert!(set.shortage(&vitals).is_some());
    }
}
