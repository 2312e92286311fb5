//! Live process tree: the processes below the agent, their resource usage, and what they wait for.
//!
//! ```text
//!  subscribe ──► thread "observer": scan ──► snapshot ──► every subscription
//!                  ▲       │ /proc (stat, io, cmdline, environ), sockets on request
//!                  └─ wait ┘ 250 ms … 2 s, by the cost of a scan; ends with the last subscription
//! ```
//!
//! `/proc` is read directly. The sysinfo crate lacks the CPU time of waited-for children, the bytes read from and
//! written to pipes and files in memory, and start times in clock ticks. The procfs crate takes 1.7 times as long.
//!
//! * [`observer`]: the thread and its subscriptions.
//! * [`scan`]: one scan of all processes.
//! * [`snapshot`]: the result of a scan.
//! * [`process_tree`]: the order of the processes in the tree (pure).
//! * [`cmdline`]: arguments and environment.
//! * [`traffic`]: TCP bytes by process, from [`sock_diag`], the kernel's counters by socket.
//! * [`blocked_on`]: what a process waits for.
//! * [`inspector_credentials`]: the credentials for these inspections.

mod blocked_on;
mod cmdline;
#[cfg(test)]
pub(crate) mod fixtures;
mod inspector_credentials;
mod observer;
mod process_tree;
mod scan;
mod snapshot;
mod sock_diag;
mod traffic;

#[cfg(test)]
mod test_support;

pub(crate) use observer::Observer;
pub(crate) use snapshot::{Process, Snapshot};
