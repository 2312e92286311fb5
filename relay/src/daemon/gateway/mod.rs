//! The gateway to the model: workers send requests with a token of their job, and the gateway puts in the key, which
//! never enters a worker's box.
//!
//! ```text
//!  worker's Codex ─HTTP, job token─► proxy ──► upstream: key, headers, parameters ──► client ─TLS─► model's server
//!                                      │
//!                                    route: the job's token and server
//! ```
//!
//! * [`proxy`]: serves a worker's connection. [`route`]: the way of one job.
//! * [`endpoint`]: what workers may ask for. [`refusal`]: answers of the gateway itself. [`headers`]: which headers are
//!   passed on (all pure).
//! * [`upstream`]: the model's server. [`client`]: connections to it. [`secret`]: values that are never shown.

mod client;
mod endpoint;
mod headers;
mod proxy;
mod refusal;
mod route;
mod secret;
#[cfg(test)]
mod test_support;
mod upstream;

pub(super) use proxy::serve_connection;
pub(super) use route::JobRoute;
pub(super) use secret::Secret;
pub(super) use upstream::{Upstream, UpstreamSettings};
