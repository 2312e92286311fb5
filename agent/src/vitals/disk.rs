//! Free space of disks. A call to a disk that hangs, such as one on a dead file server, can't be ended. So each
//! measurement has a separate thread, and there is never more than one for a disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use common::vitals::Space;

/// Maximum time for a disk to answer. A healthy disk takes microseconds.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(1);
/// Stack size of a measuring thread, in bytes: enough for one system call.
const STACK_SIZE: usize = 64 * 1024;

/// Meter of the free space on the disks of some folders.
#[derive(Debug)]
pub(super) struct Disk {
    folders: Vec<PathBuf>,
    /// Receiver of a measurement that did not end in time.
    overdue: Option<Receiver<Option<Space>>>,
}

impl Disk {
    /// Creates a meter of the disks of these folders.
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders, overdue: None }
    }

    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Returns the space on the disk of the folders; if there are several disks, on the one with the least space
    /// available. Returns `None` if there is no folder, or if a disk does not answer.
    pub(super) fn measure(&mut self) -> Option<Space> {
        let folders = self.folders.clone();
        self.run_measurement(move || {
            let disks: io::Result<Vec<Space>> = folders.iter().map(|folder| disk_space(folder)).collect();
            disks.ok()?.into_iter().min_by_key(|disk| disk.available)
        })
    }

    fn run_measurement(&mut self, measure: impl FnOnce() -> Option<Space> + Send + 'static) -> Option<Space> {
        // An earlier measurement still runs. The call that started it has waited already, so this call does not.
        if let Some(overdue) = self.overdue.take()
            && matches!(overdue.try_recv(), Err(TryRecvError::Empty))
        {
            self.overdue = Some(overdue);
            return None;
        }
        let (sender, answer) = channel();
        let work = move || {
            // A measurement that took too long has no receiver any more.
            let _ = sender.send(measure());
        };
        thread::Builder::new().name("disk".to_owned()).stack_size(STACK_SIZE).spawn(work).ok()?;
        match answer.recv_timeout(MEASURE_TIMEOUT) {
            Ok(space) => space,
            Err(RecvTimeoutError::Timeout) => {
                self.overdue = Some(answer);
                None
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }
}

/// Returns the space on the disk of a folder, which may not exist yet.
fn disk_space(folder: &Path) -> io::Result<Space> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for folder in folder.ancestors() {
        result = rustix::fs::statvfs(folder).map_err(io::Error::from);
        if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            break;
        }
    }
    let disk = result?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Ok(Space { total: bytes(disk.f_blocks), available: bytes(disk.f_bavail) })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn the_disk_of_a_folder_is_measured_even_before_the_folder_exists() {
        let dir = tempfile::tempdir().unwrap();
        let there = Disk::new(vec![dir.path().to_owned()]).measure().unwrap();
        assert!(there.available > 0 && there.available <= there.total, "{there:?}");
        let later = Disk::new(vec![dir.path().join("a/b")]).measure().unwrap();
        assert_eq!(later.total, there.total);
        assert_eq!(Disk::new(Vec::new()).measure(), None);
        assert_eq!(Disk::new(vec![dir.path().to_owned(), PathBuf::from("/proc\0")]).measure(), None);
    }

    #[test]
    fn a_disk_that_hangs_is_unknown_and_takes_one_thread_until_it_answers() {
        let mut disk = Disk::new(Vec::new());
        let space = Space { total: 2, available: 1 };
        let gate = Arc::new(Barrier::new(2));
        let waiting = Arc::clone(&gate);
        let hanging = move || {
            waiting.wait();
            Some(space)
        };
        assert_eq!(disk.run_measurement(hanging), None);
        assert_eq!(disk.run_measurement(|| panic!("a second thread")), None);
        gate.wait();
        while disk.run_measurement(move || Some(space)).is_none() {}
        assert!(disk.overdue.is_none());
    }
}
