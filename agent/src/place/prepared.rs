//! A clone that is made ahead: it becomes the place of the next job on its repository.
//!
//! ```text
//!  cache ──copy, checkout──► prepared clone ──renamed──► place of the next job, which checks its own base out
//! ```
//!
//! A checkout takes most of the time that a place takes from a cache, so it is done in the background, after an earlier
//! job got its place. There is at most one prepared clone for each repository. No worker can write it: like the cache,
//! another user or the sandbox protects it. So until it is the place of a job, the agent's git may work in it outside of
//! the sandbox.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Gid, Uid, fchown};
use tokio::time::timeout;

use super::cache::RepositoryCache;
use super::script::argv;
use crate::environment::Variables;
use crate::process::{Exit, OutputPipes, OutputSource, capture};
use crate::shim::protocol::Command;
use crate::user::UserIds;
use crate::workspace::WorkspaceDir;

/// Name of the clone in its folder.
const CLONE: &str = "clone";
/// Timeout of each command that prepares a clone: the checkout of some gigabytes with little priority.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(600);
/// Minimum ratio between the limit of all caches and the size of a cache that gets a prepared clone. Files take some
/// times the space of their compressed objects, and there have to be caches of other repositories.
const MIN_LIMIT_RATIO: u64 = 8;

/// Prepared clone of one repository. It may not exist.
#[derive(Debug, Clone)]
pub(crate) struct PreparedClone {
    cache: RepositoryCache,
    /// Folder of the clone, which only the agent can enter.
    folder: PathBuf,
}

impl PreparedClone {
    /// Returns the prepared clone of the repository of a cache.
    pub(crate) fn of_cache(cache: &RepositoryCache) -> Self {
        Self { cache: cache.clone(), folder: cache.prepared_clone_folder() }
    }

    /// Moves the clone to the path of a place that does not exist yet, after a call of `before_move`. Returns false if
    /// there is no clone, or if it is being made. Blocks on the disk.
    pub(super) fn move_to(&self, place: &Path, before_move: impl FnOnce()) -> bool {
        let clone = self.folder.join(CLONE);
        let lock = self.cache.locks().of(&self.folder);
        let Ok(_guard) = lock.try_write() else { return false };
        if !clone.exists() || place.symlink_metadata().is_ok() {
            return false;
        }
        before_move();
        let moved = fs::rename(&clone, place);
        if let Err(error) = &moved {
            tracing::warn!("{} can't become {}: {error}", clone.display(), place.display());
        }
        moved.is_ok()
    }

    /// Makes the clone from the cache with a base checked out, unless it exists. It is made beside `place` by the
    /// worker's user, and then moved to where that user can't write. `home` is the home folder for git.
    pub(crate) async fn make(&self, place: &Path, base: &str, user: Option<UserIds>, home: &str) {
        let lock = self.cache.locks().of(&self.folder);
        let Ok(_guard) = lock.try_write_owned() else { return };
        let is_too_large = self.cache.size().saturating_mul(MIN_LIMIT_RATIO) > self.cache.size_limit();
        if self.folder.join(CLONE).exists() || is_too_large {
            return;
        }
        let mut name = self.cache.path().file_name().unwrap_or_default().to_owned();
        name.push(".preparing");
        let temporary = place.with_file_name(name);
        if let Err(reason) = self.make_at(&temporary, base, user, home).await {
            tracing::warn!("no clone of {} is prepared: {reason}", self.cache.path().display());
            let _ = fs::remove_dir_all(&temporary);
        }
    }

    async fn make_at(
        &self,
        temporary: &Path,
        base: &str,
        user: Option<UserIds>,
        home: &str,
    ) -> Result<(), String> {
        let folder = create_folder(temporary, user).map_err(|error| error.to_string())?;
        let run = |arguments: &[&str]| {
            let command = self.command(arguments, user, home);
            let folder = folder.clone();
            async move {
                let captured = capture(command, OutputPipes::Merged, OutputSource::Stdout, Some(&folder));
                match timeout(PREPARE_TIMEOUT, captured).await {
                    Ok(Ok((Some(Exit::Code(0)), _))) => Ok(()),
                    Ok(Ok((_, output))) => Err(super::git::failure_line(&output)),
                    Ok(Err(event)) => Err(format!("git could not be run ({event:?})")),
                    Err(_) => Err(format!("git took longer than {} s", PREPARE_TIMEOUT.as_secs())),
                }
            }
        };
        {
            // The checkout does not need the cache any more, so no job has to wait for it.
            let _readable = self.cache.locks().of(self.cache.path()).read_owned().await;
            run(&["copy", base, &self.cache.path().to_string_lossy()]).await?;
        }
        run(&["prepare", base]).await?;
        let moved = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        moved
            .and_then(|()| fs::rename(temporary, self.folder.join(CLONE)))
            .map_err(|error| error.to_string())?;
        // The time of use decides which cache is removed first.
        let _ = File::open(&self.folder).and_then(|folder| folder.set_modified(SystemTime::now()));
        Ok(())
    }

    /// Returns a command of the script for a clone that no worker has written. Its environment has nothing of a job: it
    /// runs outside of the sandbox.
    pub(crate) fn command(&self, arguments: &[&str], user: Option<UserIds>, home: &str) -> Command {
        let env = [("PATH", self.cache.search_path()), ("HOME", home)];
        Command {
            argv: argv(arguments),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            cwd: ".".to_owned(),
            user,
            stdin: String::new(),
            interrupt_first: false,
            orphan_report: None,
            confine: None,
        }
    }
}

/// Returns the home folder in the environment of workers, for git.
pub(crate) fn home(worker_env: &Variables) -> &str {
    worker_env.get("HOME").map_or("/nonexistent", String::as_str)
}

/// Creates an empty folder of the worker. What an agent that was killed has left there is removed.
fn create_folder(path: &Path, owner: Option<UserIds>) -> io::Result<WorkspaceDir> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(path)?;
    let folder = WorkspaceDir::open(&path.to_string_lossy(), &[]).map_err(io::Error::other)?;
    if let Some(UserIds { uid, gid }) = owner {
        fchown(&folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(folder)
}
