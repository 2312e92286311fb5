//! Bad files of one job: a record in the registry, which is restored later, or a segment in the spool, which stays bad.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use common::ids::JobId;
use fastrand::Rng;

use crate::log_checker::job_file;

/// A record that was replaced by one of a newer program or by a folder, and the data to restore it.
#[derive(Debug)]
pub(crate) struct BadRecord {
    pub(crate) job: JobId,
    path: PathBuf,
    /// Original content of the record.
    original: Vec<u8>,
    /// Content that replaces it; none for a folder.
    replacement: Option<Vec<u8>>,
}

impl BadRecord {
    /// Replaces the record of a job. The relay must be down: it reads records only when it starts.
    pub(crate) fn replace(registry: &Path, job: &JobId, rng: &mut Rng) -> Option<Self> {
        let path = job_file(registry, job, "json");
        let original = fs::read(&path).ok()?;
        // An incomplete record would be rebuilt, not kept.
        if !original.ends_with(b"\n") {
            return None;
        }
        let newer = String::from_utf8(original.clone()).ok()?.replace("\"schema\":1", "\"schema\":2");
        let replacement = rng.bool().then(|| newer.into_bytes());
        if let Some(bytes) = &replacement {
            fs::write(&path, bytes).expect("a file of the simulation");
        } else {
            fs::remove_file(&path).expect("a file of the simulation");
            // The folder is not empty, so that no file can replace it.
            fs::create_dir_all(path.join("in the way")).expect("a folder of the simulation");
        }
        Some(Self { job: job.clone(), path, original, replacement })
    }

    /// Returns true if a folder is in the record's place.
    pub(crate) fn is_folder(&self) -> bool {
        self.replacement.is_none()
    }

    /// Restores the record.
    pub(crate) fn restore(&self) -> Result<(), String> {
        let Some(replacement) = &self.replacement else {
            // The relay may have set the folder aside by itself.
            if self.path.is_dir() {
                fs::remove_dir_all(&self.path).map_err(|e| format!("{}: {e}", self.path.display()))?;
            }
            return Ok(());
        };
        let current = fs::read(&self.path).map_err(|e| format!("{}: {e}", self.path.display()))?;
        if current != *replacement {
            return Err(format!("{}, which a newer program wrote, was changed", self.path.display()));
        }
        fs::write(&self.path, &self.original).map_err(|e| format!("{}: {e}", self.path.display()))
    }
}

/// Cuts, removes or replaces a segment in a run's folder of the spool. Returns false if there is no segment.
pub(crate) fn damage_segment(folder: &Path, rng: &mut Rng) -> bool {
    let is_segment =
        |name: &str| name.strip_prefix("events.").is_some_and(|rest| rest.parse::<u32>().is_ok());
    let mut segments: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_segment))
        .map(|entry| entry.path())
        .collect();
    segments.sort();
    if segments.is_empty() {
        return false;
    }
    let path = &segments[rng.usize(..segments.len())];
    match rng.u8(..3) {
        0 => {
            let file = File::options().write(true).open(path).expect("a file of the simulation");
            let length = file.metadata().expect("a file of the simulation").len();
            file.set_len(length * rng.u64(0..8) / 8).expect("a file can be cut");
        }
        1 => fs::remove_file(path).expect("a file of the simulation"),
        _ => {
            fs::remove_file(path).expect("a file of the simulation");
            fs::create_dir(path).expect("a folder of the simulation");
        }
    }
    true
}
