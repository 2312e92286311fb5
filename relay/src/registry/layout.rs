//! Which file is where.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use common::ids::JobId;

use crate::exit::Failure;
use crate::sandbox;

/// The registry's folder, relative to the project root.
pub const FOLDER: &str = "platform/workers";

/// A handle on the registry. It may not exist yet: reading an absent registry finds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    dir: PathBuf,
}

impl Registry {
    /// The registry of the project at `root`.
    pub fn of(root: &Path) -> Self {
        Self { dir: root.join(FOLDER) }
    }

    /// Makes the folders, private to their owner and ignored by git.
    ///
    /// # Errors
    /// One line that says which folder can't be written and why.
    pub fn ensure(&self) -> Result<(), Failure> {
        if self.names().is_dir() && self.requests().is_dir() && self.outbox().is_dir() {
            return Ok(());
        }
        let make = || -> io::Result<()> {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            for dir in [self.dir.clone(), self.requests(), self.archive(), self.names(), self.outbox()] {
                builder.create(dir)?;
            }
            // Ignores itself, so that no .gitignore of the user's has to be touched.
            let ignore = self.dir.join(".gitignore");
            if ignore.exists() { Ok(()) } else { fs::write(ignore, "*\n") }
        };
        make().map_err(|e| self.not_writable(&e))
    }

    /// The failure of a write into the registry.
    pub fn not_writable(&self, error: &io::Error) -> Failure {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Failure::unreachable(format!(
                "the disk of the registry {} is full: nothing was changed; free some space and try again",
                self.dir.display()
            ));
        }
        if matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
            && sandbox::here().is_some()
        {
            return Failure::unreachable(sandbox::not_writable(&self.dir));
        }
        Failure::unreachable(format!(
            "the registry {} can't be written ({error}): make the folder writable or name another project with --root",
            self.dir.display()
        ))
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A job's record.
    pub fn record(&self, job: &JobId) -> PathBuf {
        self.dir.join(format!("{}.json", job.stem()))
    }

    /// A job's spec.
    pub fn spec(&self, job: &JobId) -> PathBuf {
        self.dir.join(format!("{}.spec", job.stem()))
    }

    /// A job's event log.
    pub fn events(&self, job: &JobId) -> PathBuf {
        self.dir.join(format!("{}.events.jsonl", job.stem()))
    }

    /// A job's streamed log.
    pub fn log(&self, job: &JobId) -> PathBuf {
        self.dir.join(format!("{}.log", job.stem()))
    }

    /// Link to the newest record.
    pub fn latest(&self) -> PathBuf {
        self.dir.join("latest")
    }

    /// Requests to the daemon.
    pub fn requests(&self) -> PathBuf {
        self.dir.join("requests")
    }

    /// Ended jobs beyond the newest.
    pub fn archive(&self) -> PathBuf {
        self.dir.join("archive")
    }

    /// The archive as a registry of its own: the same files, one folder further down.
    pub fn archived(&self) -> Self {
        Self { dir: self.archive() }
    }

    /// The last number given to each job name, and the job of each idempotency key.
    pub fn names(&self) -> PathBuf {
        self.dir.join("names")
    }

    /// Ends that are to be delivered.
    pub fn outbox(&self) -> PathBuf {
        self.dir.join("outbox")
    }

    /// How far the delivery of a job's end is.
    pub fn outbox_entry(&self, job: &JobId) -> PathBuf {
        self.outbox().join(format!("{}.json", job.stem()))
    }

    /// Who was shown a job's end.
    pub fn outbox_shown(&self, job: &JobId) -> PathBuf {
        self.outbox().join(format!("{}.shown", job.stem()))
    }

    /// What is known of the sessions of host agents.
    pub fn sessions(&self) -> PathBuf {
        self.dir.join("sessions")
    }

    /// What is known of one session. The id is one: [`super::sessions::is_id`].
    pub fn session(&self, id: &str) -> PathBuf {
        self.sessions().join(format!("{id}.json"))
    }

    /// Makes their folder: nothing but hooks needs it.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn make_sessions(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.sessions())
    }

    /// The daemon's lease.
    pub fn lease(&self) -> PathBuf {
        self.dir.join("relay.json")
    }

    /// The file that the daemon holds locked.
    pub fn lock(&self) -> PathBuf {
        self.dir.join("relay.lock")
    }

    /// The token of programs that subscribe to events.
    pub fn api_token(&self) -> PathBuf {
        self.dir.join("api-token")
    }

    /// What the daemon says.
    pub fn daemon_log(&self) -> PathBuf {
        self.dir.join("relay.log")
    }

    /// An upper bound of the event ids in use.
    pub fn event_ids(&self) -> PathBuf {
        self.dir.join("event-ids")
    }

    /// Room that is kept for the ends of jobs.
    pub fn reserve(&self) -> PathBuf {
        self.dir.join("reserve")
    }
}

/// The job whose record has this file name.
pub fn job_of_record(file_name: &str) -> Option<JobId> {
    file_name.strip_suffix(".json").filter(|stem| *stem != "relay").and_then(|stem| stem.parse().ok())
}

/// The job whose event log has this file name.
pub fn job_of_events(file_name: &str) -> Option<JobId> {
    file_name.strip_suffix(".events.jsonl").and_then(|stem| stem.parse().ok())
}
