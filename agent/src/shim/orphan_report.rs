//! Report of a shim for the next agent process: a file that the shim keeps locked while it runs. It contains the number
//! of processes that the shim ended after its own agent was gone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::time::{Instant, sleep};

/// Maximum time that a shim may run without its agent: 2 s of grace, 3 s for processes that are hard to kill, and a
/// margin for a busy machine.
const SHIM_EXIT_TIMEOUT: Duration = Duration::from_secs(8);
/// Time between two checks of the lock. The kernel does not signal the release of the lock.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// File of the report, which the shim has locked.
#[derive(Debug)]
pub(super) struct ShimReport {
    file: File,
}

impl ShimReport {
    /// Creates the file, and locks it until the returned value is dropped.
    ///
    /// # Errors
    /// The file can't be created, or another shim has locked it.
    pub(super) fn open(path: &str) -> io::Result<Self> {
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { file })
    }

    /// Writes the numbers of killed processes and of survivors.
    pub(super) fn write(&mut self, killed: u32, survivors: u32) {
        // If the disk is full, only these numbers are lost.
        let _ = write!(self.file, "{killed} {survivors}");
    }
}

/// Waits until no shim locks the file; returns the numbers of killed processes and of survivors. Returns `None` if no
/// shim outlived its agent.
pub(crate) async fn read(path: &Path) -> Option<(u32, u32)> {
    let mut file = File::open(path).ok()?;
    let deadline = Instant::now() + SHIM_EXIT_TIMEOUT;
    while flock(&file, FlockOperation::NonBlockingLockShared).is_err() && Instant::now() < deadline {
        sleep(POLL_INTERVAL).await;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let (killed, survivors) = text.split_once(' ')?;
    Some((killed.parse().ok()?, survivors.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_report_is_read_once_its_shim_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shim");
        assert_eq!(read(&path).await, None);
        let mut orphan_report = ShimReport::open(path.to_str().unwrap()).unwrap();
        assert!(ShimReport::open(path.to_str().unwrap()).is_err(), "there is one shim at a time");
        let reader = tokio::spawn({
            let path = path.clone();
            async move { read(&path).await }
        });
        orphan_report.write(3, 1);
        drop(orphan_report);
        assert_eq!(reader.await.unwrap(), Some((3, 1)));
        drop(ShimReport::open(path.to_str().unwrap()).unwrap());
        assert_eq!(read(&path).await, None, "the shim did not outlive its agent");
    }
}
