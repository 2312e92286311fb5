//! What the agent and the relay agree on.
//!
//! ```text
//!            events                       wire                        registry
//! agent ── Event{at, body} ── spool ── AgentFrame::Events ── relay ── EventLine (JSON + crc) ── JobRecord
//! relay ── JobSpec (JSON)  ─────────── RelayFrame::Start  ── agent       (fold: record.apply)
//! ```
//!
//! * [`ids`]: job names, job ids and references to jobs.
//! * [`job`]: the job spec: what to run, under which limits.
//! * [`rule`]: rules for steps.
//! * [`origin`]: who launched a job, and which job it goes on from.
//! * [`event`]: milestones of a job; [`event_line`]: their line in the registry's event log.
//! * [`record`]: the job record, a pure fold of the job's events, with its [`step`]s and [`warnings`]; [`summary`]: its closing text.
//! * [`wire`]: the frames between agent and relay.
//! * [`text`]: bounding and cleaning text that comes from outside; [`json`]: writing it so that it harms nobody.
//! * [`duration`]: limits as people write them. * [`time_scale`]: times that no clock's jump moves. * [`bounded`]: lists that can't be too long.
//! * [`codex_args`], [`env_policy`]: arguments and variables that reach around Codex's sandbox.
//!
//! Nothing here does I/O or reads a clock.

pub mod bounded;
pub mod codex_args;
pub mod duration;
pub mod env_policy;
pub mod event;
pub mod event_line;
pub mod ids;
pub mod job;
pub mod json;
pub mod origin;
pub mod record;
pub mod rule;
pub mod step;
pub mod summary;
pub mod text;
pub mod time_scale;
pub mod warnings;
pub mod wire;
