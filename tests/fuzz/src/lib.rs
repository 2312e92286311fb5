//! Checks of code that reads bytes from outside: frames, specs, records, event logs, requests, the spool, `relay.toml`
//! and Codex's output. A check panics if the code that it calls does something wrong. The
//! fuzz targets call the checks with bytes from a fuzzer, and a test of every run with mutated seeds.

pub mod agent_frame;
pub mod codex;
pub mod config;
pub mod event_log;
pub mod records;
pub mod relay_frame;
pub mod requests;
pub mod spool;

use std::path::PathBuf;
use std::sync::LazyLock;

use common::wire::{self, MAX_MESSAGE};
use peak_alloc::PeakAlloc;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Decodes a frame. Panics if that takes too much memory, or if the encoded frame is decoded as another frame.
fn check_frame<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let usage_before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let frame = wire::decode::<T>(bytes);
    let peak = MEMORY.peak_usage().saturating_sub(usage_before);
    assert!(peak <= 2 * MAX_MESSAGE, "{peak} bytes of memory for a frame of {}", bytes.len());
    if let Ok(frame) = frame {
        let encoded = wire::encode(&frame).expect("a frame that was read can be written");
        assert_eq!(wire::decode::<T>(&encoded).expect("a frame that was written can be read"), frame);
    }
}

/// Returns a folder that only this process uses, in memory if possible.
fn folder() -> &'static PathBuf {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
    });
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| FOLDER.path().to_owned());
    &PATH
}
