//! Placeholder files for settings that don't exist, so that no job can create these settings.
//!
//! If a path that must be read-only is missing, Codex creates an empty file there, and removes it when its command
//! ends. A sandbox that is created during that command protects the file as if it were the user's, and no longer
//! protects the path when the file is gone. Codex never removes a file that existed before its sandbox and has content.
//!
//! ```text
//!  first job:  create ─ shared lock ──── end: last lock? ─ no: keep the placeholder
//!  other job:           └ shared lock ──────── end: last lock? ─ yes: remove the placeholder
//! ```
//!
//! The agent locks the placeholder itself. The kernel releases the lock with the agent, and it works between agents.

use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use crate::sandbox_check::open_without_links;

/// Content of a placeholder that git reads as settings: a comment only.
const NO_SETTINGS: &str = "# Made by relay, which removes it when no job runs here.\n";
/// Content of `commondir` that has the same effect as a missing file: the repository is its own common folder.
const OWN_REPOSITORY: &str = "./\n";
/// Content of an ignore file that hides itself and its folder from git.
const IGNORE_ALL: &str = "# Made by relay, which removes this folder when no job runs here.\n*\n";
const IGNORE_FILE: &str = ".gitignore";
/// Maximum number of attempts to open a placeholder. An attempt fails if another process is removing the file.
const MAX_ATTEMPTS: usize = 20;

/// Placeholders for the settings that jobs in a sandbox may only read.
#[derive(Debug, Default)]
pub(crate) struct Placeholders {
    placeholders: Vec<Placeholder>,
    /// Every protected path, with the identity of its file right after the placeholders were created.
    initial_files: Vec<(PathBuf, Option<FileIdentity>)>,
}

/// Identity of a file, constant for its lifetime.
#[derive(Debug, PartialEq, Eq)]
struct FileIdentity(u64, u64, Option<SystemTime>);

impl FileIdentity {
    fn of_path(path: &Path) -> Option<Self> {
        let meta = path.symlink_metadata().ok()?;
        Some(Self(meta.dev(), meta.ino(), meta.created().ok()))
    }
}

impl Placeholders {
    /// Creates a placeholder for each missing path in `paths`. Skips paths that the agent has no permission to
    /// create: no job can create them either.
    pub(crate) fn create(paths: &[impl AsRef<Path>]) -> Result<Self, String> {
        let mut placeholders = Self::default();
        let paths = paths.iter().map(AsRef::as_ref);
        for path in paths.clone() {
            match Placeholder::create(path) {
                Ok(placeholder) => placeholders.placeholders.extend(placeholder),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {}
                    _ => return Err(format!("{} can't be protected from jobs: {error}", path.display())),
                },
            }
        }
        placeholders.initial_files =
            paths.map(|path| (path.to_owned(), FileIdentity::of_path(path))).collect();
        Ok(placeholders)
    }

    /// Returns the paths that now lead to another file. A sandbox protects only the file that existed when the sandbox
    /// was created, so jobs could write to the new file. A missing path is not returned: git takes no settings from it.
    pub(crate) fn replaced_paths(&self) -> Vec<&Path> {
        let is_other = |path: &Path, initial| {
            FileIdentity::of_path(path).is_some_and(|current| Some(&current) != initial)
        };
        let replaced = self.initial_files.iter().filter(|(path, initial)| is_other(path, initial.as_ref()));
        replaced.map(|(path, _)| path.as_path()).collect()
    }
}

/// A placeholder on which this process holds a shared lock.
#[derive(Debug)]
struct Placeholder {
    folder: OwnedFd,
    name: PathBuf,
    file: File,
}

