//! The command line: one file per command.
//!
//! ```text
//! argv ─ args ─► dispatch ─► context (root, registry, streams) ─► launch │ status │ logs │ … ─► exit code
//!                             launch, run, resume, retry: raw flags ─ resolve ─► Launch ─ submit ─► registry
//! ```
//!
//! * [`args`]: commands and global flags; each command's own flags are in its file.
//! * [`resolve`]: flags → a launch with every option decided. [`submit`]: a launch → a job in the registry.
//! * [`limits`]: time limits among those flags. [`prompt`]: the task. [`caller`]: the calling session of a host agent.
//! * [`find`]: user input → a job. [`facts`]: context of a record. [`outcome`]: record → exit code.
//! * [`follow`]: waiting for a job. [`told`]: the claim of a completion notice.
//! * [`follow_up`]: an earlier job and flags → a launch.
//! * [`agree`]: a person's approval of the settings. [`mcp`]: the commands as tools of a host agent.
//! * [`help`]: layout of the help, examples and topics.
//! * [`hints`]: notes about unexpected properties of a workspace. [`complete`]: shell completion of jobs.

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
mod help;
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
