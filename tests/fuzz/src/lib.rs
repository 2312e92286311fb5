//! Checks of every reader of outside bytes: each panics when its reader does something wrong. The fuzz targets feed
//! them, and a test of every run does so with mutated seeds.

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

/// Decodes a frame, counts the memory that this takes, and compares the frame with its own bytes.
fn frame<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let frame = wire::decode::<T>(bytes);
    let peak = MEMORY.peak_usage().saturating_sub(before);
    assert!(peak <= 2 * MAX_MESSAGE, "{peak} bytes of memory for a frame of {}", bytes.len());
    if let Ok(frame) = frame {
        let again = wire::encode(&frame).expect("a frame that was read can be written");
        assert_eq!(wire::decode::<T>(&again).expect("and read again"), frame);
    }
}

/// A folder in memory for this process alone.
fn folder() -> &'static PathBuf {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
    });
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| FOLDER.path().to_owned());
    &PATH
}
