//! Folder of a file that init writes, opened without following links.
//!
//! A session may put links anywhere in the project, also between the check of a file and its writing. The checked path
//! contains no links, so every component below the base is opened as a real folder, and every operation in it goes
//! through that descriptor.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Maximum number of names that are tried for a temporary file.
const MAX_NAME_ATTEMPTS: u32 = 16;

/// Open folder in which init writes and removes files.
#[derive(Debug)]
pub struct Folder(OwnedFd);

/// File that is written and still has a temporary name.
#[derive(Debug)]
pub struct StagedFile {
    folder: Folder,
    temp_name: String,
    name: String,
}

impl Folder {
    /// Opens the folder of `target`, which is below `base`. With `create_missing`, creates missing folders.
    ///
    /// # Errors
    /// Returns an error if a component is missing and not to be created, is a link or not a folder, or can't be opened.
    pub fn open(target: &Path, base: &Path, create_missing: bool) -> io::Result<Self> {
        let parent = target.parent().unwrap_or(Path::new("/"));
        let (start, relative) = match parent.strip_prefix(base) {
            Ok(relative) => (base, relative),
            // The base is the person's own folder, where no session may write.
            Err(_) => (parent, Path::new("")),
        };
        let mut fd = open_base(start, create_missing)?;
        for component in relative.components() {
            let Component::Normal(name) = component else {
                return Err(io::Error::other(format!("{} is not a plain path", target.display())));
            };
            fd = match open_subfolder(&fd, Path::new(name)) {
                Err(Errno::NOENT) if create_missing => {
                    match rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(e) => return Err(e.into()),
                    }
                    open_subfolder(&fd, Path::new(name))?
                }
                opened => opened?,
            };
        }
        Ok(Self(fd))
    }

    /// Writes a file beside `name`, with the permissions of the existing file of that name, or those of a new file if
    /// there is none.
    ///
    /// # Errors
    /// Returns the error of the first failing call. No file is left then.
    pub fn stage(self, name: &str, text: &str) -> io::Result<StagedFile> {
        self.stage_like(name, name, text)
    }

    /// Writes a file beside `name`, with the permissions of the existing file `permissions_of`.
    ///
    /// # Errors
    /// Returns the error of the first failing call. No file is left then.
    pub(super) fn stage_like(self, permissions_of: &str, name: &str, text: &str) -> io::Result<StagedFile> {
        let (temporary, mut file) = self.create_temp_file(name)?;
        let staged = StagedFile { folder: self, temp_name: temporary, name: name.to_owned() };
        match rustix::fs::statat(&staged.folder.0, permissions_of, AtFlags::SYMLINK_NOFOLLOW) {
            // Permissions are never wider than before, not even temporarily.
            Ok(existing) if FileType::from_raw_mode(existing.st_mode) == FileType::RegularFile => {
                rustix::fs::fchmod(&file, Mode::from_raw_mode(existing.st_mode & 0o7777))?;
            }
            // A link (whose own mode lets every user write) is replaced, as is any other entry that is not a file.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        Ok(staged)
    }

    /// Creates a file under an unpredictable name.
    fn create_temp_file(&self, name: &str) -> io::Result<(String, File)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..MAX_NAME_ATTEMPTS {
            let mut number = [0; 8];
            getrandom::fill(&mut number).map_err(io::Error::other)?;
            let temporary = format!(".{name}.{}", hex::encode(number));
            match rustix::fs::openat(&self.0, &temporary, flags, Mode::from_raw_mode(0o666)) {
                Ok(fd) => return Ok((temporary, File::from(fd))),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Checks that entries of the folder may be removed.
    ///
    /// # Errors
    /// Returns an error if entries can't be removed, for example on a read-only file system.
    pub(super) fn check_writable(&self) -> io::Result<()> {
        Ok(rustix::fs::accessat(&self.0, ".", rustix::fs::Access::WRITE_OK, AtFlags::empty())?)
    }

    /// Removes a file, or another entry of that name. A missing entry is not an error.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn remove_empty_folder(&self, name: &str) -> bool {
        rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR).is_ok()
    }
}

impl StagedFile {
    /// Renames the file to its final name and replaces an existing entry.
    pub fn publish(&self) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.folder.0, &self.temp_name, &self.folder.0, &self.name)?)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // Best effort. After `publish` there is nothing left to remove.
        let _ = self.folder.remove(&self.temp_name);
    }
}

#[expect(clippy::disallowed_methods, reason = "the user names this file; it is not found in a project")]
fn open_base(path: &Path, create_missing: bool) -> io::Result<OwnedFd> {
    if create_missing {
        std::fs::create_dir_all(path)?;
    }
    Ok(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn open_subfolder(parent: &OwnedFd, name: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_link_that_replaced_a_folder_after_the_check_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("project");
        let outside = dir.path().join("outside");
        fs::create_dir_all(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink(&outside, root.join(".codex")).unwrap();
        for target in [".codex/hooks.json", ".codex/rules/relay.rules"] {
            assert!(Folder::open(&root.join(target), &root, true).is_err(), "{target}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_copy_has_the_permissions_of_the_original() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        fs::write(dir.path().join("config.toml"), "secret").unwrap();
        fs::set_permissions(dir.path().join("config.toml"), fs::Permissions::from_mode(0o600)).unwrap();
        let folder = Folder::open(&dir.path().join("config.toml"), dir.path(), true).unwrap();
        folder.stage_like("config.toml", "config.toml.before-init", "secret").unwrap().publish().unwrap();
        assert_eq!((mode("config.toml"), mode("config.toml.before-init")), (0o600, 0o600));
    }

    #[test]
    fn a_link_in_the_place_of_the_file_is_replaced_and_its_target_stays() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "safe").unwrap();
        let root = dir.path().join("project");
        fs::create_dir(&root).unwrap();
        symlink(&victim, root.join("AGENTS.md")).unwrap();
        let folder = Folder::open(&root.join("AGENTS.md"), &root, true).unwrap();
        let staged = folder.stage("AGENTS.md", "new").unwrap();
        staged.publish().unwrap();
        drop(staged);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "safe");
        assert_eq!(fs::read_to_string(root.join("AGENTS.md")).unwrap(), "new");
        let mode = fs::symlink_metadata(root.join("AGENTS.md")).unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "the file must not have the permissions of the link");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1, "no temporary file is left");
    }
}
