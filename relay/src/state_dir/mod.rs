//! State folder of a person for a project: data that a sandboxed session must not be able to write.
//!
//! ```text
//! $XDG_STATE_HOME/relay/DIGEST/      else ~/.local/state/relay/DIGEST/; mode 0700
//!   project        the project's root, for people
//!   relay.pem      the relay's TLS key and certificate
//!   relay.json     port and agent of the last relay
//!   tokens/        hashes of the agents' tokens
//!   model-secret   the secret from which the jobs' tokens for the model are derived
//!   secrets.json   secrets that relay adds to the requests of jobs for one host each
//!   agent/         state of the agent of engine `local`
//!   repositories/  a git repository for each job with a clone of its own
//!   outputs/       the output of jobs, an archive each
//!   threads/       the Codex threads of jobs that had a container of their own, an archive each
//!   box-socket/    the socket at which agents in containers reach the relay where no network is to be used
//!   copies/        files of a container that is being created
//!   receipts/      the key for receipts, and the receipts
//!   leftovers/     state of jobs that the registry does not have, in a folder for each day on which it was found
//! ```
//!
//! [`ownership`]: check that no other user could have changed the folder.
//!
//! The registry is inside the project, where a session may write. So relay reads nothing from the registry that decides
//! about connections.

#![expect(clippy::disallowed_methods, reason = "the user's state folder, which no session may write")]

pub mod box_socket;
pub mod host_secrets;
pub mod model_secret;
mod ownership;
pub mod saved_state;
pub mod threads;
pub mod tokens;

use std::env::VarError;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use self::host_secrets::HostSecrets;
use self::threads::Threads;
use self::tokens::AgentTokens;
use crate::exit::Failure;
use crate::files::atomic::{self, Durability};

/// State folder of one project.
#[derive(Debug, Clone)]
pub struct StateDir {
    dir: PathBuf,
    root: PathBuf,
}

impl StateDir {
    /// Returns the state folder of the project at `root`. It may not exist yet.
    ///
    /// # Errors
    /// Returns exit code 5 when the environment names no location for the folder, and when another user could have
    /// changed the folder.
    pub fn for_project(root: &Path) -> Result<Self, Failure> {
        let base = user_state_dir(&|name| std::env::var(name)).ok_or_else(|| {
            Failure::unreachable(
                "relay keeps its keys in your state folder: set HOME or XDG_STATE_HOME to an absolute path",
            )
        })?;
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let state = Self { dir: base.join(project_key(&root)), root };
        for folder in [state.tokens_dir(), state.agent(), state.receipts(), base.join("consent")] {
            ownership::check_ownership(&base, &folder)?;
        }
        Ok(state)
    }

