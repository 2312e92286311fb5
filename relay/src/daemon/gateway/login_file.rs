//! The user's `auth.json`, which the user's own Codex and the relays of other projects change, too.
//!
//! A relay holds its own lock from the reading of a refresh token to the storing of the next one, because each can be
//! used once. Codex stores tokens under the lock `auth.lock` (seen with version 0.169.0); a relay takes it as well. A file
//! that is a link stays one: the file that it leads to is changed.

#![expect(clippy::disallowed_methods, reason = "the user's own folder, which no session may write")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bounded_file::read_bounded;
use crate::files::atomic::{Durability, replace_file};
use crate::model_server::{ChatGptLogin, RefreshedTokens};
use crate::time;

/// Lock of all relays, for a whole refresh.
const RELAY_LOCK: &str = "auth.relay.lock";
/// Lock of Codex, for a change of the file.
const CODEX_LOCK: &str = "auth.lock";
/// Time limit for a lock. It exceeds that of a refresh, for which another relay holds it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(45);

/// Result of storing refreshed tokens.
#[derive(Debug)]
pub(super) enum Stored {
    /// The file has the refreshed login.
    Refreshed(ChatGptLogin),
    /// The file has another login, which a person or Codex has made meanwhile. It stays.
    Superseded(ChatGptLogin),
}

/// The user's `auth.json`.
#[derive(Debug, Clone)]
pub(super) struct LoginFile {
    path: PathBuf,
}

impl LoginFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Reads the login.
    ///
    /// # Errors
    /// One line with the reason. Errors never contain tokens.
    pub(super) fn read(&self) -> Result<ChatGptLogin, String> {
        self.parse(&self.read_bytes()?)
    }

    fn parse(&self, bytes: &[u8]) -> Result<ChatGptLogin, String> {
        let missing = || format!("{} has no ChatGPT login any more", self.path.display());
        ChatGptLogin::from_auth_file(bytes).ok_or_else(missing)
    }

    fn read_bytes(&self) -> Result<Vec<u8>, String> {
        read_bounded(&self.path).map_err(|e| format!("{} can't be read: {e}", self.path.display()))
    }

    /// Waits until no other relay refreshes the login. The lock ends when the returned file is dropped.
    ///
    /// # Errors
    /// One line with the reason.
    pub(super) async fn lock_refresh(&self) -> Result<File, String> {
        lock(self.target()?.with_file_name(RELAY_LOCK)).await
    }

    /// Returns the path of the file itself, without links.
    fn target(&self) -> Result<PathBuf, String> {
        let shown = self.path.display();
        let target = fs::canonicalize(&self.path).map_err(|e| format!("{shown} can't be read: {e}"))?;
        let owner = fs::metadata(&target).map_err(|e| format!("{shown} can't be read: {e}"))?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            return Err(format!("{shown} is a file of another user"));
        }
        Ok(target)
    }

    /// Takes Codex's lock: beside the file itself, and beside the link to it in Codex's home, if it is another folder.
    async fn lock_codex(&self, target: &Path) -> Result<Vec<File>, String> {
        let mut locks = vec![lock(target.with_file_name(CODEX_LOCK)).await?];
        let home = self.path.parent().and_then(|home| fs::canonicalize(home).ok());
        if home.is_some_and(|home| Some(&*home) != target.parent()) {
            locks.push(lock(self.path.with_file_name(CODEX_LOCK)).await?);
        }
        Ok(locks)
    }

    /// Replaces the login `replaced` with refreshed tokens.
    ///
    /// # Errors
    /// One line with the reason why the file still has the old login.
    pub(super) async fn store(
        &self,
        replaced: &ChatGptLogin,
        tokens: &RefreshedTokens,
    ) -> Result<Stored, String> {
        let target = self.target()?;
        let _locks = self.lock_codex(&target).await?;
        let bytes = self.read_bytes()?;
        let present = self.parse(&bytes)?;
        if present.refresh_token != replaced.refresh_token {
            return Ok(Stored::Superseded(present));
        }
        let invalid = || "it answered with tokens that can't be stored".to_owned();
        let updated = tokens.update_auth_file(&bytes, time::now()).ok_or_else(invalid)?;
        let login = self.parse(&updated)?;
        replace_file(&target, &updated, Durability::Synced)
            .map_err(|e| format!("{} can't be written: {e}", self.path.display()))?;
        Ok(Stored::Refreshed(login))
    }
}

async fn lock(path: PathBuf) -> Result<File, String> {
    let failed = |reason: String| format!("the lock {} can't be taken: {reason}", path.display());
    let opened = path.clone();
    // A lock that comes too late is dropped with the result of its thread.
    let locking = tokio::task::spawn_blocking(move || open_and_lock(&opened));
    match tokio::time::timeout(LOCK_TIMEOUT, locking).await {
        Ok(Ok(locked)) => locked.map_err(|e| failed(e.to_string())),
        Ok(Err(e)) => Err(failed(e.to_string())),
        Err(_) => Err(failed("another process holds it".to_owned())),
    }
}

fn open_and_lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.lock()?;
    Ok(file)
}
