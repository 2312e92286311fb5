//! The command line: one file per command.
//!
//! ```text
//! argv ─ args ─► dispatch ─► context (root, registry, streams) ─► launch │ status │ logs │ … ─► exit code
//!                             launch, run, resume, retry: raw flags ─ resolve ─► Launch ─ submit ─► registry
//! ```
//!
//! * [`args`]: commands and global flags; each command's own flags are in its file.
//! * [`resolve`]: flags → a launch with every option decided. [`submit`]: a launch → a job in the registry.
//! * [`limits`]: time limits among those flags. [`prompt`]: the task. [`session`]: the calling session of a host agent.
//! * [`job_ref`]: user input → a job. [`view_context`]: context of a record. [`exit_code`]: record → exit code.
//! * [`follow`]: waiting for a job. [`claim_notice`]: the claim of a completion notice.
//! * [`follow_up`]: an earlier job and flags → a launch.
//! * [`approve`]: a person's approval of the settings. [`mcp`]: the commands as tools of a host agent.
//! * [`hints`]: notes about unexpected properties of a workspace. [`candidates`]: shell completion of jobs.

mod approve;
mod args;
mod session;
mod cancel;
mod candidates;
mod completions;
mod context;
mod dispatch;
mod doctor;
mod down;
mod events;
mod explain;
mod extend;
mod view_context;
mod job_ref;
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
mod exit_code;
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
mod claim_notice;
mod top;
mod up;
mod wait;

pub use context::Context;
pub use dispatch::main;
