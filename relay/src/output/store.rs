//! Store of the jobs' outputs in the state folder: one tar archive per job.

#![expect(clippy::disallowed_methods, reason = "relay's own state folder, which no session may write")]

use std::fs::{self, File};
use std::io::{self, BufReader, Seek};
use std::path::PathBuf;

use tempfile::NamedTempFile;

use super::archive;
use crate::job_identity::JobIdentity;

/// Maximum length of an archive, in bytes: the largest output of an agent, with the headers of all its files.
pub const MAX_ARCHIVE_BYTES: u64 = 260 << 20;
/// Beginning of the name of an archive that is being received.
const NEW_PREFIX: &str = ".new-";

/// Folder with the outputs of the jobs of one project.
#[derive(Debug, Clone)]
pub struct Outputs {
    folder: PathBuf,
}

/// Archive that is being received. Dropping it removes its file.
#[derive(Debug)]
pub struct NewArchive {
    file: NamedTempFile,
}

impl NewArchive {
    /// Returns the file to write.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub fn writer(&self) -> io::Result<File> {
        self.file.as_file().try_clone()
    }
}

impl Outputs {
    /// Refers to the outputs in a folder, which may not exist yet.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Creates the temporary file for an archive that is about to be received.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub fn begin(&self) -> io::Result<NewArchive> {
        fs::create_dir_all(&self.folder)?;
        let file = tempfile::Builder::new().prefix(NEW_PREFIX).tempfile_in(&self.folder)?;
        Ok(NewArchive { file })
    }

    /// Removes archives whose receipt an earlier relay did not finish. None may be received meanwhile.
    pub fn remove_unfinished(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(NEW_PREFIX.as_bytes()) {
                // A leftover that can't be removed only takes up space.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Stores a received archive as the output of a job, if it is complete.
    ///
    /// # Errors
    /// Returns one line with the reason.
    pub fn finish(&self, job: &JobIdentity, received: NewArchive) -> Result<(), String> {
        let store_error = |e: io::Error| format!("the output can't be stored: {e}");
        let mut file = received.writer().map_err(store_error)?;
        file.rewind().map_err(store_error)?;
        if !archive::is_complete(BufReader::new(&file)).unwrap_or(false) {
            return Err("the output is not complete".to_owned());
        }
        file.sync_data().map_err(store_error)?;
        received.file.persist(self.path(job)).map_err(|e| store_error(e.error))?;
        Ok(())
    }

    /// Opens the output of a job; `None` if the job left none.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub fn open(&self, job: &JobIdentity) -> io::Result<Option<File>> {
        match File::open(self.path(job)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Removes the output of a job. A missing one is not an error.
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
        self.folder.join(format!("{}.tar", job.file_stem()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_a_complete_archive_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let outputs = Outputs::in_folder(dir.path().join("outputs"));
        let [job, later_job] = [1, 2].map(|at| JobIdentity::for_test("demo#1", at));
        assert!(outputs.open(&job).unwrap().is_none());
        for incomplete in [b"" as &[u8], b"part of an archive", &[1; 2048]] {
            let archive = outputs.begin().unwrap();
            archive.writer().unwrap().write_all(incomplete).unwrap();
            assert_eq!(outputs.finish(&job, archive).unwrap_err(), "the output is not complete");
        }
        assert_eq!(fs::read_dir(dir.path().join("outputs")).unwrap().count(), 0, "nothing is left");
        let archive = outputs.begin().unwrap();
        archive.writer().unwrap().write_all(&[0; 1024]).unwrap();
        outputs.finish(&job, archive).unwrap();
        fs::write(dir.path().join("outputs/.new-1"), "part").unwrap();
        outputs.remove_unfinished();
        assert!(!dir.path().join("outputs/.new-1").exists());
        assert!(outputs.open(&job).unwrap().is_some());
        assert!(
            outputs.open(&later_job).unwrap().is_none(),
            "a later job with the same id has its own output"
        );
        outputs.remove(&job).unwrap();
        outputs.remove(&job).unwrap();
        assert!(outputs.open(&job).unwrap().is_none());
    }
}
