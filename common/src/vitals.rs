//! Vitals of the machine that an agent runs on: CPUs, load, memory and disks.

use serde::{Deserialize, Serialize};

/// Vitals of a machine, as its agent measured them. A value is `None` if it can't be measured, for example if a disk
/// hangs. The wire encodes this type in a binary format, so it has no serde attributes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineVitals {
    /// Number of CPUs that agent and workers may use at once: those of the machine, or the quota of the agent's cgroup.
    pub cores: u32,
    /// Load average of the last minute, in thousandths. In a container this is the load of the whole machine.
    pub load_milli: u32,
    /// Memory of the machine, or of the agent's cgroup if the cgroup has a limit. Memory that the kernel can reclaim,
    /// such as its caches, counts as available.
    pub memory: Option<Space>,
    /// Memory limit of the agent's cgroup, in bytes; `None` if there is no limit below the memory of the machine.
    pub memory_limit: Option<u64>,
    /// Swap of the machine.
    pub swap: Option<Space>,
    /// Space on the disk of the workspaces. If they are on several disks, of the one with the least space available.
    pub workspaces: Option<Space>,
    /// Space on the disk of the agent's state, where events and output stay until the relay has them.
    pub state: Option<Space>,
}

/// Size and free part of memory, swap or a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Size, in bytes.
    pub total: u64,
    /// Part that programs without special privileges can still use, in bytes.
    pub available: u64,
}
