//! The shim: one small process between the agent and each command.
//!
//! It is this same binary, single-threaded and without a runtime. As a *child subreaper* it adopts every descendant
//! that loses its parent, so that whatever a command starts stays below it, can be found, killed and reaped.
//!
//! ```text
//!             Run                      leader's exit                   Sweep (0.3 s)
//!  Waiting ─────────► Running ───────────────────────► Exited ──────────────────────────┐
//!     │                │  ▲ │ End, or the agent is gone   │ End, or the agent is gone   ▼
//!     │ spawn fails    └──┘ └─────────────────────────────┴──────────────────────────► Ladder ──► Ended, exit
//!     ▼               Kill: a part                                  nothing left, or the grace is over
//!  SpawnFailed, exit
//! ```
//!
//! * [`protocol`]: what agent and shim say to each other. * [`run`]: the loop. * [`ladder`]: INT, TERM, KILL by time
//!   (pure). * [`tree`]: who is there. * [`kill`]: how they are signalled. * [`spawn`]: the command itself.
//!   [`testament`]: what is left to the next agent.

mod kill;
pub(crate) mod ladder;
pub(crate) mod protocol;
pub(crate) mod run;
mod spawn;
pub(crate) mod testament;
mod tree;

pub(crate) use kill::pause;
