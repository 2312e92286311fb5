//! The command line: one command a file.
//!
//! ```text
//! argv ─ args ─► dispatch ─► context (root, registry, streams) ─► launch │ status │ logs │ … ─► exit code
//!                             launch, run, resume, retry: raw flags ─ resolve ─► Launch ─ submit ─► registry
//! ```
//!
//! * [`args`]: the commands and the global flags; each command's own flags are in its file.
//! * [`resolve`]: flags → what to launch, without options. [`submit`]: that → a job in the registry.
//! * [`limits`]: the time limits among those flags; [`prompt`]: the task. [`caller`]: the session of the host agent that called.
//! * [`find`]: what users type → a job. [`facts`]: what is known beside a record. [`outcome`]: record → exit code.
//! * [`follow`]: waiting for a job. [`told`]: a command that tells of its end. [`follow_up`]: an earlier job and flags → what to launch.
//! * [`agree`]: a person's consent to the settings. [`mcp`]: the commands as tools of a host agent.
//! * [`hints`]: what a person may not expect of a workspace. [`complete`]: the jobs that a shell offers.

mod agree;
mod args;
mod caller;
mod cancel;
mod complete;
mod completions;
mod context;
mod dispatch;
mod doctor;
mod down;
mod events;
mod explain;
mod extend;
mod facts;
mod find;
mod follow;
mod follow_up;
mod hints;
mod hook;
mod init;
mod launch;
mod limits;
mod logs;
mod mcp;
mod notices;
mod outcome;
mod prompt;
mod prune;
mod resolve;
mod restart;
mod resume;
mod retry;
mod run;
mod schema;
mod serve;
mod status;
mod submit;
mod told;
mod top;
mod up;
mod wait;

pub use context::Context;
pub use dispatch::main;
