//! The registry's folder and the free space on its disk.

use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use super::context::CheckContext;
use super::finding::Finding;
use super::refused_files;
use crate::files::staged::Staged;
use crate::registry::Registry;

const REGISTRY: &str = "registry";
const DISK: &str = "disk";
/// Free space below which logs and workspaces may soon fail, in bytes.
const LOW_SPACE: u64 = 1 << 30;
/// Free space below which launches are about to be refused, in bytes.
const NO_SPACE: u64 = 16 << 20;

/// Checks that this process can write to the registry.
pub(super) fn registry(context: &CheckContext) -> Vec<Finding> {
    let dir = context.registry.dir();
    match context.registry.folder().is_there() {
        Ok(true) => {}
        Err(e) => return vec![unwritable(&context.registry, &e)],
        Ok(false) => {
            let writable = nearest(dir).is_some_and(|dir| probe_new(dir).is_ok());
            return vec![if writable {
                Finding::ok(REGISTRY, format!("{} is created by the first launch", dir.display()))
            } else {
                unwritable(&context.registry, &io::ErrorKind::PermissionDenied.into())
            }];
        }
    }
    let writable = match probe(&context.registry) {
        Ok(_) => Finding::ok(REGISTRY, format!("{} can be written", dir.display())),
        Err(e) => unwritable(&context.registry, &e),
    };
    let refused = refused_files::words(&refused_files::find(&context.registry));
    let refused = refused.map(|(what, todo)| Finding::warn(REGISTRY, what, todo));
    [Some(writable), refused].into_iter().flatten().collect()
}

/// Writes a hidden file, removes it, and returns its modification time.
pub(super) fn probe(registry: &Registry) -> io::Result<SystemTime> {
    let mut staged = Staged::begin(&registry.folder().file("doctor"))?;
    staged.file().write_all(b"x")?;
    staged.file().metadata()?.modified()
}

/// Writes and removes a file in a folder outside of a registry.
fn probe_new(dir: &Path) -> io::Result<()> {
    tempfile::Builder::new().prefix(".doctor-").tempfile_in(dir)?.write_all(b"x")
}

/// Error message of `relay launch`, split into problem and fix.
fn unwritable(registry: &Registry, error: &io::Error) -> Finding {
    let message = registry.not_writable(error).message;
    match message.split_once(": ") {
        Some((detail, fix)) => Finding::fail(REGISTRY, detail, fix),
        None => Finding::fail(REGISTRY, message, "make the folder writable"),
    }
}

/// Returns the nearest existing ancestor of the registry's folder, or the folder itself.
fn nearest(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|dir| dir.is_dir())
}

/// Checks the free space for logs.
pub(super) fn disk(context: &CheckContext) -> Vec<Finding> {
    let Some(dir) = nearest(context.registry.dir()) else {
        return vec![Finding::skipped(DISK, "there is no folder to check")];
    };
    vec![match rustix::fs::statvfs(dir) {
        Ok(stat) => room(stat.f_bavail.saturating_mul(stat.f_frsize), dir),
        Err(e) => Finding::skipped(DISK, format!("{}: {e}", dir.display())),
    }]
}

fn room(free: u64, dir: &Path) -> Finding {
    let dir = dir.display();
    match free {
        ..NO_SPACE => Finding::fail(
            DISK,
            format!("{} MiB are free at {dir}: launches are refused on a full disk", free >> 20),
            "free some space; `relay prune` removes archived jobs",
        ),
        NO_SPACE..LOW_SPACE => Finding::warn(
            DISK,
            format!("{} MiB are free at {dir}", free >> 20),
            "free some space; `relay prune` removes archived jobs",
        ),
        LOW_SPACE.. => Finding::ok(DISK, format!("{} GiB are free at {dir}", free >> 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn room_is_plenty_low_or_gone() {
        for (free, state, words) in [
            (0, State::Fail, "0 MiB are free at /p: launches are refused on a full disk"),
            (NO_SPACE - 1, State::Fail, "15 MiB are free at /p: launches are refused on a full disk"),
            (NO_SPACE, State::Warn, "16 MiB are free at /p"),
            (LOW_SPACE, State::Ok, "1 GiB are free at /p"),
        ] {
            let found = room(free, Path::new("/p"));
            assert_eq!((found.state, &found.detail[..]), (state, words));
            assert_eq!(found.fix.is_some(), state != State::Ok);
        }
    }

    #[test]
    fn a_registry_that_is_not_there_yet_is_fine_where_it_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("platform/workers");
        assert_eq!(nearest(&missing), Some(dir.path()));
        assert!(probe_new(dir.path()).is_ok() && probe_new(&missing).is_err());
    }
}
