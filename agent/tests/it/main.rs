//! Tests of the real agent with a fake relay, which keeps everything in memory. All tests are one program, because
//! linking takes most of the time of a build.
//!
//! [`support`] is the harness.

mod clock_changes;
mod codex_jobs;
mod connection_loss;
mod early_cancels;
mod event_rate;
mod job_end;
mod lossless_delivery;
mod model_streams;
mod other_user;
mod output_floods;
mod own_place;
mod place_cache;
mod shell_jobs;
mod shim;
mod slow_codex;
mod storage;
mod stuck_jobs;
mod support;
mod untrusted_servers;
mod versions;
