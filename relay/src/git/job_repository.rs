//! The repository of a job: bare, in the daemon's state folder, served to the job's agent.
//!
//! ```text
//! repositories/NAME.N-TIME.git/  TIME: launch time of the job, in milliseconds
//!   objects/info/alternates   objects of the user's repository
//!   refs/heads/base           commit that the worker starts from; the only ref that can be fetched
//!   refs/heads/result         the worker's newest commit
//!   refs/heads/live           newest snapshot of the worker's files; only `result` and `live` can be pushed
//!   relay-place.json          the place (the job's clone), as it was when the repository was created
//! ```
//!
//! The worker may push anything: each push is checked object by object, and limited in size. relay speaks version 0 of
//! the protocol: with version 2, the agent could fetch any object by its id, even from the user's other branches.

#![expect(clippy::disallowed_methods, reason = "relay's own state folder, which no session may write")]

use std::fs::{self, File};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::place::{PlaceSpec, is_commit_id};
use serde::{Deserialize, Serialize};

use super::GitError;
use super::base::MAX_PACK_SIZE;
use super::command::{Git, WORK_LIMIT};
use super::config::quote;
use super::scratch::write_repository;
use super::source::{Source, alternates_line};
use crate::job_identity::JobIdentity;

/// Maximum size of one push, in bytes.
pub const MAX_PUSH_SIZE: u64 = 2 << 30;
/// Maximum size of a job's repository, in bytes. Each push of a running job adds to the size.
const MAX_REPOSITORY_SIZE: u64 = 4 << 30;
/// Beginning of the name of a repository that is being created.
const NEW_PREFIX: &str = ".new-";
/// File that describes the job's clone, written once.
pub const PLACE_FILE: &str = "relay-place.json";
/// Ref of the worker's newest commit.
const RESULT_REF: &str = "refs/heads/result";
/// Ref of the newest snapshot of the worker's files.
const LIVE_REF: &str = "refs/heads/live";

/// The repository of one job. It may not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRepository {
    dir: PathBuf,
}

/// Description of a job's clone, as stored in the job's repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPlace {
    /// Commits, branch and subfolder of the clone.
    pub place: PlaceSpec,
    /// Folder in the user's repository that the job was launched for.
    pub workspace: PathBuf,
    /// Git folder of the user's repository.
    pub repository: PathBuf,
}

impl JobRepository {
    /// Returns the repository of a job. `repositories` is the folder of all job repositories.
    pub fn of_job(repositories: &Path, job: &JobIdentity) -> Self {
        Self { dir: repositories.join(format!("{}.git", job.file_stem())) }
    }

    /// Returns true if the repository exists.
    pub fn exists(&self) -> bool {
        self.dir.join(PLACE_FILE).is_file()
    }

    /// Creates the repository, unless it exists. `workspace` is the job's folder on this machine; `pack` contains the
    /// objects of the base that the user's repository does not have. Without a pack, these objects may be in `earlier`,
    /// the repository of the job that this job follows.
    ///
    /// # Errors
    /// Refuses a base that does not exist, and what [`Source::find`] refuses.
    pub fn create(
        &self,
        place: &PlaceSpec,
        workspace: &Path,
        pack: Option<File>,
        earlier: Option<&Self>,
    ) -> Result<(), GitError> {
        if self.exists() {
            return Ok(());
        }
        let source = Source::find(workspace)?;
        let failed = |e: io::Error| GitError::io("the job's repository can't be made", &e);
        let parent = self.dir.parent().unwrap_or(&self.dir);
        fs::create_dir_all(parent).map_err(failed)?;
        let new_dir = tempfile::Builder::new().prefix(NEW_PREFIX).tempdir_in(parent).map_err(failed)?;
        let dir = new_dir.path();
        write_repository(dir, &repository_config(&source, place.base()), &alternates_line(&source.objects()))
            .map_err(failed)?;
        if let Some(shallow) = source.shallow_commits() {
            fs::write(dir.join("shallow"), shallow).map_err(failed)?;
        }
        let pack = match (pack, earlier) {
            (None, Some(earlier)) if !has_commit(dir, place.base())? => earlier.pack_base(place)?,
            (pack, _) => pack,
        };
        if let Some(pack) = pack {
            let index = Git::new(dir, "index-pack").args(["--stdin", "--strict"]);
            let index =
                index.arg(format!("--max-input-size={MAX_PACK_SIZE}")).input_file(pack).limit(WORK_LIMIT);
            index.output()?;
        }
        set_base(dir, place, &source)?;
        let stored = StoredPlace {
            place: place.clone(),
            workspace: workspace.to_owned(),
            repository: source.common_dir,
        };
        let stored = serde_json::to_vec(&stored).map_err(|e| failed(e.into()))?;
        fs::write(dir.join(PLACE_FILE), stored).map_err(failed)?;
        match fs::rename(dir, &self.dir) {
            // Another stream of the same job has created the repository meanwhile.
            Err(_) if self.exists() => Ok(()),
            renamed => {
                drop(new_dir.keep());
                renamed.map_err(failed)
            }
        }
    }

