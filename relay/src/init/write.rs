//! Execution of a plan: every new text is on the disk before the first file is replaced.

use std::io;
use std::path::{Path, PathBuf};

use super::change::Change;
use super::folder::{Folder, Staged};
use super::plan::{Plan, Planned};

/// Suffix of the name of a copy.
pub const BACKUP_SUFFIX: &str = "before-init";

/// A file that could not be written.
#[derive(Debug)]
pub struct Failed {
    /// Path of the file.
    pub path: PathBuf,
    /// Error of the failing call.
    pub error: io::Error,
    /// True if other files were written before it.
    pub partly: bool,
}

/// Writes and removes the files of a plan.
///
/// # Errors
/// The first file that can't be written or removed. Unless `partly` is set, nothing was changed.
pub fn execute(plan: &Plan) -> Result<(), Failed> {
    let mut staging = Staging::default();
    for file in &plan.files {
        staging.stage(file).map_err(|error| Failed { path: file.target.clone(), error, partly: false })?;
    }
    staging.publish()?;
    for file in plan.files.iter().filter(|file| file.change == Change::Delete) {
        remove_empty_folders(&file.target, &file.base);
    }
    Ok(())
}

/// Prepared changes. Dropping them removes what was not published.
#[derive(Default)]
struct Staging {
    /// Written files and their final paths, in this order. Two names of one file are both staged: the one published
    /// last holds both changes.
    texts: Vec<(Staged, PathBuf)>,
    gone: Vec<(Folder, PathBuf)>,
    /// Folders created for them, each with the base that it is below.
    folders: Vec<(PathBuf, PathBuf)>,
}

impl Staging {
    fn stage(&mut self, file: &Planned) -> io::Result<()> {
        let (target, base) = (&file.target, &file.base);
        let text = match &file.change {
            Change::None => return Ok(()),
            Change::Delete => {
                let folder = Folder::open(target, base, false)?;
                // Otherwise a folder on a read-only file system would be noticed too late.
                folder.check_writable()?;
                self.gone.push((folder, target.clone()));
                return Ok(());
            }
            Change::Write(text) => text,
        };
        let missing = target.ancestors().skip(1).take_while(|dir| !dir.exists());
        let missing: Vec<_> = missing.map(|dir| (dir.to_owned(), base.clone())).collect();
        self.folders.extend(missing.into_iter().rev());
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        if let Some(old) = &file.copy {
            let copy = format!("{name}.{BACKUP_SUFFIX}");
            let staged = Folder::open(target, base, true)?.stage_like(&name, &copy, old)?;
            self.texts.push((staged, target.with_file_name(copy)));
        }
        let staged = Folder::open(target, base, true)?.stage(&name, text)?;
        self.texts.push((staged, target.clone()));
        Ok(())
    }

    fn publish(mut self) -> Result<(), Failed> {
        let mut partly = false;
        for (staged, path) in std::mem::take(&mut self.texts) {
            // On an error, the remaining files are removed on drop.
            staged.publish().map_err(|error| Failed { path, error, partly })?;
            partly = true;
        }
        self.folders.clear();
        for (folder, path) in std::mem::take(&mut self.gone) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            folder.remove(&name).map_err(|error| Failed { path, error, partly })?;
            partly = true;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Files first: only an empty folder can be removed.
        self.texts.clear();
        for (dir, base) in self.folders.iter().rev() {
            remove_empty(dir, base);
        }
    }
}

/// Removes the folders that have become empty, up to but excluding `base`.
fn remove_empty_folders(path: &Path, base: &Path) {
    let below = path.ancestors().skip(1).take_while(|dir| *dir != base && dir.starts_with(base));
    for dir in below {
        if !remove_empty(dir, base) {
            return;
        }
    }
}

/// Removes a folder if it is empty; returns true if it was.
fn remove_empty(dir: &Path, base: &Path) -> bool {
    let Some(name) = dir.file_name() else { return false };
    Folder::open(dir, base, false).is_ok_and(|above| above.remove_empty(&name.to_string_lossy()))
}
