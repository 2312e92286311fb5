//! The command line of relay, with one file per command.
//!
//! ```text
//! argv ─ commands ─► dispatch ─► context (root, registry, streams) ─► launch │ status │ logs │ … ─► exit code
//!                             launch, run, resume, retry: flags ─ resolve ─► Launch ─ submit ─► registry
//! ```
//!
//! * [`commands`]: the list of commands; each command's own flags are in its file. [`global`]: flags of every command.
//! * [`resolve`]: a launch with every option decided. [`submit`]: creation of the job in the registry.
//! * [`place`]: the job's own clone of a repository; [`base_job`]: an earlier job whose result it starts from.
//!   [`attempts`]: several jobs with the same task. [`diff`], [`apply`], [`merge`], [`discard`], [`compare`]: results;
//!   [`job_result`]: the search for a result. [`receipt`], [`verify`]: signed statements about jobs. [`output`]: the
//!   files that a job left.
//! * [`images`]: images that a worker gets with the task. [`budget`]: checks of its budget for the model.
//! * [`limits`]: flags for time limits. [`prompt`]: the task. [`session`]: the calling session of a host agent.
//! * [`schedule`]: what a job waits for. [`actions`]: flags with one of two names.
//! * [`job_ref`]: resolution of jobs in user input. [`job_filter`]: selection of jobs by state, time, group and text.
//! * [`view_context`]: context for the display of a record. [`exit_code`]: exit codes for records.
//! * [`follow`]: waiting for a job. [`claim_notice`]: the claim of a completion notice.
//! * [`follow_up`]: an earlier job that a new job continues. [`retry_failed`]: follow-ups of all failed jobs.
//! * [`secret`]: secrets that relay adds to the requests of jobs; [`secret_value`]: a value that is read without echo.
//! * [`approve`]: a person's approval of the settings. [`mcp`]: the commands as tools of a host agent.
//! * [`help`]: layout of the help, examples and topics.
//! * [`hints`]: notes about unexpected properties of a workspace. [`candidates`]: shell completion of jobs.

mod actions;
mod apply;
mod approve;
mod attempts;
mod base_job;
mod budget;
mod cancel;
mod candidates;
mod claim_notice;
mod commands;
mod compare;
mod completions;
mod context;
mod diff;
mod discard;
mod dispatch;
mod doctor;
mod down;
mod events;
mod exit_code;
mod explain;
mod extend;
mod follow;
mod follow_up;
mod global;
mod help;
mod hints;
mod hook;
mod images;
mod init;
mod job_filter;
mod job_ref;
mod job_result;
mod launch;
mod limits;
mod logs;
mod mcp;
mod merge;
mod notices;
mod output;
mod place;
mod prompt;
mod prune;
mod receipt;
mod resolve;
mod restart;
mod resume;
mod retry;
mod retry_failed;
mod run;
mod schedule;
mod schema;
mod secret;
mod secret_value;
mod serve;
mod session;
mod shell;
mod status;
mod submit;
mod top;
mod up;
mod usage;
mod verify;
mod view_context;
mod wait;

pub use context::Context;
pub use dispatch::main;