    /// Returns the service from which the agent fetches the base. It speaks the git protocol on stdin and stdout.
    pub fn fetch_service(&self) -> Command {
        // The agent is on this machine or near it, so a search for deltas takes longer than sending whole objects.
        // Deltas in the user's packs are sent as they are.
        let service = Git::new(&self.dir, "upload-pack").arg("--strict").arg(&self.dir);
        with_setting(service, "pack.window", "0").into_command()
    }

    /// Returns the service to which the agent pushes the result. It speaks the git protocol on stdin and stdout.
    pub fn push_service(&self) -> Command {
        // For git, 0 means no limit.
        let remaining =
            MAX_REPOSITORY_SIZE.saturating_sub(folder_size(&self.objects())).clamp(1, MAX_PUSH_SIZE);
        let service = Git::new(&self.dir, "receive-pack").arg(&self.dir);
        with_setting(service, "receive.maxInputSize", &remaining.to_string()).into_command()
    }

    /// Removes temporary files of pushes that were interrupted by the end of an earlier daemon. No push may be running.
    pub fn remove_unfinished_pushes(&self) {
        for folder in [self.objects(), self.objects().join("pack")] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_name().as_encoded_bytes().starts_with(b"tmp_") {
                    // A leftover that can't be removed only takes up space.
                    let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                }
            }
        }
    }

    /// Removes refs whose commit is missing, so that the next push sends it. A git process of a killed daemon may have
    /// set them after [`Self::remove_unfinished_pushes`] had removed the objects that it was about to store.
    ///
    /// # Errors
    /// Git can't be run.
    pub fn remove_broken_refs(&self) -> Result<(), GitError> {
        for name in [RESULT_REF, LIVE_REF] {
            if let Some(commit) = self.commit_of(name)?
                && !has_commit(&self.dir, &commit)?
            {
                self.git("update-ref").args(["-d", name, &commit]).output()?;
            }
        }
        Ok(())
    }

    /// Reads the stored place.
    ///
    /// # Errors
    /// The stored place can't be read.
    pub fn stored_place(&self) -> Result<StoredPlace, GitError> {
        let failed = |e: &io::Error| GitError::io("the job's repository can't be read", e);
        let bytes = fs::read(self.dir.join(PLACE_FILE)).map_err(|e| failed(&e))?;
        serde_json::from_slice(&bytes).map_err(|e| failed(&e.into()))
    }

    /// Returns the worker's newest commit, if it has pushed one.
    ///
    /// # Errors
    /// Git can't be run.
    pub fn result_commit(&self) -> Result<Option<String>, GitError> {
        self.commit_of(RESULT_REF)
    }

    /// Returns the newest snapshot of the worker's files, if there is one. It is newer than the worker's newest commit.
    ///
    /// # Errors
    /// Git can't be run.
    pub fn live_commit(&self) -> Result<Option<String>, GitError> {
        self.commit_of(LIVE_REF)
    }

    fn commit_of(&self, name: &str) -> Result<Option<String>, GitError> {
        let found = self.git("rev-parse").args(["--verify", "--quiet", name]).run()?;
        let id = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        Ok((found.code == 0 && is_commit_id(&id)).then_some(id))
    }

    /// Packs the objects of the clone's base commit that its parent commit (the user's commit, without uncommitted
    /// files) does not contain. Returns `None` if the base is not in this repository.
    fn pack_base(&self, place: &PlaceSpec) -> Result<Option<File>, GitError> {
        let failed = |e: io::Error| GitError::io("the base can't be packed", &e);
        if !self.exists() || !has_commit(&self.dir, place.base())? {
            return Ok(None);
        }
        let mut file = self.temporary_file().map_err(failed)?;
        let exclusion = if has_commit(&self.dir, place.parent())? && place.parent() != place.base() {
            format!("^{}\n", place.parent())
        } else {
            String::new()
        };
        let pack = self.git("pack-objects").args(["--revs", "--stdout", "-q"]);
        let pack = pack.input(format!("{}\n{exclusion}", place.base()).into_bytes()).limit(WORK_LIMIT);
        pack.output_file(file.try_clone().map_err(failed)?).output()?;
        file.rewind().map_err(failed)?;
        Ok(Some(file))
    }

    /// Removes the repository.
    ///
    /// # Errors
    /// The error of the system. A missing repository is not an error.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Folder of the repository, for tests.
    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// Folder of the repository's objects.
    pub(super) fn objects(&self) -> PathBuf {
        self.dir.join("objects")
    }

    /// Prepares a call of git on the repository.
    pub(super) fn git(&self, subcommand: &str) -> Git {
        Git::new(&self.dir, subcommand)
    }

    /// Creates an empty unnamed temporary file in the repository's folder.
    pub(super) fn temporary_file(&self) -> io::Result<File> {
        tempfile::tempfile_in(&self.dir)
    }
}

