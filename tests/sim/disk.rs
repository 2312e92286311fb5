//! Files after a crash: everything that was synced, any part of what was not, and garbage after it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use fastrand::Rng;

/// Files of one node, and the length of each that is known to be on the disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<PathBuf, Known>,
}

#[derive(Debug, Default, Clone)]
struct Known {
    synced: u64,
    /// Lengths of the file after each call: possible ends of a record or line.
    marks: Vec<u64>,
}

/// Lengths of files at one moment.
pub(crate) type Lengths = BTreeMap<PathBuf, u64>;

impl Disk {
    /// Records the current length of a file.
    pub(crate) fn grown(&mut self, path: &Path) {
        let len = length(path);
        let known = self.files.entry(path.to_owned()).or_default();
        if known.marks.last() != Some(&len) {
            known.marks.push(len);
        }
    }

    /// Records where the lines of a file end.
    pub(crate) fn lines(&mut self, path: &Path) {
        let bytes = fs::read(path).unwrap_or_default();
        let known = self.files.entry(path.to_owned()).or_default();
        let ends = (1..=bytes.len()).filter(|end| bytes[end - 1] == b'\n').map(|end| end as u64);
        known.marks = ends.filter(|end| *end > known.synced).collect();
    }

    /// Marks all of a file as synced.
    pub(crate) fn synced(&mut self, path: &Path) {
        let known = self.files.entry(path.to_owned()).or_default();
        known.synced = length(path);
        known.marks.clear();
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
    pub(crate) fn lose_power(&mut self, path: &Path, rng: &mut Rng, rubbish: bool) -> bool {
        let Some(known) = self.files.get(path).cloned() else { return false };
        if !path.exists() {
            return false;
        }
        let len = length(path);
        let mut ends = vec![known.synced];
        ends.extend(known.marks.iter().copied().filter(|mark| (known.synced..=len).contains(mark)));
        let at = rng.usize(..ends.len());
        let (end, next) = (ends[at], ends.get(at + 1).copied().unwrap_or(len).max(ends[at]));
        // Sixteenths of a record: the length of a record varies with the folder's name.
        let kept = end + (next - end) * rng.u64(0..16) / 16;
        let file = File::options().write(true).open(path).expect("a file of the simulation");
        file.set_len(kept).expect("a file can be cut");
        if rubbish && len > known.synced {
            leave_rubbish(path, rng);
        }
        kept < len
    }
}

fn leave_rubbish(path: &Path, rng: &mut Rng) {
    let tail: Vec<u8> = match rng.u8(..8) {
        0..4 => return,
        4 => vec![0; 1 << rng.u32(0..13)],
        5 => vec![0; rng.usize(1..40)],
        6 => (0..rng.usize(1..600)).map(|_| rng.u8(..)).collect(),
        // Garbage that resembles lines and lengths.
        7.. => b"{\"v\":1,\"id\":3\n\n\x10\0\0\0".repeat(rng.usize(1..5)),
    };
    let mut file = File::options().append(true).open(path).expect("a file of the simulation");
    file.write_all(&tail).expect("room for rubbish");
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
                    found.insert(entry.path(), length(&entry.path()));
                }
                _ => {}
            }
        }
    }
    found
}

/// Truncates files that have grown: a killed process writes nothing on exit, although destructors run here.
pub(crate) fn take_back(before: &Lengths) {
    for (path, len) in before {
        if length(path) > *len {
            let file = File::options().write(true).open(path).expect("a file of the simulation");
            file.set_len(*len).expect("a file can be cut");
        }
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}
