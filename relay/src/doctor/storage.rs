//! Checks of the registry's folder and of the free space on its disk.

use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use super::context::CheckContext;
use super::finding::Finding;
use super::refused_files;
use crate::files::staged::StagedFile;
use crate::registry::Registry;

const REGISTRY_CHECK: &str = "registry";
const DISK_CHECK: &str = "disk";
/// Free disk space below which logs and workspaces may soon fail, in bytes.
const LOW_SPACE_BYTES: u64 = 1 << 30;
/// Free disk space below which launches are about to be refused, in bytes.
const NO_SPACE_BYTES: u64 = 16 << 20;

/// Checks that this process can write to the registry.
pub(super) fn check_registry(context: &CheckContext) -> Vec<Finding> {
    let dir = context.registry.dir();
    match context.registry.folder().exists() {
        Ok(true) => {}
        Err(e) => return vec![unwritable_registry(&context.registry, &e)],
        Ok(false) => {
            let is_writable = nearest_existing(dir).is_some_and(|dir| probe_write_in(dir).is_ok());
            return vec![if is_writable {
                Finding::ok(REGISTRY_CHECK, format!("{} is created by the first launch", dir.display()))
            } else {
                unwritable_registry(&context.registry, &io::ErrorKind::PermissionDenied.into())
            }];
        }
    }
    let writable = match probe_write(&context.registry) {
        Ok(_) => Finding::ok(REGISTRY_CHECK, format!("{} can be written", dir.display())),
        Err(e) => unwritable_registry(&context.registry, &e),
    };
    let refused = refused_files::detail_and_advice(&refused_files::find_refused_files(&context.registry));
    let refused = refused.map(|(detail, advice)| Finding::warn(REGISTRY_CHECK, detail, advice));
    [Some(writable), refused].into_iter().flatten().collect()
}

/// Writes and removes a hidden file in the registry; returns the modification time of the file.
pub(super) fn probe_write(registry: &Registry) -> io::Result<SystemTime> {
    let mut staged = StagedFile::create(&registry.folder().file("doctor"))?;
    staged.file().write_all(b"x")?;
    staged.file().metadata()?.modified()
}

/// Writes and removes a file in a folder outside of a registry.
fn probe_write_in(dir: &Path) -> io::Result<()> {
    tempfile::Builder::new().prefix(".doctor-").tempfile_in(dir)?.write_all(b"x")
}

/// Builds the finding with the error message of `relay launch`, split into problem and fix.
fn unwritable_registry(registry: &Registry, error: &io::Error) -> Finding {
    let message = registry.not_writable(error).message;
    match message.split_once(": ") {
        Some((detail, fix)) => Finding::fail(REGISTRY_CHECK, detail, fix),
        None => Finding::fail(REGISTRY_CHECK, message, "make the folder writable"),
    }
}

/// Returns the nearest existing ancestor of the registry's folder, or the folder itself.
fn nearest_existing(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|dir| dir.is_dir())
}

/// Checks the free space on the registry's disk.
pub(super) fn check_disk(context: &CheckContext) -> Vec<Finding> {
    let Some(dir) = nearest_existing(context.registry.dir()) else {
        return vec![Finding::skipped(DISK_CHECK, "there is no folder to check")];
    };
    vec![match rustix::fs::statvfs(dir) {
        Ok(stat) => assess_free_space(stat.f_bavail.saturating_mul(stat.f_frsize), dir),
        Err(e) => Finding::skipped(DISK_CHECK, format!("{}: {e}", dir.display())),
    }]
}

fn assess_free_space(free: u64, dir: &Path) -> Finding {
    let dir = dir.display();
    match free {
        ..NO_SPACE_BYTES => Finding::fail(
            DISK_CHECK,
            format!("{} MiB are free at {dir}: launches are refused on a full disk", free >> 20),
            "free some space; `relay prune` removes archived jobs",
        ),
        NO_SPACE_BYTES..LOW_SPACE_BYTES => Finding::warn(
            DISK_CHECK,
            format!("{} MiB are free at {dir}", free >> 20),
            "free some space; `relay prune` removes archived jobs",
        ),
        LOW_SPACE_BYTES.. => Finding::ok(DISK_CHECK, format!("{} GiB are free at {dir}", free >> 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn free_space_is_enough_low_or_too_little() {
        for (free, state, detail_start) in [
            (0, State::Fail, "0 MiB are free at /p: launches are refused on a full disk"),
            (NO_SPACE_BYTES - 1, State::Fail, "15 MiB are free at /p: launches are refused on a full disk"),
            (NO_SPACE_BYTES, State::Warn, "16 MiB are free at /p"),
            (LOW_SPACE_BYTES, State::Ok, "1 GiB are free at /p"),
        ] {
            let finding = assess_free_space(free, Path::new("/p"));
            assert_eq!((finding.state, &finding.detail[..]), (state, detail_start));
            assert_eq!(finding.fix.is_some(), state != State::Ok);
        }
    }

    #[test]
    fn a_missing_registry_is_fine_where_its_folder_can_be_created() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("platform/workers");
        assert_eq!(nearest_existing(&missing), Some(dir.path()));
        assert!(probe_write_in(dir.path()).is_ok() && probe_write_in(&missing).is_err());
    }
}
