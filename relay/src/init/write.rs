//! Execution of a plan: every new text is on the disk before the first file is replaced.

use std::io;
use std::path::{Path, PathBuf};

use super::change::FileChange;
use super::folder::{Folder, StagedFile};
use super::plan::{InitPlan, PlannedFile};

/// Suffix of the name of a copy of a person's text.
pub const BACKUP_SUFFIX: &str = "before-init";

/// Failure to write or to remove a file.
#[derive(Debug)]
pub struct WriteFailure {
    /// Path of the file.
    pub path: PathBuf,
    /// Error of the failing call.
    pub error: io::Error,
    /// True if other files were written or removed before the failure.
    pub has_written_others: bool,
}

/// Writes and removes the files of a plan.
///
/// # Errors
/// Returns the first file that can't be written or removed. Unless `has_written_others` is set, nothing was changed.
pub fn execute_plan(plan: &InitPlan) -> Result<(), WriteFailure> {
    let mut staging = StagedChanges::default();
    for file in &plan.files {
        staging.stage_file(file).map_err(|error| WriteFailure {
            path: file.target.clone(),
            error,
            has_written_others: false,
        })?;
    }
    staging.publish()?;
    for file in plan.files.iter().filter(|file| file.change == FileChange::Delete) {
        remove_empty_folders(&file.target, &file.kept_folder);
    }
    Ok(())
}

/// Changes that are prepared but not published. Dropping them removes the prepared files.
#[derive(Default)]
struct StagedChanges {
    /// Written files and their final paths, in this order. If two names refer to one file, the last published one
    /// contains both changes.
    staged_files: Vec<(StagedFile, PathBuf)>,
    files_to_remove: Vec<(Folder, PathBuf)>,
    /// Folders that were created for these files, each with the base folder above it.
    created_folders: Vec<(PathBuf, PathBuf)>,
}

impl StagedChanges {
    fn stage_file(&mut self, file: &PlannedFile) -> io::Result<()> {
        let (target, base) = (&file.target, &file.kept_folder);
        let text = match &file.change {
            FileChange::None => return Ok(()),
            FileChange::Delete => {
                let folder = Folder::open(target, base, false)?;
                // Checked before any file is changed, because a read-only file system would otherwise be noticed too
                // late.
                folder.check_writable()?;
                self.files_to_remove.push((folder, target.clone()));
                return Ok(());
            }
            FileChange::Write(text) => text,
        };
        let missing_folders = target.ancestors().skip(1).take_while(|dir| !dir.exists());
        let missing_folders: Vec<_> = missing_folders.map(|dir| (dir.to_owned(), base.clone())).collect();
        self.created_folders.extend(missing_folders.into_iter().rev());
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        if let Some(old) = &file.backup_text {
            let copy = format!("{name}.{BACKUP_SUFFIX}");
            let staged = Folder::open(target, base, true)?.stage_like(&name, &copy, old)?;
            self.staged_files.push((staged, target.with_file_name(copy)));
        }
        let staged = Folder::open(target, base, true)?.stage(&name, text)?;
        self.staged_files.push((staged, target.clone()));
        Ok(())
    }

    fn publish(mut self) -> Result<(), WriteFailure> {
        let mut has_written = false;
        for (staged, path) in std::mem::take(&mut self.staged_files) {
            // On an error, the remaining files are removed on drop.
            staged.publish().map_err(|error| WriteFailure {
                path,
                error,
                has_written_others: has_written,
            })?;
            has_written = true;
        }
        self.created_folders.clear();
        for (folder, path) in std::mem::take(&mut self.files_to_remove) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            folder.remove(&name).map_err(|error| WriteFailure {
                path,
                error,
                has_written_others: has_written,
            })?;
            has_written = true;
        }
        Ok(())
    }
}

impl Drop for StagedChanges {
    fn drop(&mut self) {
        // Files are removed first, because only an empty folder can be removed.
        self.staged_files.clear();
        for (dir, base) in self.created_folders.iter().rev() {
            remove_if_empty(dir, base);
        }
    }
}

/// Removes the folders above `path` that have become empty, up to but excluding `base`.
fn remove_empty_folders(path: &Path, base: &Path) {
    let folders = path.ancestors().skip(1).take_while(|dir| *dir != base && dir.starts_with(base));
    for dir in folders {
        if !remove_if_empty(dir, base) {
            return;
        }
    }
}

/// Removes a folder if it is empty; returns true if it was removed.
fn remove_if_empty(dir: &Path, base: &Path) -> bool {
    let Some(name) = dir.file_name() else { return false };
    Folder::open(dir, base, false).is_ok_and(|parent| parent.remove_empty_folder(&name.to_string_lossy()))
}
