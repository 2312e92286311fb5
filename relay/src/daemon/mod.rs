//! The daemon: records the agents' events in the registry, schedules jobs and keeps the platform up.
//!
//! ```text
//!  agent ─ WebSocket ─► upgrade ─► connection ──events, output──► writer ──► registry files
//!                                    │  ▲ └─────── acks ─────────┘  │
//!                 hello, accepted, … │  │ start, cancel, extend      │ changed records
//!                                    ▼  │                            ▼
//!     engine ─ outcomes, exits ─► main_loop ◄─ hints, time, signals
//!                                    │
//!                       input, now ─►│ core (pure) ─► effects ─► driver: one after the other
//!                                    ▲                             │
//!                                    └──── answers, file contents ─┴─► frames, commands to the writer, lease,
//!                                                                      request files, engine calls, notices
//! ```
//!
//! * [`serve()`]: starts and stops the daemon. [`main_loop`]: the only loop around the core. [`message`]: messages of
//!   the other tasks to the main loop.
//! * [`core`]: all decisions: queue, agents, lease, platform. Pure: inputs and the time in, effects out.
//! * [`driver`]: passes inputs to the core, and reads the files that the core needs. [`effects`]: executes the core's
//!   effects. [`start_frame`]: the frame that starts a job (pure). [`request_files`]: reads and removes the files of requests.
//! * [`listen`]: addresses and routes. [`pending_connections`]: connections without a request yet. [`upgrade`]:
//!   admission of agents before the upgrade. [`http_admission`]: refuses browsers, other hosts and missing tokens
//!   (pure). [`tls`]: the relay's identity, pinned by agents. [`app_state`]: state that all connections share.
//! * [`connection`]: one agent's connection; [`handshake`]: its first frames; [`connection_end`]: why it ends.
//!   [`frames`]: chooses the receiver of a frame (pure). [`liveness`]: detects a silent connection (pure).
//! * [`agent_streams`]: serves streams of an agent: git, which fetches from a job's repository and pushes to it, files of a
//!   job, and connections of its processes.
//! * [`gateway`]: an HTTP proxy between the workers of jobs and the model, with the model's key. [`model_access`]: the
//!   jobs' tokens and routes.
//! * [`network`]: an HTTP proxy between jobs and other hosts. [`network_access`]: the proxy of each job.
//! * [`subscribe`]: the event stream for subscribers. [`token`]: the token that subscribers present.
//! * [`writer`]: the sole writer of logs and records, on a thread of its own because it waits for disks.
//! * [`platform`]: slow engine calls. [`boxes`]: those for the containers of single jobs. [`engine_events`]: the engine's
//!   event stream for the containers.
//! * [`deliver`]: delivers completion notices.
//! * [`job_repositories`]: repositories of jobs with a clone of their own. [`results`]: publishes the results of these
//!   jobs. [`receipts`]: signs receipts of results. [`leftover_state`]: state of jobs that the registry does not have.
//! * [`request_watcher`]: watches for new requests. [`freeze_detector`]: detects that this process or the machine was
//!   frozen. [`latest_map`]: newest value per key, passed between tasks.
//! * `sim`: the relay's side of the wire, for the simulation.

mod agent_streams;
mod app_state;
mod boxes;
mod connection;
mod connection_end;
mod core;
mod deliver;
mod driver;
mod effects;
mod engine_events;
mod frames;
mod freeze_detector;
mod gateway;
mod handshake;
mod http_admission;
mod job_repositories;
mod latest_map;
mod leftover_state;
mod listen;
mod liveness;
mod main_loop;
mod message;
mod model_access;
mod network;
mod network_access;
mod pending_connections;
mod platform;
mod receipts;
mod request_files;
mod request_watcher;
mod results;
mod serve;
#[cfg(feature = "internals")]
pub(crate) mod sim;
mod start_frame;
mod subscribe;
mod tls;
mod token;
mod upgrade;
mod writer;

pub use serve::serve;
