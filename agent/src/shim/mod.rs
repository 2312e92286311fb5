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
//!   [`testament`]: what is left to the next agent. [`outer`]: a command in a sandbox,
//!   [`outputs`]: whose output does not go through the sandbox's own programs.

mod kill;
pub(crate) mod ladder;
mod outer;
mod outputs;
pub(crate) mod protocol;
pub(crate) mod run;
mod spawn;
pub(crate) mod testament;
mod tree;

pub(crate) use kill::{pause, sweep_left};

/// How ready the kernel is to end a process for its memory.
const OOM: &str = "/proc/self/oom_score_adj";
/// How much readier for a command than for its agent: as if it used half of all memory more.
const EASIER: i32 = 500;

/// Makes this process and all that it starts end before its agent when the memory runs out. Of a shim and its command
/// the larger one goes first, which is the command.
///
/// Call it before the process is made unreadable: that takes its own `/proc` away from a process that is not root.
pub(crate) fn go_first() {
    let own = std::fs::read_to_string(OOM).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(own) = own {
        // Where it can't be set, size alone decides.
        let _ = std::fs::write(OOM, (own + EASIER).min(1000).to_string());
    }
}
