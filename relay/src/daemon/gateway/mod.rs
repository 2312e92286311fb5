//! The gateway to the model: workers send requests with a token of their job, and the gateway puts in the key, which
//! never enters a worker's box.
//!
//! ```text
//!  worker's Codex ─HTTP, job token─► proxy ──► upstream: key, headers, parameters ──► client ─TLS─► model's server
//!        ▲                             │
//!        │                           route: the job's token and server; job_meter ──► events of the job
//!        │                             ▲ tokens, problems of the account
//!        └──── answer, metered_body ───┘◄── meter, account ◄─────────────────────────── answer
//! ```
//!
//! * [`proxy`]: serves a worker's connection. [`route`]: its way to the model; [`job_meter`]: the sum of a job's
//!   answers. [`answer`]: answers of the model's server; [`metered_body`]: their bodies.
//! * [`endpoint`]: requests that workers may send. [`refusal`]: answers of the gateway itself. [`headers`]: headers
//!   that are passed on. [`meter`]: token counts of an answer; [`event_stream`] and [`json_fields`] find them in bounded
//!   memory. [`account`]: problems of the account. All of these are pure.
//! * [`upstream`]: the model's server. [`codex_settings`]: its settings, from the user's own Codex. [`client`]:
//!   connections to it. [`secret`]: values that are never shown.

mod account;
mod answer;
mod client;
mod codex_settings;
mod endpoint;
mod event_stream;
mod headers;
mod job_meter;
mod json_fields;
mod meter;
mod metered_body;
mod proxy;
mod refusal;
mod route;
mod secret;
#[cfg(test)]
mod test_support;
mod upstream;

pub(super) use job_meter::{JobMeter, JobReadings, MeterSettings};
pub(super) use proxy::serve_connection;
pub(super) use route::JobRoute;
pub(super) use secret::Secret;
pub(super) use upstream::{Upstream, UpstreamSettings};
