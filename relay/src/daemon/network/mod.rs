//! The way of jobs to other hosts: an HTTP proxy that connects them with the hosts of `[network] allow`. Jobs with a
//! container of their own have no other network.
//!
//! ```text
//!  npm, git, curl … ─CONNECT, or GET http://…─► proxy ─► connector: permission, name, address ─► the host
//!        ▲                                       │ └─► job_network ─► events of the job
//!        └──── 403 with the reason, or bytes ────┘
//! ```
//!
//! * [`proxy`]: serves a connection of a job. [`forward`]: passes a request for plain HTTP on. [`secret_route`]: passes a
//!   request on to the host of a secret, with the secret.
//! * [`target`]: host and port of a request. [`refusal`]: answers of the proxy itself. Both are pure.
//! * [`address`]: tells public addresses from others.
//! * [`connector`]: resolves a name and connects. [`job_network`]: permissions and counts of a job.

mod address;
mod connector;
mod forward;
mod job_network;
mod proxy;
mod refusal;
mod secret_route;
mod target;

pub(super) use job_network::JobNetwork;
pub(super) use proxy::serve_connection;
pub(super) use secret_route::SecretRoutes;
