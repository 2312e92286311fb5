//! The shim: one small process between the agent and each command.
//!
//! It is this same binary, single-threaded and without a runtime. As a *child subreaper* it adopts every descendant
//! that loses its parent, so that whatever a command starts stays below it, can be found, killed and reaped.
//!
//! ```text
//!             Run                      leader's exit                 Sweep
//!  Waiting ─────────► Running ───────────────────────► Exited ─────────────────► Sweeping ──► Ended, exit
//!     │                  │ End, or the agent is gone      │ End, or the agent is gone  ▲
//!     │ spawn fails      └────────────► Ladder ◄──────────┘                            │
//!     ▼                                   └── nothing left, or the grace is over ──────┘
//!  SpawnFailed, exit
//! ```
//!
//! * [`protocol`]: what agent and shim say to each other. * [`run`]: the loop. * [`ladder`]: INT, TERM, KILL by time
//!   (pure). * [`tree`]: descendants and how they are signalled. * [`spawn`]: the command itself.

pub(crate) mod ladder;
pub(crate) mod protocol;
pub(crate) mod run;
mod spawn;
mod tree;

pub(crate) use tree::pause;
