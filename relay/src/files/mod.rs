//! Access to files that a session may replace with anything. Only expected entries are opened.
//!
//! * [`dir`]: an open folder (`safe_open`: opening of its entries); [`file_ref`]: a file in a folder. Every access to
//!   the registry uses these. [`refused`]: entries that are not opened, and the reasons.
//! * [`staged`]: files that are written under a temporary name. [`atomic`]: replacing a file that only its owner may
//!   write.
//! * [`watch`]: waiting for a file to change.

pub mod atomic;
pub mod dir;
pub mod file_ref;
pub mod refused;
mod safe_open;
pub mod staged;
pub mod watch;
