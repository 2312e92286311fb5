//! Codex threads of ended jobs that had a box each: one archive per job. A worker wrote the content, so relay only
//! stores it, and gives it to the box of a job that continues the thread.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::files::atomic::{self, Durability};
use crate::job_identity::JobIdentity;

/// Ending of the name of an archive.
pub const ARCHIVE_ENDING: &str = ".threads";

/// Folder with the threads of the jobs of one project.
#[derive(Debug, Clone)]
pub struct Threads {
    folder: PathBuf,
}

impl Threads {
    /// Refers to the threads in a folder, which may not exist yet.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Stores the threads of a job. If that fails, they can't be continued.
    pub fn store(&self, job: &JobIdentity, archive: &[u8]) {
        let stored = fs::create_dir_all(&self.folder)
            .and_then(|()| atomic::replace_file(&self.path(job), archive, Durability::Synced));
        if let Err(e) = stored {
            tracing::warn!("the Codex thread of {job} can't be stored: {e}");
        }
    }

    /// Returns the threads of a job, if there are any.
    pub fn read(&self, job: &JobIdentity) -> Option<Vec<u8>> {
        fs::read(self.path(job)).ok()
    }

    /// Removes the threads of a job. A missing archive is not an error.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub fn remove(&self, job: &JobIdentity) -> io::Result<()> {
        match fs::remove_file(self.path(job)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn path(&self, job: &JobIdentity) -> PathBuf {
        self.folder.join(format!("{}{ARCHIVE_ENDING}", job.file_stem()))
    }
}
