//! The daemon: records the agents' events in the registry, schedules jobs and keeps the platform up.
//!
//! ```text
//!  agent ─ WebSocket ─► upgrade ─► connection ──events, output──► writer ──► registry files
//!                                    │  ▲ └─────── acks ─────────┘  │
//!                 hello, accepted, … │  │ start, cancel, extend      │ states
//!                                    ▼  │                            ▼
//!  registry/requests ─► request_watcher ─► core (owns queue, lease, platform)
//! ```
//!
//! * [`serve()`]: starts and stops the daemon. [`main_loop`]: the core's event loop.
//! * [`listen`]: addresses and routes. [`pending_connections`]: connections without a request yet. [`upgrade`]:
//!   admission of agents before the upgrade. [`tls`]: the relay's identity, pinned by agents. [`connection`]: one
//!   agent's connection; [`handshake`]: its first frames, [`liveness`]: detection of a dead one (pure).
//! * [`subscribe`]: the event stream for subscribers.
//! * [`freeze_detector`]: detects that this process or the machine was frozen.
//! * [`writer`]: the sole writer of logs and records, on a thread of its own because it waits for disks.
//! * [`scheduler`]: selects the next job and its agent; pure, with [`capacity`]. [`disconnects`]: timeouts of
//!   disconnected agents; pure. [`connections`]: connected agents. [`core`] and [`core_agents`]: act on these
//!   decisions. [`core_requests`]: carries out the requests of commands. [`platform`]: slow engine calls.
//! * [`engine_events`]: the engine's event stream for the container. [`core_container`]: the core's reaction to it.
//!   [`core_platform`]: brings the platform up. [`container_exit`]: describes how a container exited (pure).
//! * [`extend`]: moves a limit exactly once (pure). [`core_extend`]: the core acts on it.
//! * [`prune`]: removes archived jobs. [`deliver`]: delivers completion notices.
//! * [`message`]: messages to the core. [`request_watcher`]: watches for new requests. [`latest_map`]: newest value per
//!   key, passed between tasks.
//! * `sim`: the relay's side of the wire, for the simulation.

mod capacity;
mod connection;
mod connections;
mod container_exit;
mod core;
mod core_agents;
mod core_container;
mod core_extend;
mod core_platform;
mod core_requests;
mod deliver;
mod disconnects;
mod engine_events;
mod extend;
mod freeze_detector;
mod handshake;
mod latest_map;
mod listen;
mod liveness;
mod main_loop;
mod message;
mod pending_connections;
mod platform;
mod prune;
mod request_watcher;
mod scheduler;
mod serve;
#[cfg(feature = "internals")]
pub(crate) mod sim;
mod subscribe;
mod tls;
mod token;
mod upgrade;
mod writer;

pub use serve::serve;
