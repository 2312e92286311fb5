//! Live process tree: the processes below the agent, their resource usage, and what they wait for.
//!
//! ```text
//!  subscribe ──► thread "observer": scan ──► snapshot ──► every subscription
//!                  ▲       │ /proc (stat, io, cmdline, environ), sockets on request
//!                  └─ wait ┘ 250 ms … 2 s, by the cost of a scan; ends with the last subscription
//! ```
//!
//! `/proc` is read directly. The sysinfo crate has neither the CPU time of waited-for children nor the bytes read and
//! written of pipes and files in memory nor start times in clock ticks, and the procfs crate takes 1.7 times as long.
//!
//! * [`observer`]: the thread and its subscriptions.
//! * [`scan`]: one scan.
//! * [`snapshot`]: its result.
//! * [`order`]: the order of the tree (pure).
//! * [`words`]: arguments and environment.
//! * [`traffic`]: TCP bytes by process, from [`diag`], the kernel's counters by socket.
//! * [`waits`]: what a process waits for.
//! * [`eyes`]: the credentials to see that.

mod diag;
mod eyes;
mod observer;
mod order;
#[cfg(test)]
pub(crate) mod samples;
mod scan;
mod snapshot;
mod traffic;
mod waits;
mod words;

#[cfg(test)]
mod support;

pub(crate) use observer::Observer;
pub(crate) use snapshot::{Process, Snapshot};
