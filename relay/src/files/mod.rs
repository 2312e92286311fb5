//! Files that a session may replace with anything, opened only if they are what they should be.
//!
//! * [`dir`]: a folder, held open (`safe_open`: opening its entries); [`file_ref`]: a file in it. Every access to the
//!   registry goes through these. [`refused`]: entries that are not opened, and the reasons.
//! * [`staged`]: files that are written beside their final place. [`atomic`]: replacing a file that only its owner may
//!   write.
//! * [`watch`]: waiting for a file to change.

pub mod atomic;
pub mod dir;
pub mod file_ref;
pub mod refused;
mod safe_open;
pub mod staged;
pub mod watch;
