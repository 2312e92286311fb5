//! Peers: comparable tools. Each has a daemon of its own, which ends when its handle is dropped.

mod docker;
mod nats;
mod nginx;
mod pueue;
mod spooler;

pub(crate) use docker::Container;
pub(crate) use nats::Nats;
pub(crate) use nginx::Nginx;
pub(crate) use pueue::Pueue;
pub(crate) use spooler::Spooler;
