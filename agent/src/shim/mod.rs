//! The shim: one small process between the agent and each command.
//!
//! The shim is this same binary, single-threaded and without an async runtime. As a *child subreaper* it adopts every
//! descendant that loses its parent, so that all processes of a command stay below it, and can be found, killed and
//! reaped.
//!
//! ```text
//!             Run                      leader's exit                   Sweep (0.3 s)
//!  Waiting ─────────► Running ───────────────────────► Exited ──────────────────────────┐
//!     │                │  ▲ │ End, or the agent is gone   │ End, or the agent is gone   ▼
//!     │ spawn fails    └──┘ └─────────────────────────────┴──────────────────────────► Escalation ──► Ended, exit
//!     ▼               Kill: a subtree                                  nothing left, or the grace is over
//!  SpawnFailed, exit
//! ```
//!
//! * [`protocol`]: messages between agent and shim.
//! * [`run`]: the main loop.
//! * [`escalation`]: INT, TERM, KILL by time (pure).
//! * [`tree`]: the processes below the shim.
//! * [`kill`]: signalling and reaping.
//! * [`spawn`]: start of the command.
//! * [`orphan_report`]: the report for the next agent.
//! * [`outer_shim`]: the shim around a command in a sandbox.
//! * [`output_fds`]: output of a sandboxed command, which bypasses the sandbox's own programs.

pub(crate) mod escalation;
mod kill;
pub(crate) mod orphan_report;
mod outer_shim;
mod output_fds;
pub(crate) mod protocol;
pub(crate) mod run;
mod spawn;
mod tree;

pub(crate) use kill::{pause, sweep_leftover};

/// File with the OOM score adjustment of this process, by which the kernel chooses what to kill.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";
/// Score added for a command: equivalent to half of all memory.
const SCORE_OFFSET: i32 = 500;

/// Makes the kernel kill this process and its children before its agent when memory runs out. Of shim and command the
/// kernel kills the larger one first: the command.
///
/// Must be called before the process is made unreadable: after that, only root can write to its `/proc` files.
pub(crate) fn raise_oom_score() {
    let own_score = std::fs::read_to_string(OOM_SCORE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(own_score) = own_score {
        // If the score can't be set, only the size decides.
        let _ = std::fs::write(OOM_SCORE, (own_score + SCORE_OFFSET).min(1000).to_string());
    }
}
