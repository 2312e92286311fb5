//! Location of the repositories of jobs. They are in the state folder, where no session or worker can write.

use std::path::PathBuf;

use common::ids::JobId;

/// The jobs' repositories.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct JobRepositories {
    folder: PathBuf,
}

impl JobRepositories {
    /// Returns the repositories in this folder, which may not exist yet.
    pub(in crate::daemon) fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Returns the repository of a job. Blocks on the disk.
    ///
    /// # Errors
    /// One line, if the job has no repository.
    pub(in crate::daemon) fn path(&self, job: &JobId) -> Result<PathBuf, String> {
        let path = self.folder.join(format!("{}.git", job.file_stem()));
        // The folder is the person's own, so the path can be used.
        if path.join("HEAD").is_file() { Ok(path) } else { Err(format!("{job} has no repository here")) }
    }
}
