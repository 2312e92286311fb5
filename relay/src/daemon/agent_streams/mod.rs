//! Streams of one connection. In most, git at an agent fetches a job's base from the relay, and pushes the job's result
//! to it.
//!
//! ```text
//!  agent ─StreamOpen─► table ─► service: the writer confirms the run ─► git upload-pack | receive-pack
//!        ◄─Data, Window, Close─► transfers ◄──────────── stdin, stdout ──────────┘   on the job's repository
//! ```
//!
//! A stream has time limits, and ends with its connection. The agent then tries again on the next connection.
//!
//! * [`table`]: the open streams of a connection. [`service`]: serves one stream. [`idle`]: streams that transfer nothing.
//! * [`child`]: the process of git. [`output`], [`images`]: transfer files of a job, without git.
//! * [`model`]: a connection of a job's worker to the model. [`network`]: one of a job's processes to other hosts.

mod child;
mod idle;
mod images;
mod model;
mod network;
mod output;
mod service;
mod table;

pub(super) use service::{OpenRequest, Services};
pub(super) use table::AgentStreams;
