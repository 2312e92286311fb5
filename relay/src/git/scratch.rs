//! A temporary repository of relay's own, through which the user's files and objects are read.
//!
//! A scratch repository has no refs, its own configuration, index and new objects, and the user's objects as
//! alternates. So git reads none of the user's configuration files, and writes nothing into the user's repository.

#![expect(clippy::disallowed_methods, reason = "a temporary folder of this process alone")]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::GitError;
use super::command::Git;
use super::config::PersonSettings;
use super::source::{Source, alternates_line};
use crate::bounded_file;

/// A temporary repository, which is removed when the value is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    dir: TempDir,
    root: PathBuf,
}

impl Scratch {
    /// Creates a scratch repository for the work tree of `source`, with the settings that relay adopts from `source`
    /// and from the configuration of `person`, the user. It also sees the objects in `extra_objects`.
    pub(super) fn new(
        source: &Source,
        person: &PersonSettings,
        extra_objects: &[PathBuf],
    ) -> Result<Self, GitError> {
        let dir = tempfile::Builder::new()
            .prefix("relay-git-")
            .tempdir()
            .map_err(|e| scratch_creation_error(&e))?;
        let scratch = Self { dir, root: source.root.clone() };
        scratch.write_files(source, person, extra_objects).map_err(|e| scratch_creation_error(&e))?;
        Ok(scratch)
    }

    fn write_files(
        &self,
        source: &Source,
        person: &PersonSettings,
        extra_objects: &[PathBuf],
    ) -> io::Result<()> {
        let dir = self.dir.path();
        let mut alternates = alternates_line(&source.objects());
        for objects in extra_objects {
            alternates.extend(alternates_line(objects));
        }
        write_repository(dir, &source.settings.to_config(person), &alternates)?;
        if let Some(shallow) = source.shallow_commits() {
            fs::write(dir.join("shallow"), shallow)?;
        }
        fs::create_dir(dir.join("info"))?;
        for name in ["info/exclude", "info/attributes"] {
            if let Ok(bytes) = bounded_file::read_bounded(&source.common_dir.join(name)) {
                fs::write(dir.join(name), bytes)?;
            }
        }
        Ok(())
    }

    /// Copies the index of the work tree into the scratch repository, with the shared parts of a split index.
    pub(super) fn copy_index(&self, source: &Source) -> Result<(), GitError> {
        let unreadable = |e: io::Error| GitError::io("the index of the repository can't be copied", &e);
        let copy = |name: &Path| -> io::Result<()> {
            let mut index = bounded_file::open_file(&source.git_dir.join(name))?;
            let mut copy = File::create(self.dir.path().join(name))?;
            io::copy(&mut index, &mut copy)?;
            // Git compares a file's time with the index's time to find files that changed right after the index.
            copy.set_modified(index.metadata()?.modified()?)
        };
        match copy(Path::new("index")) {
            // A repository without any file has no index.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            copied => copied.map_err(unreadable)?,
        }
        // A split index names a second file.
        for entry in fs::read_dir(&source.git_dir).map_err(unreadable)?.flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b"sharedindex.") {
                copy(Path::new(&name)).map_err(unreadable)?;
            }
        }
        Ok(())
    }

    /// Prepares a call of git that works on objects.
    pub(super) fn git(&self, subcommand: &str) -> Git {
        Git::new(self.dir.path(), subcommand)
    }

    /// Prepares a call of git that works on the user's files, with the copy of the index.
    pub(super) fn work_tree_git(&self, subcommand: &str) -> Git {
        self.git(subcommand).env("GIT_WORK_TREE", &self.root).current_dir(&self.root)
    }

    /// Creates an empty unnamed temporary file in the folder of the scratch repository.
    pub(super) fn temporary_file(&self) -> Result<File, GitError> {
        tempfile::tempfile_in(self.dir.path()).map_err(|e| scratch_creation_error(&e))
    }
}

/// Writes the files of an empty repository without a work tree.
pub(super) fn write_repository(dir: &Path, config: &str, alternates: &[u8]) -> io::Result<()> {
    for folder in ["objects/info", "objects/pack", "refs/heads"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    fs::write(dir.join("HEAD"), "ref: refs/heads/base\n")?;
    fs::write(dir.join("config"), config)?;
    fs::write(dir.join("objects/info/alternates"), alternates)
}

fn scratch_creation_error(error: &io::Error) -> GitError {
    GitError::Failed(format!(
        "no temporary repository can be made in {} ({error}): free some space there, or set TMPDIR",
        std::env::temp_dir().display()
    ))
}
