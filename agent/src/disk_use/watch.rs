//! Measures the disk space of a job's container while the job runs.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::measure::{DiskUse, Folder, measure};
use crate::user::UserIds;

/// Minimum pause between two measurements. A process can write about a GiB meanwhile.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// Maximum pause between two measurements.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Ratio of a pause to the measurement before it, so that measurements of many files take at most 2 % of a CPU.
const PAUSE_RATIO: u32 = 50;
/// The same ratio while the disk is filling, by this job or by another.
const FILLING_PAUSE_RATIO: u32 = 3;
/// The disk counts as filling when its free space shrinks by more than limit / 8.
const GROWTH_DIVISOR: u64 = 8;
/// Folders of the image that a worker may write to. The workspaces are mounted below the last one.
const WRITABLE_FOLDERS: [&str; 4] = ["/tmp", "/var/tmp", "/run/lock", "/workspaces"];

/// Exceeded limit of disk space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskExceeded {
    /// Space in use.
    pub(crate) used: DiskUse,
    /// Bytes that may be used.
    pub(crate) limit: u64,
}

/// Watch of the disk space of a job. Dropping this value ends it.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    limit: u64,
    used: Arc<Mutex<DiskUse>>,
    /// Ends the thread when it is dropped.
    _stop: Sender<()>,
}

impl DiskWatch {
    /// Starts a watch. `None` if the system starts no thread.
    pub(crate) fn start(limit: u64, folders: Vec<Folder>) -> Option<Self> {
        let used = Arc::<Mutex<DiskUse>>::default();
        let (stop, stopped) = channel();
        let newest = Arc::clone(&used);
        let watch = move || {
            loop {
                let (began, free) = (Instant::now(), free_bytes(&folders));
                *newest.lock().unwrap_or_else(PoisonError::into_inner) = measure(&folders);
                let took = began.elapsed();
                let is_filling = || free_bytes(&folders).saturating_add(limit / GROWTH_DIVISOR) < free;
                let is_due = || began.elapsed() >= next_measurement(took, is_filling());
                if !wait_until_due(&stopped, is_due) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("disk-use".to_owned()).spawn(watch);
        thread.ok().map(|_| Self { limit, used, _stop: stop })
    }

    /// Returns the numbers if more is in use than may be, or more than can be measured.
    pub(crate) fn exceeded(&self) -> Option<DiskExceeded> {
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        (used.bytes > self.limit || used.is_too_deep).then_some(DiskExceeded { used, limit: self.limit })
    }
}

/// Waits until the next measurement is due. Returns false once the job has ended.
fn wait_until_due(stopped: &Receiver<()>, is_due: impl Fn() -> bool) -> bool {
    while stopped.recv_timeout(MIN_PAUSE) == Err(RecvTimeoutError::Timeout) {
        if is_due() {
            return true;
        }
    }
    false
}

/// Returns the time from the beginning of a measurement that took so long to the next one.
fn next_measurement(took: Duration, is_filling: bool) -> Duration {
    let ratio = if is_filling { FILLING_PAUSE_RATIO } else { PAUSE_RATIO };
    took + (took * ratio).clamp(MIN_PAUSE, MAX_PAUSE)
}

/// Returns the free space of the disk of the first folder, in bytes.
fn free_bytes(folders: &[Folder]) -> u64 {
    let disk = folders.first().and_then(|folder| rustix::fs::statvfs(&folder.path).ok());
    disk.map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Returns the folders of a container that a worker can write to. Root can write anywhere.
pub(crate) fn measured_folders(user: Option<UserIds>, home: Option<&String>, state_dir: &str) -> Vec<Folder> {
    if user.is_none_or(|user| user.uid == 0) {
        return vec![Folder { path: "/".to_owned(), since: Some(SystemTime::now()) }];
    }
    let paths = WRITABLE_FOLDERS.into_iter().chain(home.map(String::as_str)).chain([state_dir]);
    paths.map(|path| Folder { path: path.to_owned(), since: None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_reports_what_is_over_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), vec![7; 1 << 20]).unwrap();
        let watch = |limit| {
            let folder = Folder { path: dir.path().display().to_string(), since: None };
            DiskWatch::start(limit, vec![folder]).unwrap()
        };
        let (large, small) = (watch(1 << 30), watch(1 << 19));
        let deadline = Instant::now() + Duration::from_secs(60);
        while small.exceeded().is_none() && Instant::now() < deadline {
            thread::yield_now();
        }
        assert!(small.exceeded().is_some_and(|over| over.limit == 1 << 19 && over.used.bytes >= 1 << 20));
        assert_eq!(large.exceeded(), None);
    }

    #[test]
    fn measurements_come_more_often_while_the_disk_is_filling() {
        let next = |ms, is_filling| next_measurement(Duration::from_millis(ms), is_filling).as_millis();
        assert_eq!((next(1, false), next(1, true)), (1001, 1001));
        assert_eq!((next(500, false), next(500, true)), (25_500, 2000));
        assert_eq!(next(10_000, false), 70_000);
    }

    #[test]
    fn the_whole_container_is_measured_only_for_a_worker_that_is_root() {
        let paths = |uid| -> Vec<String> {
            let user = Some(UserIds { uid, gid: uid });
            let folders = measured_folders(user, Some(&"/home/worker".to_owned()), "/state");
            folders.into_iter().map(|folder| folder.path).collect()
        };
        assert_eq!(paths(0), ["/"]);
        assert_eq!(paths(1000), ["/tmp", "/var/tmp", "/run/lock", "/workspaces", "/home/worker", "/state"]);
    }
}
