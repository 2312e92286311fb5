//! Types and formats shared by the agent and the relay.
//!
//! ```text
//!            events                       wire                        registry
//! agent ── Event{at, body} ── spool ── AgentFrame::Events ── relay ── EventLine (JSON + crc) ── JobRecord
//! relay ── JobSpec (JSON)  ─────────── RelayFrame::Start  ── agent       (the fold)
//! ```
//!
//! * [`ids`]: job names and job ids.
//! * [`job`]: the job spec, with the task, the workspace and the limits of a job.
//! * [`rule`]: rules of `relay.toml` for steps. * [`expectation`]: what a job must leave behind to complete.
//! * [`origin`]: the session that launched a job, and the job that it follows.
//! * [`event`]: events of a job; [`event_line`]: lines of the registry's event log, one for each event.
//! * [`record`]: the job record, a pure fold of the job's events (`fold`, `model_fold`), with the job's [`step`]s
//!   and [`warnings`]; [`summary`]: the closing text of a job.
//! * [`place`]: the clone that a job works in; [`result`]: the branch with the job's commits; [`evidence`]: the checks
//!   that ran and the version of Codex, as the agent reports them.
//! * [`folder`]: use of folders by jobs that work in place. [`git_link`]: folders of git outside of a workspace.
//! * [`wait_reason`]: reasons why a queued job waits. [`model_usage`]: tokens that the relay counts for a job;
//!   [`budget`]: their limits. [`hold`]: jobs that wait until the account can use the model again.
//!   [`refused_hosts`]: hosts that a job may not reach; [`secret_route`]: names of secrets that the relay adds to a job's
//!   requests.
//! * [`wire`]: the frames between agent and relay. * [`stream`]: git's bytes beside the events on one connection.
//! * [`text_format`]: bounding and cleaning of untrusted text; [`json`]: JSON that is safe to display.
//! * [`duration`]: limits as people write them. * [`time_scale`]: times that do not jump with the wall clock.
//! * [`vitals`]: memory, load and disks of an agent's machine.
//! * [`bounded`]: lists with a maximum length. [`version`]: versions of programs.
//! * [`codex_args`], [`env_policy`]: arguments and variables that can bypass Codex's sandbox.
//!
//! Nothing in this crate opens files or sockets, or reads a clock.

pub mod bounded;
pub mod budget;
pub mod codex_args;
pub mod duration;
pub mod env_policy;
pub mod event;
pub mod event_line;
pub mod evidence;
pub mod expectation;
mod failure_kind;
mod fold;
pub mod folder;
pub mod git_link;
pub mod hold;
pub mod ids;
pub mod job;
pub mod json;
mod model_fold;
pub mod model_usage;
pub mod origin;
pub mod place;
pub mod record;
pub mod refused_hosts;
pub mod result;
pub mod rule;
pub mod secret_route;
pub mod step;
mod step_kind;
pub mod stream;
pub mod summary;
pub mod text_format;
pub mod time_scale;
mod usage;
pub mod version;
pub mod vitals;
pub mod wait_reason;
pub mod warnings;
pub mod wire;
