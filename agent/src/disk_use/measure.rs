//! Measures the disk space of folders that untrusted processes change meanwhile. Each folder is opened from its parent,
//! without following links, so no path is too long, and nothing outside is counted.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::path::Arg;

/// Number of bytes in a block of `st_blocks`.
const BLOCK: u64 = 512;
/// Maximum number of folders that are open below each other. Each takes a file descriptor. Those that are deeper wait until
/// these are done.
const MAX_DEPTH: usize = 128;
/// Maximum number of folders that wait. Each takes a file descriptor.
const MAX_WAITING: usize = 128;
/// Maximum number of files with several names that are remembered, some MiB. Further ones count once for each name.
const MAX_LINKED: usize = 100_000;

/// Folder to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    /// Path of the folder.
    pub(crate) path: String,
    /// Time since which a file must have changed to be counted: the image's own files have not.
    pub(crate) since: Option<SystemTime>,
}

/// Space that files take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DiskUse {
    pub(crate) bytes: u64,
    /// True if too many folders are too deep to be counted.
    pub(crate) is_too_deep: bool,
}

/// Returns the space that the files in these folders take. Other file systems in them are not counted, and a file with
/// several names counts once.
pub(crate) fn measure(folders: &[Folder]) -> DiskUse {
    let opened: Vec<_> =
        folders.iter().filter_map(|folder| Some((open(CWD, &folder.path)?, folder.since))).collect();
    let roots = opened.iter().map(|((_, stat), _)| identity(stat)).collect();
    let mut measurement = Measurement { roots, ..Measurement::default() };
    for ((dir, stat), since) in opened {
        let since = since.and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok());
        measurement.add_folder(dir, stat.st_dev, since);
    }
    measurement.found
}

#[derive(Debug, Default)]
struct Measurement {
    found: DiskUse,
    /// Measured folders. Each is left out where it is found in another one.
    roots: HashSet<(u64, u64)>,
    /// Files with several names that were counted already.
    linked: HashSet<(u64, u64)>,
}

impl Measurement {
    fn add_folder(&mut self, dir: Dir, device: u64, since: Option<Duration>) {
        let mut waiting = vec![dir];
        while let Some(dir) = waiting.pop() {
            self.add_levels(dir, &mut waiting, device, since);
        }
    }

    /// Counts a folder and some levels below it. The folders below these are added to `waiting`.
    fn add_levels(&mut self, dir: Dir, waiting: &mut Vec<Dir>, device: u64, since: Option<Duration>) {
        let mut open = vec![dir];
        while let Some(dir) = open.last_mut() {
            // A folder that can't be read further is left.
            let Some(Ok(entry)) = dir.next() else {
                open.pop();
                continue;
            };
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            let deeper = self.add_entry(dir, entry.file_name(), device, since);
            if open.len() < MAX_DEPTH {
                open.extend(deeper);
            } else if waiting.len() < MAX_WAITING {
                waiting.extend(deeper);
            } else {
                self.found.is_too_deep |= deeper.is_some();
            }
        }
    }

    /// Counts an entry of a folder. Returns it opened if it is a folder itself.
    fn add_entry(&mut self, parent: &Dir, name: &CStr, device: u64, since: Option<Duration>) -> Option<Dir> {
        let stat = statat(parent.fd().ok()?, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_folder = FileType::from_raw_mode(stat.st_mode).is_dir();
        // A file of an image can have another device than the container's folders.
        if is_folder && (stat.st_dev != device || self.roots.contains(&identity(&stat))) {
            return None;
        }
        let has_names = !is_folder && stat.st_nlink > 1 && self.linked.len() < MAX_LINKED;
        if has_names && !self.linked.insert(identity(&stat)) {
            return None;
        }
        if since.is_none_or(|since| changed_at(&stat) >= since) {
            self.found.bytes =
                self.found.bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK);
        }
        is_folder.then(|| open(parent.fd().ok()?, name)).flatten().map(|(dir, _)| dir)
    }
}

fn open(parent: BorrowedFd<'_>, name: impl Arg) -> Option<(Dir, Stat)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(parent, name, flags, Mode::empty()).ok()?;
    let stat = fstat(&folder).ok()?;
    Some((Dir::new(folder).ok()?, stat))
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Returns the time of the newest change of a file, since 1970. No program can set it.
fn changed_at(stat: &Stat) -> Duration {
    Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(path: &std::path::Path, since: Option<SystemTime>) -> Folder {
        Folder { path: path.display().to_string(), since }
    }

    #[test]
    fn files_count_once_in_all_depths_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        let measure = |folders: &[Folder]| measure(folders).bytes;
        let empty = measure(&[folder(&root, None)]);
        let chunk = vec![7; 1 << 20];
        fs::write(root.join("a/b/file"), &chunk).unwrap();
        fs::write(outside.join("file"), &chunk).unwrap();
        fs::hard_link(root.join("a/b/file"), root.join("same")).unwrap();
        symlink(&outside, root.join("link")).unwrap();
        let used = measure(&[folder(&root, None)]);
        assert!((1 << 20..3 << 19).contains(&(used - empty)), "{used} {empty}");
        let nested = measure(&[folder(&root, None), folder(&root.join("a"), None)]);
        assert!(nested <= used && used - nested < 1 << 19, "{nested} {used}");
        let later = SystemTime::now() + Duration::from_secs(100);
        assert_eq!(measure(&[folder(&root, Some(later))]), 0);
        assert_eq!(measure(&[folder(&root, Some(SystemTime::UNIX_EPOCH))]), used);
    }

    #[test]
    fn files_count_in_every_depth_and_missing_folders_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let deep = (0..1000).fold(dir.path().to_owned(), |path, _| path.join("d"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), vec![7; 1 << 20]).unwrap();
        let found = measure(&[folder(dir.path(), None), folder(&deep.join("missing"), None)]);
        assert!(found.bytes >= 1 << 20 && !found.is_too_deep, "{found:?}");
    }

    #[test]
    fn more_deep_folders_than_can_be_counted_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let deep = (1..MAX_DEPTH).fold(dir.path().to_owned(), |path, _| path.join("d"));
        for number in 0..MAX_WAITING {
            fs::create_dir_all(deep.join(number.to_string())).unwrap();
        }
        assert!(!measure(&[folder(dir.path(), None)]).is_too_deep);
        fs::create_dir(deep.join("x")).unwrap();
        assert!(measure(&[folder(dir.path(), None)]).is_too_deep);
    }
}
