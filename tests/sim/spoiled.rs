//! A bad file of one job: in the registry, where it is restored later, or in the spool, where it stays bad.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use common::ids::JobId;
use fastrand::Rng;

use crate::book::file;

/// A spoiled file of the registry, and the data to restore it.
#[derive(Debug)]
pub(crate) struct Spoiled {
    pub(crate) job: JobId,
    path: PathBuf,
    /// Content before it was spoiled.
    before: Vec<u8>,
    /// Content now; none for a folder.
    after: Option<Vec<u8>>,
}

impl Spoiled {
    /// Spoils the record of a job. The relay must be down: only a start reads it.
    pub(crate) fn in_registry(registry: &Path, job: &JobId, rng: &mut Rng) -> Option<Self> {
        let path = file(registry, job, "json");
        let before = fs::read(&path).ok()?;
        // A record that a power loss has torn is created anew.
        if !before.ends_with(b"\n") {
            return None;
        }
        let newer = String::from_utf8(before.clone()).ok()?.replace("\"schema\":1", "\"schema\":2");
        // A file can't replace a folder that is not empty.
        let after = rng.bool().then(|| newer.into_bytes());
        if let Some(bytes) = &after {
            fs::write(&path, bytes).expect("a file of the simulation");
        } else {
            fs::remove_file(&path).expect("a file of the simulation");
            fs::create_dir_all(path.join("in the way")).expect("a folder of the simulation");
        }
        Some(Self { job: job.clone(), path, before, after })
    }

    /// Returns true if a folder stands in the record's place: the relay continues without the record.
    pub(crate) fn is_folder(&self) -> bool {
        self.after.is_none()
    }

    /// Restores the file.
    pub(crate) fn mend(&self) -> Result<(), String> {
        let Some(after) = &self.after else {
            // The relay may have set the folder aside by itself.
            if self.path.is_dir() {
                fs::remove_dir_all(&self.path).map_err(|e| format!("{}: {e}", self.path.display()))?;
            }
            return Ok(());
        };
        let there = fs::read(&self.path).map_err(|e| format!("{}: {e}", self.path.display()))?;
        if there != *after {
            return Err(format!("{}, which a newer program wrote, was changed", self.path.display()));
        }
        fs::write(&self.path, &self.before).map_err(|e| format!("{}: {e}", self.path.display()))
    }
}

/// Damages a segment of a run in the spool; returns true if there was one.
pub(crate) fn in_spool(folder: &Path, rng: &mut Rng) -> bool {
    let segment = |name: &str| name.strip_prefix("events.").is_some_and(|rest| rest.parse::<u32>().is_ok());
    let mut segments: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(segment))
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
