//! Doing what was planned: every new text is on the disk before the first file gets it.

#![expect(clippy::disallowed_methods, reason = "files that people keep, looked at before")]

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::plan::{Plan, Planned};
use super::verdict::Change;
use crate::registry::atomic;

/// What the name of a copy ends in.
pub const COPY: &str = "before-init";
/// Rights of a new file, less the umask.
const NEW: u32 = 0o666;

/// A file that could not be written.
#[derive(Debug)]
pub struct Failed {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
    /// Whether other files have been written before it.
    pub partly: bool,
}

/// Writes and removes what was planned.
///
/// # Errors
/// The first file that can't be written or removed. Unless it says `partly`, nothing has been changed.
pub fn carry_out(plan: &Plan) -> Result<(), Failed> {
    let mut staging = Staging::default();
    for file in &plan.files {
        staging.stage(file).map_err(|error| Failed { path: file.target.clone(), error, partly: false })?;
    }
    staging.publish()?;
    for file in plan.files.iter().filter(|file| file.change == Change::Delete) {
        prune(&file.target, &file.base);
    }
    Ok(())
}

/// What has been prepared; dropping it takes back what was not published.
#[derive(Default)]
struct Staging {
    /// Temporary files and the names that they get.
    texts: Vec<(PathBuf, PathBuf)>,
    gone: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Staging {
    fn stage(&mut self, file: &Planned) -> io::Result<()> {
        let text = match &file.change {
            Change::None => return Ok(()),
            Change::Delete => {
                // A folder on a file system that is read-only here would be noticed too late otherwise.
                rustix::fs::access(file.target.parent().unwrap_or(&file.target), Access::WRITE_OK)?;
                self.gone.push(file.target.clone());
                return Ok(());
            }
            Change::Write(text) => text,
        };
        self.make_parent(&file.target)?;
        if let Some(old) = &file.copy {
            let name = file.target.file_name().unwrap_or_default().to_string_lossy();
            self.text(&file.target.with_file_name(format!("{name}.{COPY}")), old)?;
        }
        self.text(&file.target, text)
    }

    fn make_parent(&mut self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|dir| !dir.exists()).collect();
        for dir in missing.into_iter().rev() {
            fs::create_dir(dir)?;
            self.folders.push(dir.to_owned());
        }
        Ok(())
    }

    /// Two names for one file are both staged: what is published last holds what both wrote.
    fn text(&mut self, path: &Path, text: &str) -> io::Result<()> {
        let temporary = atomic::temporary(path);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(NEW).open(&temporary)?;
        if !self.texts.iter().any(|(_, staged)| staged == path) {
            self.texts.push((temporary, path.to_owned()));
        }
        match fs::metadata(path) {
            // Never wider than it was, not for a moment.
            Ok(there) => {
                file.set_permissions(fs::Permissions::from_mode(there.permissions().mode() & 0o7777))?;
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }

    fn publish(mut self) -> Result<(), Failed> {
        let mut partly = false;
        while let Some((temporary, path)) = self.texts.first().cloned() {
            // What follows is taken back when this is dropped.
            fs::rename(&temporary, &path).map_err(|error| Failed { path, error, partly })?;
            self.texts.remove(0);
            partly = true;
        }
        self.folders.clear();
        for path in std::mem::take(&mut self.gone) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Failed { path, error, partly });
                }
                _ => partly = true,
            }
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Best effort: what stays is empty or hidden.
        for (temporary, _) in &self.texts {
            let _ = fs::remove_file(temporary);
        }
        for dir in self.folders.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Removes the folders that have become empty, up to but without `base`.
fn prune(path: &Path, base: &Path) {
    let below = path.ancestors().skip(1).take_while(|dir| *dir != base && dir.starts_with(base));
    for dir in below {
        if fs::remove_dir(dir).is_err() {
            return;
        }
    }
}
