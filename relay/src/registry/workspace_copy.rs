//! Removes the copy of a job's log in the job's workspace, when the job is removed.
//!
//! A worker may have created any entry in its workspace. Therefore nothing is read, no link is followed, and only files
//! that an agent creates are removed. A folder with other entries is kept.

use std::path::Path;

use common::ids::JobId;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};

/// Name of the folder with the copies in a workspace.
const COPY_FOLDER: &str = ".codex-worker";
/// Names of the files that an agent creates for a job.
const COPY_FILES: [&str; 3] = ["log.txt", "codex.jsonl", "last-message.txt"];

/// Removes the copy of a job's log, if there is one and this user may remove it. The copy is useless without its job,
/// and harmless if it stays.
pub(super) fn remove_log_copy(workspace: &Path, job: &JobId) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let stem = job.file_stem();
    let opened = openat(CWD, workspace, flags, Mode::empty()).and_then(|workspace| {
        let outer = openat(workspace, COPY_FOLDER, flags | OFlags::NOFOLLOW, Mode::empty())?;
        let inner = openat(&outer, &*stem, flags | OFlags::NOFOLLOW, Mode::empty())?;
        Ok((outer, inner))
    });
    let Ok((outer, inner)) = opened else { return };
    for name in COPY_FILES {
        let _ = unlinkat(&inner, name, AtFlags::empty());
    }
    let _ = unlinkat(&outer, &*stem, AtFlags::REMOVEDIR);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_files_that_an_agent_creates_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let copies = dir.path().join(COPY_FOLDER);
        let create_files = |stem: &str, names: &[&str]| {
            std::fs::create_dir_all(copies.join(stem)).unwrap();
            for name in names {
                std::fs::write(copies.join(stem).join(name), "x").unwrap();
            }
        };
        create_files("abe.1", &COPY_FILES);
        create_files("abe.2", &["log.txt", "notes.txt"]);
        create_files("elsewhere", &["log.txt"]);
        symlink("elsewhere", copies.join("abe.3")).unwrap();
        for job in ["abe#1", "abe#2", "abe#3", "abe#4"] {
            remove_log_copy(dir.path(), &job.parse().unwrap());
        }
        let is_there = |path: &str| copies.join(path).exists();
        assert!(!is_there("abe.1") && !is_there("abe.2/log.txt"));
        assert!(is_there("abe.2/notes.txt"), "a file that no agent creates stays");
        assert!(is_there("elsewhere/log.txt"), "no link is followed");
    }
}
