//! Folders and files of a site.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Site;

impl Site {
    /// Returns the root of the project.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the folder of the registry.
    pub fn registry(&self) -> PathBuf {
        self.root().join("platform/workers")
    }

    /// Returns the user's `XDG_STATE_HOME`.
    pub fn state_home(&self) -> &Path {
        self.state_home.path()
    }

    /// Returns the user's home. It is outside the project, because no job may work in a folder that contains a home.
    pub fn home(&self) -> PathBuf {
        self.state_home().join("home")
    }

    /// Writes a file below the user's home.
    pub fn write_home(&self, path: &str, text: &str) {
        self.write_file(self.state_home(), &self.home().join(path), text);
    }

    /// Writes a file below the `CODEX_HOME`.
    pub fn write_codex(&self, path: &str, text: &str) {
        self.write_file(self.state_home(), &self.codex_home().join(path), text);
    }

    /// Returns the state folder of the project.
    pub fn state(&self) -> PathBuf {
        let key = hex::encode(Sha256::digest(self.root().as_os_str().as_encoded_bytes()));
        self.state_home().join("relay").join(&key[..32])
    }

    /// Returns the state folder of the agent of engine `local`.
    pub fn agent(&self) -> PathBuf {
        self.state().join("agent")
    }

    /// Returns the workspace that most tests use.
    pub fn workspace(&self) -> PathBuf {
        self.root().join("workspace-projects/demo")
    }

    /// Returns the `CODEX_HOME` of the workers.
    pub fn codex_home(&self) -> &Path {
        &self.codex_home
    }

    /// Writes a file below the root.
    pub fn write(&self, path: &str, text: &str) {
        self.write_file(self.root(), &self.root().join(path), text);
    }

    /// Returns the path of a job's file, such as `events.jsonl`, in the registry or its archive.
    pub fn file_path(&self, job: &str, suffix: &str) -> PathBuf {
        let name = format!("{}.{suffix}", job.replace('#', "."));
        let archived = self.registry().join("archive").join(&name);
        if archived.exists() { archived } else { self.registry().join(name) }
    }

    /// Returns the path of a job's data in a subfolder of the state folder.
    pub fn job_state(&self, job: &str, subfolder: &str, ending: &str) -> PathBuf {
        let launched_at = self.record(job).created_at.as_millisecond();
        self.state().join(subfolder).join(format!("{}-{launched_at}.{ending}", job.replace('#', ".")))
    }

    /// Writes a file below the folder `top`.
    fn write_file(&self, top: &Path, path: &Path, text: &str) {
        let written = fs::create_dir_all(path.parent().unwrap_or(path)).and_then(|()| fs::write(path, text));
        written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if let Some(user) = &self.user {
            user.give(path, top);
        }
    }
}
