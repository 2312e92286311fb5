//! The real agent against a relay that keeps everything in memory. All tests are one program, because linking is most
//! of the build.
//!
//! [`support`] is the harness.

mod clocks;
mod codex_jobs;
mod early_cancels;
mod ends;
mod floods;
mod link;
mod lost;
mod other_user;
mod rate;
mod shell_jobs;
mod shim;
mod starts;
mod storage;
mod strangers;
mod support;
mod versions;
mod ways_out;
