//! The gateway to the model: workers send requests with a token of their job, and the gateway puts in the key, which
//! never enters a worker's box.
//!
//! * [`proxy`]: serves a worker's connection. [`route`]: the way of one job.
//! * [`upstream`]: the model's server, and where its address and key come from. [`secret`]: values that are never shown.

mod proxy;
mod route;
mod secret;
mod upstream;

pub(super) use proxy::serve_connection;
pub(super) use route::JobRoute;
pub(super) use secret::Secret;
pub(super) use upstream::Upstream;
