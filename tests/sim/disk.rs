//! Files after a power failure: everything synced is left, any part of the rest, and perhaps garbage at the end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use fastrand::Rng;

/// Files of one machine, and how much of each is synced.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<PathBuf, FileState>,
}

#[derive(Debug, Default, Clone)]
struct FileState {
    /// Length that is surely on the disk, in bytes.
    synced: u64,
    /// Positions after the synced part at which a record or line may end.
    record_ends: Vec<u64>,
}

/// Lengths of files at one moment, in bytes.
pub(crate) type Lengths = BTreeMap<PathBuf, u64>;

impl Disk {
    /// Records the current length of a file as a possible end of a record.
    pub(crate) fn record_length(&mut self, path: &Path) {
        let len = file_length(path);
        let state = self.files.entry(path.to_owned()).or_default();
        if state.record_ends.last() != Some(&len) {
            state.record_ends.push(len);
        }
    }

    /// Records the positions after the synced part at which the lines of a file end.
    pub(crate) fn record_line_ends(&mut self, path: &Path) {
        let bytes = fs::read(path).unwrap_or_default();
        let state = self.files.entry(path.to_owned()).or_default();
        let ends = (1..=bytes.len()).filter(|end| bytes[end - 1] == b'\n').map(|end| end as u64);
        state.record_ends = ends.filter(|end| *end > state.synced).collect();
    }

    /// Marks the whole file as synced.
    pub(crate) fn mark_synced(&mut self, path: &Path) {
        let state = self.files.entry(path.to_owned()).or_default();
        state.synced = file_length(path);
        state.record_ends.clear();
    }

    /// Forgets the files of a removed folder.
    pub(crate) fn forget(&mut self, folder: &Path) {
        self.files.retain(|path, _| !path.starts_with(folder));
    }

    /// Paths of all known files.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.files.keys().cloned().collect()
    }

    /// Simulates a power failure: cuts the file somewhere between its synced length and its end, within a record as
    /// well as between two, and may append garbage after the cut. Returns true if anything was lost.
    pub(crate) fn lose_power(&mut self, path: &Path, rng: &mut Rng, may_add_garbage: bool) -> bool {
        let Some(state) = self.files.get(path).cloned() else { return false };
        if !path.exists() {
            return false;
        }
        let len = file_length(path);
        let mut ends = vec![state.synced];
        ends.extend(state.record_ends.iter().copied().filter(|mark| (state.synced..=len).contains(mark)));
        let at = rng.usize(..ends.len());
        let (end, next) = (ends[at], ends.get(at + 1).copied().unwrap_or(len).max(ends[at]));
        // The cut is at a sixteenth of a record, because a record's length in bytes varies with the folder's name.
        let kept = end + (next - end) * rng.u64(0..16) / 16;
        let file = File::options().write(true).open(path).expect("a file of the simulation");
        file.set_len(kept).expect("a file can be cut");
        if may_add_garbage && len > state.synced {
            append_garbage(path, rng);
        }
        kept < len
    }
}

fn append_garbage(path: &Path, rng: &mut Rng) {
    let tail: Vec<u8> = match rng.u8(..8) {
        0..4 => return,
        4 => vec![0; 1 << rng.u32(0..13)],
        5 => vec![0; rng.usize(1..40)],
        6 => (0..rng.usize(1..600)).map(|_| rng.u8(..)).collect(),
        // Garbage that resembles lines and lengths.
        7.. => b"{\"v\":1,\"id\":3\n\n\x10\0\0\0".repeat(rng.usize(1..5)),
    };
    let mut file = File::options().append(true).open(path).expect("a file of the simulation");
    file.write_all(&tail).expect("garbage can be appended");
}

/// Lengths of all files below a folder.
pub(crate) fn lengths(folder: &Path) -> Lengths {
    let mut found = Lengths::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    found.insert(entry.path(), file_length(&entry.path()));
                }
                _ => {}
            }
        }
    }
    found
}

/// Truncates files that have grown: a killed process writes nothing on exit, but here its destructors run.
pub(crate) fn truncate_grown_files(before: &Lengths) {
    for (path, len) in before {
        if file_length(path) > *len {
            let file = File::options().write(true).open(path).expect("a file of the simulation");
            file.set_len(*len).expect("a file can be cut");
        }
    }
}

fn file_length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}
