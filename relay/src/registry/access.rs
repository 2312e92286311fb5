//! Creation of the registry's folders, and failures of reading and writing the registry.

use std::io;

use super::layout::{FOLDERS, Registry};
use super::reserve;
use crate::exit::Failure;
use crate::files::atomic::Durability;
use crate::files::refused::{self, RefusalReason, RefusedEntry};
use crate::files::staged::is_out_of_space;
use crate::sandbox;

impl Registry {
    /// Creates a registry in a temporary folder, which is removed when the first value is dropped.
    #[cfg(test)]
    pub fn temporary() -> (tempfile::TempDir, Self) {
        let dir = tempfile::tempdir().unwrap();
        let registry = Self::for_project(dir.path());
        registry.ensure().unwrap();
        (dir, registry)
    }

    /// Creates the registry's folders, private to their owner and ignored by git. An entry of another type with the
    /// name of such a folder is set aside.
    ///
    /// # Errors
    /// A one-line message that names the folder that can't be written and the reason, or the owner of the registry.
    pub fn ensure(&self) -> Result<(), Failure> {
        let create = || -> io::Result<()> {
            self.folder().ensure()?;
            if self.folder().has_folders(&FOLDERS) {
                return Ok(());
            }
            for name in FOLDERS {
                self.folder().subfolder(name).ensure()?;
            }
            // The file also ignores itself, so that the user's .gitignore stays unchanged.
            let ignore = self.folder().file(".gitignore");
            match ignore.create(b"*\n", Durability::Cached) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                created => created,
            }
        };
        create().map_err(|e| self.not_writable(&e))
    }

    /// Refuses the registry of another user, which may be read but not changed.
    pub fn check_owner(&self) -> Result<(), Failure> {
        match self.folder().check_owner() {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.not_writable(&e)),
            _ => Ok(()),
        }
    }

    /// Builds the failure of a write into the registry.
    pub fn not_writable(&self, error: &io::Error) -> Failure {
        let dir = self.dir().display();
        if let Some(refused) = RefusedEntry::from_error(error) {
            return Failure::unreachable(match refused.reason {
                RefusalReason::ForeignRegistry(uid) => {
                    let owner = refused::user_name_or_id(uid);
                    format!("the registry {dir} belongs to {owner}: nothing was changed; run this as {owner}")
                }
                _ => refused.to_string(),
            });
        }
        if is_out_of_space(error) && !reserve::has_inodes_for_reserve(self) {
            return Failure::unreachable(format!(
                "the disk of the registry {dir} has no free inodes: nothing was changed; remove some files there and try \
                 again"
            ));
        }
        if is_out_of_space(error) {
            return Failure::unreachable(format!(
                "the disk of the registry {dir} is full: nothing was changed; free some space and try again"
            ));
        }
        if matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
            && sandbox::current_sandbox().is_some()
        {
            return Failure::unreachable(sandbox::not_writable_message(self.dir()));
        }
        Failure::unreachable(format!(
            "the registry {dir} can't be written ({error}): make the folder writable or name another project with --root"
        ))
    }

    /// Builds the failure of a read from the registry.
    pub fn not_readable(&self, error: &io::Error) -> Failure {
        Failure::unreachable(match RefusedEntry::from_error(error) {
            Some(refused) => refused.to_string(),
            None => format!("the registry {} can't be read: {error}", self.dir().display()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_threads_can_create_the_registry_at_once() {
        for _ in 0..100 {
            let root = tempfile::tempdir().unwrap();
            std::thread::scope(|scope| {
                for thread in
                    [(); 4].map(|()| scope.spawn(|| Registry::for_project(root.path()).ensure().unwrap()))
                {
                    thread.join().unwrap();
                }
            });
        }
    }
}
