//! Store of the archives in the state folder.

#![expect(clippy::disallowed_methods, reason = "relay's own state folder, which no session may write")]

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use common::ids::JobId;
use tempfile::NamedTempFile;

/// Maximum length of an archive, in bytes: the largest output of an agent, with the headers of all its files.
pub const MAX_ARCHIVE_BYTES: u64 = 260 << 20;
/// Number of zero bytes at the end of a complete archive.
const END_MARK_BYTES: i64 = 1024;

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

    /// Begins to receive an archive.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub fn begin(&self) -> io::Result<NewArchive> {
        fs::create_dir_all(&self.folder)?;
        let file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.folder)?;
        Ok(NewArchive { file })
    }

    /// Stores a received archive as the output of a job, if it is complete.
    ///
    /// # Errors
    /// Returns one line with the reason.
    pub fn finish(&self, job: &JobId, archive: NewArchive) -> Result<(), String> {
        let store_error = |e: io::Error| format!("the output can't be stored: {e}");
        let mut file = archive.writer().map_err(store_error)?;
        let mut last_bytes = [1; 1024];
        let is_complete = file
            .seek(SeekFrom::End(-END_MARK_BYTES))
            .and_then(|_| file.read_exact(&mut last_bytes))
            .is_ok_and(|()| last_bytes.iter().all(|byte| *byte == 0));
        if !is_complete {
            return Err("the output is not complete".to_owned());
        }
        file.sync_data().map_err(store_error)?;
        archive.file.persist(self.path(job)).map_err(|e| store_error(e.error))?;
        Ok(())
    }

    /// Opens the output of a job; `None` if the job left none.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub fn open(&self, job: &JobId) -> io::Result<Option<File>> {
        match File::open(self.path(job)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Removes the output of a job. A missing one is not an error.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub fn remove(&self, job: &JobId) -> io::Result<()> {
        match fs::remove_file(self.path(job)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn path(&self, job: &JobId) -> PathBuf {
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
        let job: JobId = "demo#1".parse().unwrap();
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
        assert!(outputs.open(&job).unwrap().is_some());
        outputs.remove(&job).unwrap();
        outputs.remove(&job).unwrap();
        assert!(outputs.open(&job).unwrap().is_none());
    }
}
