//! Vitals of the machine: CPUs, load, memory and disks.
//!
//! ```text
//!  machine (sysinfo) ─┐
//!                     ├─► monitor, a thread, every few seconds ──► newest measurement ─► uplink, supervisors
//!  disk, a thread for ┘
//!  each measurement
//! ```
//!
//! * [`monitor`]: measures periodically, and keeps the newest measurement.
//! * [`machine`]: CPUs, load and memory.
//! * [`disk`]: free space of disks, which may hang.

mod disk;
mod machine;
mod monitor;

pub(crate) use monitor::VitalsMonitor;