    /// Creates the folder, private to its owner.
    ///
    /// # Errors
    /// Returns a one-line message when the folder can't be created, belongs to another user, or is inside the project.
    pub fn ensure(&self) -> Result<(), Failure> {
        let dir_text = self.dir.display();
        let unusable =
            |e: io::Error| Failure::unreachable(format!("the state folder {dir_text} can't be used: {e}"));
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.dir).map_err(unusable)?;
        if self.dir.canonicalize().map_err(unusable)?.starts_with(&self.root) {
            return Err(Failure::unreachable(format!(
                "the state folder {dir_text} lies inside the project, where sandboxed sessions write: set \
                 XDG_STATE_HOME to a folder outside of {}",
                self.root.display()
            )));
        }
        for dir in [self.dir.clone(), self.tokens_dir(), self.agent()] {
            builder.create(&dir).map_err(unusable)?;
            ownership::check_ownership(self.dir.parent().unwrap_or(&self.dir), &dir)?;
            let meta = fs::symlink_metadata(&dir).map_err(unusable)?;
            if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
                let dir = dir.display();
                return Err(Failure::unreachable(format!(
                    "the state folder {dir} is not yours: run relay as its owner, or remove it"
                )));
            }
            if meta.mode() & 0o077 != 0 {
                fs::set_permissions(&dir, Permissions::from_mode(0o700)).map_err(unusable)?;
            }
        }
        let project = self.dir.join("project");
        if project.exists() {
            return Ok(());
        }
        let root = format!("{}\n", self.root.display());
        atomic::replace_file(&project, root.as_bytes(), Durability::Cached).map_err(unusable)
    }

    /// Returns the folder with the state of the agent of engine `local`.
    pub fn agent(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// Returns the folder with the repositories of jobs with a clone of their own. Missing without such jobs.
    pub fn repositories(&self) -> PathBuf {
        self.dir.join("repositories")
    }

    /// Returns the folder with the output of the jobs.
    pub fn outputs(&self) -> PathBuf {
        self.dir.join("outputs")
    }

    /// Returns the folder for the copies that podman makes of the files of a container that is being created.
    pub fn copies(&self) -> PathBuf {
        self.dir.join("copies")
    }

    /// Returns the folder with the socket for agents in containers.
    pub fn box_socket_dir(&self) -> PathBuf {
        self.dir.join("box-socket")
    }

    /// Returns the Codex threads of jobs that had a container of their own.
    pub fn threads(&self) -> Threads {
        Threads::in_folder(self.threads_dir())
    }

    /// Returns the folder with the Codex threads.
    pub fn threads_dir(&self) -> PathBuf {
        self.dir.join("threads")
    }

    /// Returns the folder with the key for receipts and the receipts of the project.
    pub fn receipts(&self) -> PathBuf {
        self.dir.join("receipts")
    }

    /// Returns the folder with the state of jobs that the registry does not have. Usually missing.
    pub fn leftovers(&self) -> PathBuf {
        self.dir.join("leftovers")
    }

    /// Returns a state folder of a test.
    #[cfg(test)]
    pub fn in_folder(dir: PathBuf) -> Self {
        Self { root: dir.clone(), dir }
    }

    /// Returns the file with the relay's TLS key and certificate.
    pub fn identity(&self) -> PathBuf {
        self.dir.join("relay.pem")
    }

    /// Returns the file with the secret of the jobs' tokens for the model.
    pub fn model_secret(&self) -> PathBuf {
        self.dir.join("model-secret")
    }

    /// Returns the secrets that relay adds to the requests of jobs.
    pub fn host_secrets(&self) -> HostSecrets {
        HostSecrets::in_file(self.dir.join("secrets.json"))
    }

    pub fn tokens(&self) -> AgentTokens {
        AgentTokens::in_folder(self.tokens_dir())
    }

    fn tokens_dir(&self) -> PathBuf {
        self.dir.join("tokens")
    }

    fn saved_state(&self) -> PathBuf {
        self.dir.join("relay.json")
    }
}

/// Returns the folder that contains relay's state for all projects of a user. No sandbox lets a session write there.
pub fn user_state_dir(variable: &dyn Fn(&str) -> Result<String, VarError>) -> Option<PathBuf> {
    let absolute_variable =
        |name: &str| variable(name).ok().map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute_variable("XDG_STATE_HOME")
        .or_else(|| Some(absolute_variable("HOME")?.join(".local/state")))?;
    Some(state.join("relay"))
}

/// Returns `path`, a file in [`user_state_dir`], if no other user could have changed it.
pub fn trusted_file(path: PathBuf) -> Option<PathBuf> {
    let base = user_state_dir(&|name| std::env::var(name))?;
    ownership::check_ownership(&base, &path).is_ok().then_some(path)
}

/// Returns the name of a project's files and folders in [`user_state_dir`]: the digest of its path.
pub fn project_key(root: &Path) -> String {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let mut key = hex::encode(Sha256::digest(root.as_os_str().as_encoded_bytes()));
    key.truncate(32);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(dir: &Path, root: &Path) -> StateDir {
        StateDir { dir: dir.to_owned(), root: root.canonicalize().unwrap() }
    }

    #[test]
    fn the_folder_is_private_and_names_its_project() {
        let (dir, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        for folder in [open, dir.path().join("new/folder")] {
            let state = state(&folder, root.path());
            state.ensure().unwrap();
            state.ensure().unwrap();
            for folder in [folder.clone(), state.agent(), folder.join("tokens")] {
                assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700, "{}", folder.display());
            }
            let project = fs::read_to_string(folder.join("project")).unwrap();
            assert_eq!(Path::new(project.trim_end()), state.root);
        }
    }

    #[test]
    fn a_state_folder_inside_the_project_is_refused_also_behind_a_link() {
        let (dir, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let inside_project = root.path().join("state");
        fs::create_dir(&inside_project).unwrap();
        std::os::unix::fs::symlink(&inside_project, dir.path().join("link")).unwrap();
        for folder in [inside_project.join("a"), dir.path().join("link/b")] {
            let error = state(&folder, root.path()).ensure().unwrap_err().message;
            assert!(error.contains("lies inside the project"), "{error}");
        }
    }
}
