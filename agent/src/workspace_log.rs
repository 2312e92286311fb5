//! Copy of a job's log in the folder `.codex-worker/` of the job's workspace, for users who look there.
//!
//! The worker can write to that folder, and may be hostile. So all access goes through directory descriptors and only
//! creates new files (`O_EXCL`, never through a link). No existing file is ever opened, and nothing is read.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use common::ids::JobId;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, fchown, fstat, mkdirat, openat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::user::UserIds;

/// Name of the folder in the workspace.
const LOG_FOLDER: &str = ".codex-worker";
/// Maximum size of one log file, in bytes: enough for hours of verbose output, and ten jobs' files fit on any disk.
const MAX_FILE_SIZE: u64 = 16 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFile {
    /// `log.txt`: the human-readable log.
    Log,
    /// `codex.jsonl`: the output of Codex.
    Codex,
    /// `last-message.txt`: the worker's last message.
    Message,
}

impl LogFile {
    const fn name(self) -> &'static str {
        match self {
            Self::Log => "log.txt",
            Self::Codex => "codex.jsonl",
            Self::Message => "last-message.txt",
        }
    }
}

/// Log files of one job. Each file is created when it gets its first output.
#[derive(Debug)]
pub(crate) struct WorkspaceLog {
    job_dir: OwnedFd,
    owner: Option<UserIds>,
    path: String,
    files: [Option<BoundedFile>; 3],
}

#[derive(Debug)]
struct BoundedFile {
    file: File,
    written_bytes: u64,
}