impl Placeholder {
    /// Creates a placeholder, or returns `None` if the user has a file at this path.
    fn create(path: &Path) -> io::Result<Option<Self>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        let name = PathBuf::from(name);
        // If the folder is missing too, no program takes settings from there.
        let folder = match open_without_links(parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // The path is a link: Codex protects its target as far as possible.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOTDIR | Errno::LOOP)) => {
                return Ok(None);
            }
            folder => folder?,
        };
        for _ in 0..MAX_ATTEMPTS {
            let file = match open_in_folder(&folder, &name, OFlags::empty()) {
                Err(Errno::NOENT) => {
                    create_entry(&folder, &name)?;
                    continue;
                }
                // A link, a pipe or another special file belongs to the user.
                Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
                opened => File::from(opened?),
            };
            turn_into_placeholder(&name, &file)?;
            if !is_placeholder(&name, &file) {
                return Ok(None);
            }
            match file.try_lock_shared() {
                Ok(()) if is_file_at(&file, &folder, &name) => return Ok(Some(Self { folder, name, file })),
                // Another process is removing the file.
                Ok(()) | Err(TryLockError::WouldBlock) => std::thread::yield_now(),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        // The last job that holds the lock removes the placeholder.
        let is_last = self.file.unlock().is_ok() && self.file.try_lock().is_ok();
        if !is_last
            || !is_file_at(&self.file, &self.folder, &self.name)
            || !is_placeholder(&self.name, &self.file)
        {
            return;
        }
        let removed = if self.file.metadata().is_ok_and(|meta| meta.is_dir()) {
            unlinkat(&self.file, IGNORE_FILE, AtFlags::empty())
                .and_then(|()| unlinkat(&self.folder, &self.name, AtFlags::REMOVEDIR))
        } else {
            unlinkat(&self.folder, &self.name, AtFlags::empty())
        };
        match removed {
            // Files that the user put into the folder meanwhile stay there.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => {}
            Err(error) => tracing::warn!("the placeholder {} can't be removed: {error}", self.name.display()),
        }
    }
}

/// Returns the text of a placeholder that is a file; `None` for a folder.
fn placeholder_content(name: &Path) -> Option<&'static str> {
    match name.to_str() {
        Some("config" | "config.worktree") => Some(NO_SETTINGS),
        Some("commondir") => Some(OWN_REPOSITORY),
        _ => None,
    }
}

/// Creates the file or folder of a placeholder atomically, unless another process has created it first.
fn create_entry(folder: &OwnedFd, name: &Path) -> Result<(), Errno> {
    // The name is random, so that no job can create the file first.
    let random = getrandom::u64().map_err(|_| Errno::IO)?;
    let new_name = PathBuf::from(format!(".relay-new-{random:016x}"));
    let created = match placeholder_content(name) {
        Some(text) => write_new_file(folder, &new_name, text),
        None => mkdirat(folder, &new_name, Mode::from_raw_mode(0o755))
            .and_then(|()| open_in_folder(folder, &new_name, OFlags::DIRECTORY))
            .and_then(|new_folder| write_new_file(&new_folder, Path::new(IGNORE_FILE), IGNORE_ALL)),
    };
    match created.and_then(|()| renameat_with(folder, &new_name, folder, name, RenameFlags::NOREPLACE)) {
        Ok(()) => Ok(()),
        Err(error) => {
            let new_folder = open_in_folder(folder, &new_name, OFlags::DIRECTORY);
            let _ = new_folder.map(|new_folder| unlinkat(new_folder, IGNORE_FILE, AtFlags::empty()));
            let flags =
                if placeholder_content(name).is_some() { AtFlags::empty() } else { AtFlags::REMOVEDIR };
            let _ = unlinkat(folder, &new_name, flags);
            if error == Errno::EXIST { Ok(()) } else { Err(error) }
        }
    }
}

