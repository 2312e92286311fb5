//! File layout of the registry.

use std::path::Path;

use common::ids::JobId;

use crate::files::dir::RegistryDir;
use crate::files::file_ref::FileRef;

const REQUESTS: &str = "requests";
const ARCHIVE: &str = "archive";
const NAMES: &str = "names";
const OUTBOX: &str = "outbox";
const SESSIONS: &str = "sessions";
const STAGING: &str = ".new";
/// Folders that exist from the first launch on.
pub(super) const FOLDERS: [&str; 5] = [REQUESTS, ARCHIVE, NAMES, OUTBOX, STAGING];

/// A handle on the registry. The registry need not exist: an absent registry counts as empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    folder: RegistryDir,
}

impl Registry {
    /// Returns the registry of the project at `root`.
    pub fn for_project(root: &Path) -> Self {
        Self { folder: RegistryDir::of_project(root) }
    }

    /// Returns a new handle, which looks the registry's path up again.
    pub fn reopen(&self) -> Self {
        Self { folder: self.folder.reopen() }
    }

    /// Returns the path of the registry's folder, for messages and for the containers' label. Files are opened through
    /// [`Self::folder`], never by this path.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub fn folder(&self) -> &RegistryDir {
        &self.folder
    }

    /// Returns the folders that may contain files of the registry, the main folder first.
    pub fn folders(&self) -> Vec<RegistryDir> {
        let subfolders =
            [ARCHIVE, NAMES, OUTBOX, REQUESTS, SESSIONS, STAGING].map(|name| self.folder.subfolder(name));
        [vec![self.folder.clone()], subfolders.to_vec()].concat()
    }

    /// Returns true if the registry has a folder of this name.
    pub fn is_folder(name: &str) -> bool {
        FOLDERS.contains(&name) || name == SESSIONS
    }

    fn job_file(&self, job: &JobId, extension: &str) -> FileRef {
        self.folder.file(format!("{}.{extension}", job.file_stem()))
    }

    /// File with the record of a job.
    pub fn record(&self, job: &JobId) -> FileRef {
        self.job_file(job, "json")
    }

    /// File with the spec of a job.
    pub fn spec(&self, job: &JobId) -> FileRef {
        self.job_file(job, "spec")
    }

    /// Pack with the uncommitted files that a job starts from, until the job's repository has them.
    pub fn pack(&self, job: &JobId) -> FileRef {
        self.job_file(job, "pack")
    }

    /// Archive with the images of a job.
    pub fn images(&self, job: &JobId) -> FileRef {
        self.job_file(job, "images")
    }

    /// Event log of a job.
    pub fn events(&self, job: &JobId) -> FileRef {
        self.job_file(job, "events.jsonl")
    }

    /// Log with the output of a job's worker.
    pub fn log(&self, job: &JobId) -> FileRef {
        self.job_file(job, "log")
    }

    /// Link to the record of the newest job.
    pub fn latest(&self) -> FileRef {
        self.folder.file("latest")
    }

    /// Folder with the requests to the daemon.
    pub fn requests(&self) -> RegistryDir {
        self.folder.subfolder(REQUESTS)
    }

    /// Folder with the ended jobs, except the newest.
    pub fn archive(&self) -> RegistryDir {
        self.folder.subfolder(ARCHIVE)
    }

    /// Returns the archive as a registry, whose layout it has.
    pub fn archive_registry(&self) -> Self {
        Self { folder: self.archive() }
    }

    /// Folder with the last number used for each job name, and the job created for each idempotency key.
    pub fn names(&self) -> RegistryDir {
        self.folder.subfolder(NAMES)
    }

    /// Folder with the temporary files of launches, separate from other files so that leftovers are found quickly.
    pub fn staging(&self) -> RegistryDir {
        self.folder.subfolder(STAGING)
    }

    /// Folder with the completion notices to deliver, and the claims on them.
    pub fn outbox(&self) -> RegistryDir {
        self.folder.subfolder(OUTBOX)
    }

    /// File with the state of the deliveries of a job's completion notice.
    pub fn outbox_entry(&self, job: &JobId) -> FileRef {
        self.outbox().file(format!("{}.json", job.file_stem()))
    }

    /// File with the claim on a job's completion notice.
    pub fn outbox_claim(&self, job: &JobId) -> FileRef {
        self.outbox().file(format!("{}.shown", job.file_stem()))
    }

    /// Folder with the states of host agents' sessions. Only hooks need the folder, and they create it.
    pub fn sessions(&self) -> RegistryDir {
        self.folder.subfolder(SESSIONS)
    }

    /// File with the state of one session. The id must be valid: [`super::sessions::is_session_id`].
    pub fn session(&self, id: &str) -> FileRef {
        self.sessions().file(format!("{id}.json"))
    }

    /// File with the daemon's lease.
    pub fn lease(&self) -> FileRef {
        self.folder.file("relay.json")
    }

    /// File that the daemon keeps locked while it runs.
    pub fn lock(&self) -> FileRef {
        self.folder.file("relay.lock")
    }

    /// File that is kept locked while archived jobs are removed.
    pub fn prune_lock(&self) -> FileRef {
        self.folder.file("prune.lock")
    }

    /// File with the token of programs that subscribe to events.
    pub fn api_token(&self) -> FileRef {
        self.folder.file("api-token")
    }

    pub fn daemon_log(&self) -> FileRef {
        self.folder.file("relay.log")
    }

    /// File with an upper bound of the event ids in use.
    pub fn event_ids(&self) -> FileRef {
        self.folder.file("event-ids")
    }

    /// File that reserves disk space for job outcomes.
    pub fn reserve(&self) -> FileRef {
        self.folder.file("reserve")
    }
}

/// Returns true for the state folder that an earlier version's local agent kept in the registry.
pub fn is_old_agent_state(file_name: &str) -> bool {
    file_name == "agent"
}

/// Returns the job whose record has this file name.
pub fn job_of_record(file_name: &str) -> Option<JobId> {
    file_name.strip_suffix(".json").filter(|stem| *stem != "relay").and_then(|stem| stem.parse().ok())
}

/// Returns the job whose event log has this file name.
pub fn job_of_events(file_name: &str) -> Option<JobId> {
    file_name.strip_suffix(".events.jsonl").and_then(|stem| stem.parse().ok())
}