impl WorkspaceLog {
    /// Creates the folder of a job. `owner` is the user that the worker runs as, if it is not the agent's user.
    ///
    /// # Errors
    /// The file system failed, or another file exists at the folder's path.
    pub(crate) fn open(workspace: impl AsFd, job: &JobId, owner: Option<UserIds>) -> io::Result<Self> {
        let outer = open_folder(workspace, LOG_FOLDER, owner)?;
        match create_new_file(&outer, ".gitignore", owner) {
            Ok(mut file) => file.write_all(b"*\n")?,
            // An existing file is left as it is.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let stem = job.file_stem();
        let dir = open_folder(&outer, &stem, owner)?;
        // The agent creates the link but never follows it. A folder with that name is not removed.
        let _ = unlinkat(&outer, "log.txt", AtFlags::empty());
        let _ = symlinkat(format!("{stem}/log.txt"), &outer, "log.txt");
        let path = format!("{LOG_FOLDER}/{stem}/log.txt");
        let mut log = Self { job_dir: dir, owner, path, files: [None, None, None] };
        log.append(LogFile::Log, b"")?;
        Ok(log)
    }

    /// Returns the path of the log, relative to the workspace.
    pub(crate) fn path(&self) -> String {
        self.path.clone()
    }

    /// Appends to a file; drops everything beyond [`MAX_FILE_SIZE`].
    pub(crate) fn append(&mut self, file: LogFile, bytes: &[u8]) -> io::Result<()> {
        let slot = &mut self.files[file as usize];
        let bounded = if let Some(bounded) = slot {
            bounded
        } else {
            // The file may exist already, created by an earlier run of the job or by another program.
            match unlinkat(&self.job_dir, file.name(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            slot.insert(BoundedFile {
                file: create_new_file(&self.job_dir, file.name(), self.owner)?,
                written_bytes: 0,
            })
        };
        if bounded.written_bytes >= MAX_FILE_SIZE {
            return Ok(());
        }
        let remaining = usize::try_from(MAX_FILE_SIZE - bounded.written_bytes).unwrap_or(usize::MAX);
        let written = &bytes[..bytes.len().min(remaining)];
        bounded.file.write_all(written)?;
        bounded.written_bytes += written.len() as u64;
        if bounded.written_bytes >= MAX_FILE_SIZE {
            bounded.file.write_all(b"\n[this copy ends here: the relay has the rest]\n")?;
        }
        Ok(())
    }
}

/// Opens a folder, and creates it if missing. A new folder is given to `owner`; an existing one keeps its owner.
fn open_folder(parent: impl AsFd, name: &str, owner: Option<UserIds>) -> io::Result<OwnedFd> {
    let is_new = match mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(&parent, name, flags, Mode::empty())?;
    if is_new {
        // The owner is changed only if the agent owns the folder: another program may have replaced the new folder.
        let is_own = fstat(&dir)?.st_uid == rustix::process::geteuid().as_raw();
        if is_own {
            set_owner(&dir, owner)?;
        }
    }
    Ok(dir)
}

fn create_new_file(dir: &OwnedFd, name: &str, owner: Option<UserIds>) -> io::Result<File> {
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::EXCL
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::APPEND
        | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::from_raw_mode(0o600))?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
        return Err(io::Error::other(format!("{name} is not a regular file with a single name")));
    }
    set_owner(&file, owner)?;
    Ok(File::from(file))
}

fn set_owner(fd: &OwnedFd, owner: Option<UserIds>) -> io::Result<()> {
    if let Some(ids) = owner {
        fchown(fd, Some(Uid::from_raw(ids.uid)), Some(Gid::from_raw(ids.gid)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::fs::CWD;

    fn job_id() -> JobId {
        "abe-smoke#1".parse().unwrap()
    }

    #[test]
    fn the_folder_ignores_itself_and_the_newest_log_is_linked() {
        let ws = tempfile::tempdir().unwrap();
        let mut log = WorkspaceLog::open(fs::File::open(ws.path()).unwrap(), &job_id(), None).unwrap();
        log.append(LogFile::Log, b"hello\n").unwrap();
        log.append(LogFile::Message, b"done").unwrap();
        let dir = ws.path().join(".codex-worker");
        assert_eq!(fs::read(dir.join(".gitignore")).unwrap(), b"*\n");
        assert_eq!(fs::read(dir.join("log.txt")).unwrap(), b"hello\n");
        let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o777;
        let modes = [".", "abe-smoke.1", "log.txt", "abe-smoke.1/last-message.txt"].map(mode);
        assert_eq!(modes, [0o700, 0o700, 0o600, 0o600], "only the worker's user can read the files");
        assert_eq!(fs::read(dir.join("abe-smoke.1/last-message.txt")).unwrap(), b"done");
        assert_eq!(fs::read(ws.path().join(log.path())).unwrap(), b"hello\n");
        let mut new_log = WorkspaceLog::open(fs::File::open(ws.path()).unwrap(), &job_id(), None).unwrap();
        new_log.append(LogFile::Log, b"new").unwrap();
        assert_eq!(fs::read(dir.join("log.txt")).unwrap(), b"new");
    }

    #[test]
    fn nothing_is_written_outside_through_links_or_into_pipes() {
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().join("victim");
        fs::write(&victim, "safe").unwrap();
        let ws = tempfile::tempdir().unwrap();
        symlink(outside.path(), ws.path().join(".codex-worker")).unwrap();
        assert!(WorkspaceLog::open(fs::File::open(ws.path()).unwrap(), &job_id(), None).is_err());

        let ws = tempfile::tempdir().unwrap();
        let dir = ws.path().join(".codex-worker/abe-smoke.1");
        fs::create_dir_all(&dir).unwrap();
        symlink(&victim, dir.join("log.txt")).unwrap();
        fs::hard_link(&victim, dir.join("codex.jsonl")).unwrap();
        symlink(&victim, ws.path().join(".codex-worker/log.txt")).unwrap();
        symlink(outside.path().join("new"), ws.path().join(".codex-worker/.gitignore")).unwrap();
        rustix::fs::mknodat(CWD, dir.join("last-message.txt"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        let mut log = WorkspaceLog::open(fs::File::open(ws.path()).unwrap(), &job_id(), None).unwrap();
        for part in [LogFile::Log, LogFile::Codex, LogFile::Message] {
            log.append(part, b"x").unwrap();
        }
        assert_eq!(fs::read(&victim).unwrap(), b"safe");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_at_the_path_of_a_log_file_is_an_error() {
        let ws = tempfile::tempdir().unwrap();
        fs::create_dir_all(ws.path().join(".codex-worker/abe-smoke.1/log.txt")).unwrap();
        assert!(WorkspaceLog::open(fs::File::open(ws.path()).unwrap(), &job_id(), None).is_err());
    }

    #[test]
    fn a_file_of_maximum_length_says_that_the_copy_ends() {
        let ws = tempfile::tempdir().unwrap();
        let mut log = WorkspaceLog::open(fs::File::open(ws.path()).unwrap(), &job_id(), None).unwrap();
        for _ in 0..20 {
            log.append(LogFile::Codex, &vec![b'x'; 1024 * 1024]).unwrap();
        }
        let content = fs::read(ws.path().join(".codex-worker/abe-smoke.1/codex.jsonl")).unwrap();
        assert!(content.len() < 16 * 1024 * 1024 + 100 && content.ends_with(b"has the rest]\n"));
    }
}