fn write_new_file(folder: &OwnedFd, name: &Path, text: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = File::from(openat(folder, name, flags, Mode::from_raw_mode(0o644))?);
    (&file).write_all(text.as_bytes()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Turns an empty file that another Codex created into a placeholder, so that it stays when that Codex's command ends.
fn turn_into_placeholder(name: &Path, file: &File) -> io::Result<()> {
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > 0 || meta.mode() & 0o222 != 0 {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(0o644))?;
    // The file is changed in place, because the other Codex's sandbox protects this inode.
    let fd_path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options()
        .write(true)
        .open(fd_path)?
        .write_all(placeholder_content(name).unwrap_or(NO_SETTINGS).as_bytes())
}

/// Returns true for a placeholder that this agent or another one created.
fn is_placeholder(name: &Path, file: &File) -> bool {
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        let ignore = open_in_folder(file, Path::new(IGNORE_FILE), OFlags::empty());
        return placeholder_content(name).is_none()
            && ignore.is_ok_and(|ignore| has_content(&File::from(ignore), IGNORE_ALL));
    }
    has_content(file, placeholder_content(name).unwrap_or(NO_SETTINGS))
}

fn has_content(file: &File, text: &str) -> bool {
    let mut bytes = vec![0; text.len()];
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == text.len() as u64)
        && file.read_exact_at(&mut bytes, 0).is_ok()
        && bytes == text.as_bytes()
}

fn open_in_folder(folder: impl AsFd, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let base_flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(folder, name, flags | base_flags, Mode::empty())
}

fn is_file_at(file: &File, folder: &OwnedFd, name: &Path) -> bool {
    let Ok(meta) = file.metadata() else { return false };
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn placeholders_stay_until_the_last_job_ends_beside_the_user_s_files() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir(dir.join(".vscode")).unwrap();
        fs::write(dir.join("config"), "").unwrap();
        let paths =
            [".claude", ".vscode", "commondir", "config", "config.worktree"].map(|name| dir.join(name));
        let before = names(&dir);
        let first = Placeholders::create(&paths).unwrap();
        let second = Placeholders::create(&paths).unwrap();
        assert_eq!(names(&dir), [".claude", ".vscode", "commondir", "config", "config.worktree"]);
        assert_eq!(fs::read_to_string(dir.join("commondir")).unwrap(), "./\n");
        assert_eq!(
            (names(&dir.join(".claude")), names(&dir.join(".vscode"))),
            (vec![IGNORE_FILE.to_owned()], vec![])
        );
        drop(first);
        assert_eq!(names(&dir).len(), 5);
        assert_eq!(second.replaced_paths(), [] as [&Path; 0]);
        drop(second);
        assert_eq!(names(&dir), before);
    }

    #[test]
    fn an_empty_file_of_another_codex_becomes_a_placeholder() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let path = dir.join(".codex");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
        let placeholders = Placeholders::create(std::slice::from_ref(&path)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), NO_SETTINGS);
        drop(placeholders);
        assert!(!path.exists());
    }

    #[test]
    fn files_that_a_user_puts_there_stay_and_replaced_paths_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let paths = ["config", "config.worktree", ".claude"].map(|name| dir.join(name));
        fs::write(&paths[0], "[core]\n").unwrap();
        let placeholders = Placeholders::create(&paths).unwrap();
        fs::write(dir.join("new"), "[user]\n").unwrap();
        fs::rename(dir.join("new"), &paths[0]).unwrap();
        fs::write(dir.join("new"), "[a]\n").unwrap();
        fs::rename(dir.join("new"), &paths[1]).unwrap();
        fs::write(dir.join(".claude/settings.json"), "{}").unwrap();
        assert_eq!(placeholders.replaced_paths(), [&paths[0], &paths[1]]);
        fs::remove_file(&paths[1]).unwrap();
        assert_eq!(placeholders.replaced_paths(), [&paths[0]]);
        drop(placeholders);
        assert_eq!(names(&dir), [".claude", "config"]);
        assert_eq!(names(&dir.join(".claude")), ["settings.json"]);
    }

    #[test]
    fn links_and_pipes_are_no_placeholders() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.join("config")).unwrap();
        let fifo = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("commondir"), rustix::fs::FileType::Fifo, fifo, 0)
            .unwrap();
        drop(
            Placeholders::create(&["config", "commondir", "missing/config"].map(|name| dir.join(name)))
                .unwrap(),
        );
        assert_eq!(names(&dir), ["commondir", "config"]);
    }
}
