//! Secrets are masked by value in everything that leaves a job. Pure.
//!
//! ```text
//!  (name, value) ─► secrets: which values, and which parts of them
//!                     │
//!                     ├─► anchors: the first 8 bytes of each encoding ─► masker: one automaton finds them,
//!                     └─────────────────────────────────────────────────►         compare decides, `***NAME***`
//!                                                                                  │
//!                            output in pieces ─► stream ◄──────────────────────────┤
//!                            events           ─► events ◄──────────────────────────┘
//! ```
//!
//! A value is found as it is, JSON-escaped (up to three levels deep), percent-encoded, in base64 (both alphabets, at any
//! offset, wrapped in lines too) and in hex. Only the anchors are in the automaton, so its size depends on the number of
//! secrets and not on their length.
//!
//! Values that are not masked: see [`secrets`].

mod anchors;
mod compare;
mod events;
mod masker;
mod secrets;
mod stream;

#[cfg(test)]
mod tests;

pub(crate) use masker::Masker;
pub(crate) use secrets::Secrets;
pub(crate) use stream::Stream;
