//! Code that the fuzz targets share.

use std::path::PathBuf;
use std::sync::LazyLock;

use common::wire::{self, MAX_MESSAGE};
pub use peak_alloc::PeakAlloc as Memory;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Decodes a frame, counts the memory that this takes, and compares the frame with its own bytes.
pub fn frame<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(memory: &Memory, bytes: &[u8]) {
    let before = memory.current_usage();
    memory.reset_peak_usage();
    let frame = wire::decode::<T>(bytes);
    let peak = memory.peak_usage().saturating_sub(before);
    assert!(peak <= 2 * MAX_MESSAGE, "{peak} bytes of memory for a frame of {}", bytes.len());
    if let Ok(frame) = frame {
        let again = wire::encode(&frame).expect("a frame that was read can be written");
        assert_eq!(wire::decode::<T>(&again).expect("and read again"), frame);
    }
}

/// A folder in memory for this process alone.
pub fn folder() -> &'static PathBuf {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
    });
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| FOLDER.path().to_owned());
    &PATH
}
