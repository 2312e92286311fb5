//! Secrets are masked by value in everything that leaves a job. Pure.
//!
//! ```text
//!  (name, value) ─► secrets: which values, and which parts of them
//!                     │
//!                     ├─► beginnings: the first bytes in each encoding ─► index: where they are in a text ─► masker:
//!                     └────────────────────────────────────────────────► compare: whether the rest follows ─► `***NAME***`
//!                                                                                  │
//!                            output in pieces ─► stream ◄──────────────────────────┤
//!                            events           ─► events ◄──────────────────────────┘
//! ```
//!
//! A value is found as it is, JSON-escaped (up to three levels deep), percent-encoded, in base64 (both alphabets, at any
//! offset, wrapped in lines too) and in hex. The size of the index depends on the number of secrets and not on their
//! length.
//!
//! Values that are not masked: see [`secrets`].

mod beginnings;
mod compare;
mod events;
mod index;
mod masker;
mod secrets;
mod stream;

#[cfg(test)]
mod tests;

pub(crate) use masker::Masker;
pub(crate) use secrets::Secrets;
pub(crate) use stream::Stream;
