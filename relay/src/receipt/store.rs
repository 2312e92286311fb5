//! Files with the receipts of a project, in the state folder.

#![expect(clippy::disallowed_methods, reason = "the user's state folder, which no session may write")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::envelope::Envelope;
use super::key::ReceiptKey;
use crate::files::atomic::{self, Durability};
use crate::job_identity::JobIdentity;

/// Folder with the receipts of one project.
#[derive(Debug, Clone)]
pub struct Receipts {
    folder: PathBuf,
}

impl Receipts {
    /// Refers to the receipts in a folder, which may not exist yet.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Returns the folder of the key and the receipts.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Signs and stores the receipt of a job.
    ///
    /// # Errors
    /// Returns one line with the reason.
    pub fn write(&self, job: &JobIdentity, statement: &[u8]) -> Result<(), String> {
        let envelope = Envelope::sign(statement, &ReceiptKey::load_or_create(&self.folder)?)?;
        let mut json = serde_json::to_vec(&envelope).map_err(|e| e.to_string())?;
        json.push(b'\n');
        let path = self.path(job);
        atomic::replace_file(&path, &json, Durability::Synced)
            .map_err(|e| format!("{} can't be written: {e}", path.display()))
    }

    /// Reads the receipt of a job; `None` if the job has none.
    ///
    /// # Errors
    /// Returns one line with the file and the reason.
    pub fn read(&self, job: &JobIdentity) -> Result<Option<Vec<u8>>, String> {
        let path = self.path(job);
        match fs::read(&path) {
            Ok(json) => Ok(Some(json)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(format!("{} can't be read: {e}", path.display())),
        }
    }

    /// Removes the receipt of a job. A missing one is not an error.
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
        self.folder.join(format!("{}.json", job.file_stem()))
    }
}