/// Adds a setting to one call of git.
fn with_setting(git: Git, name: &str, value: &str) -> Git {
    git.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", name).env("GIT_CONFIG_VALUE_0", value)
}

/// Removes repositories whose creation was interrupted by the end of an earlier daemon.
pub fn remove_unfinished_repositories(repositories: &Path) {
    for entry in fs::read_dir(repositories).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(NEW_PREFIX.as_bytes()) {
            // A leftover that can't be removed only takes up space.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns the size of all files below a folder, in bytes.
fn folder_size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let entry_size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(entry_size).sum()
}

/// Returns the jobs that have a repository in this folder.
pub fn list_jobs(repositories: &Path) -> Vec<JobIdentity> {
    let Ok(entries) = fs::read_dir(repositories) else { return Vec::new() };
    let job = |name: &str| JobIdentity::from_file_stem(name.strip_suffix(".git")?);
    entries.flatten().filter_map(|entry| job(entry.file_name().to_str()?)).collect()
}

/// Returns true if the repository has the commit and its tree.
fn has_commit(dir: &Path, id: &str) -> Result<bool, GitError> {
    let [commit, tree] = ["commit", "tree"].map(|kind| format!("{id}^{{{kind}}}"));
    let found = Git::new(dir, "rev-parse").args([commit, tree]).run()?;
    Ok(found.code == 0 && found.stdout.starts_with(id.as_bytes()))
}

/// Points the ref `base` to the base commit, and checks that this commit and its tree exist.
fn set_base(dir: &Path, place: &PlaceSpec, source: &Source) -> Result<(), GitError> {
    let missing = || {
        GitError::refused(format!(
            "commit {} that the job starts from is no longer in {}: launch the job again",
            &place.base()[..12],
            source.root.display()
        ))
    };
    if !has_commit(dir, place.base())? {
        return Err(missing());
    }
    // No other process knows the new repository yet.
    fs::write(dir.join("refs/heads/base"), format!("{}\n", place.base()))
        .map_err(|e| GitError::io("the job's repository can't be made", &e))
}

/// Returns the configuration of a job's repository.
fn repository_config(source: &Source, base: &str) -> String {
    let format = &source.settings.object_format;
    let is_sha1 = format == "sha1";
    let extensions =
        if is_sha1 { String::new() } else { format!("[extensions]\n\tobjectformat = {}\n", quote(format)) };
    // A push sees only the base, not all refs of the user's repository.
    let refs_command = quote(&format!("echo {base}; :"));
    format!(
        "[core]\n\trepositoryformatversion = {version}\n\tbare = true\n\talternateRefsCommand = {refs_command}\n\
         {extensions}\
         [transfer]\n\tfsckObjects = true\n\tunpackLimit = 1\n\
         [uploadpack]\n\tallowFilter = true\n\thideRefs = refs\n\thideRefs = !refs/heads/base\n\
         [receive]\n\thideRefs = refs\n\thideRefs = !{RESULT_REF}\n\thideRefs = !{LIVE_REF}\n\tmaxInputSize = {MAX_PUSH_SIZE}\n\
         \tdenyDeletes = true\n\tdenyNonFastForwards = false\n\tautogc = false\n\tupdateServerInfo = false\n\
         [pack]\n\tthreads = 2\n",
        version = u8::from(!is_sha1)
    )
}
