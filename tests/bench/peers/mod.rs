//! Comparable tools, each with a daemon of its own that ends with its handle.

mod docker;
mod nats;
mod pueue;
mod spooler;

pub(crate) use docker::Container;
pub(crate) use nats::Nats;
pub(crate) use pueue::Pueue;
pub(crate) use spooler::Spooler;
