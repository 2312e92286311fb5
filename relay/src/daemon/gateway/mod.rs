//! The gateway to the model: workers send requests with a token of their job, and the gateway puts in the key, which
//! never enters a worker's box.
//!
//! ```text
//!  worker's Codex ─HTTP, job token─► server ─► upstream: key, headers, parameters ──► client ─TLS─► model's server
//!        ▲                             │
//!        │                           route: the job's token and server; job_meter ──► events of the job
//!        │                             ▲ tokens, problems of the account
//!        └──── answer, metered_body ───┘◄── meter, account ◄─────────────────────────── answer
//! ```
//!
//! * [`server`]: serves a worker's connection. [`route`]: its token and its model's server; [`job_meter`]: the sum of a
//!   job's answers; [`day_meter`]: that of the day. [`worker_body`]: bodies of requests. [`answer`]: answers of the
//!   model's server; [`metered_body`]: their bodies. [`pending_answer`]: a request until its answer is metered.
//! * [`endpoint`], [`request_check`]: requests that workers may send. [`refusal`]: answers of the gateway itself.
//!   [`headers`]: headers that are passed on, [`hop_by_hop`]: those that no proxy passes on. [`meter`]: token counts of an answer ([`reading`]); [`event_stream`] and
//!   [`json_fields`] find them in bounded memory, [`anthropic_stream_usage`] adds up those in a stream of the Messages
//!   API. [`account`]: problems of the account. All of these are pure.
//! * [`body_memory`]: memory for the bodies of requests that may have to be sent twice.
//! * [`upstream`]: the model's server, with the settings of [`crate::model_server`]. [`client`]: connections to it.
//! * [`login`]: the user's `ChatGPT` login. [`login_file`]: the file that it is in. [`token_refresh`]: the request for
//!   new tokens.

mod account;
mod answer;
mod anthropic_stream_usage;
mod body_memory;
mod client;
mod day_meter;
mod endpoint;
mod event_stream;
mod headers;
mod hop_by_hop;
mod job_meter;
mod json_fields;
mod login;
mod login_file;
mod meter;
mod metered_body;
mod pending_answer;
mod reading;
mod refusal;
mod request_check;
mod route;
mod server;
#[cfg(test)]
mod test_support;
mod token_refresh;
mod upstream;
mod worker_body;

pub(super) use client::{RequestBody, UpstreamClient, find_proxy, new_client, system_tls};
pub(super) use day_meter::DayMeter;
pub(super) use hop_by_hop::remove_hop_by_hop;
pub(super) use job_meter::{JobMeter, JobReadings, MeterSettings};
pub(super) use login::LoginHold;
pub(super) use route::JobRoute;
pub(super) use server::serve_connection;
pub(super) use upstream::Upstream;
pub(super) use worker_body::WorkerBody;
