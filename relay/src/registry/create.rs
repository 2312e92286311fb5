//! Creates jobs. A job gets a number, then a spec, then a record, which makes the job visible. Spec and record are
//! durable before that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::time::{Duration, Instant, SystemTime};

use common::event::Queued;
use common::ids::{JobId, JobName};
use common::job::JobSpec;
use common::origin::Origin;
use common::record::JobRecord;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{Registry, read, reserve};
use crate::files::dir::RegistryDir;
use crate::files::file_ref::FileRef;
use crate::files::staged::{self, StagedFile};

/// Maximum size of a counter or key file, in bytes.
const MAX_SMALL_FILE: u64 = 4096;
/// Maximum time to wait for a lock of another process: long enough for many concurrent launches on a slow disk.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two attempts to lock a file: a file lock has no timed wait.
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// A job to create, which has no number yet.
pub struct JobDraft<'a> {
    pub name: JobName,
    /// Launch time.
    pub launched_at: Timestamp,
    /// Builds the spec of the job once its number is known.
    pub build_spec: &'a dyn Fn(&JobId) -> JobSpec,
    /// Working directory on the host.
    pub workspace: String,
    /// Name of the engine.
    pub engine: String,
    /// Origin of the job.
    pub origin: Origin,
    /// Conditions for the start of the job.
    pub schedule: Schedule,
    /// Pack with the uncommitted files that the job starts from.
    pub pack: Option<&'a File>,
    /// Archive with the images of the job.
    pub images: Option<&'a [u8]>,
    /// Idempotency key: a second launch with the same key returns the first launch's job.
    pub key: Option<&'a str>,
}

/// Conditions for the start of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Jobs that must complete before the job starts.
    pub after: Vec<JobId>,
    /// Job in `after` whose result the job starts from, if that result is not known yet.
    pub base_job: Option<JobId>,
    /// Group of the job.
    pub group: Group,
}

impl Schedule {
    /// Makes the new job wait for `job`, and start from its result.
    pub fn wait_for_base(&mut self, job: &JobId) {
        if !self.after.contains(job) {
            self.after.push(job.clone());
        }
        self.base_job = Some(job.clone());
    }
}

/// Group of a job that has no number yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Group {
    /// No group.
    #[default]
    None,
    Named(JobName),
    /// A new group, named after the job: `demo-7` for the job `demo#7`.
    NamedAfterJob,
}

impl Group {
    fn resolve(&self, job: &JobId) -> Option<JobName> {
        match self {
            Self::None => None,
            Self::Named(name) => Some(name.clone()),
            Self::NamedAfterJob => Some(JobName::from_job(job)),
        }
    }
}

/// Result of the creation of a job.
#[derive(Debug, PartialEq)]
pub enum CreateResult {
    New(JobId),
    /// The job that an earlier launch with the same key created.
    Existing(JobId),
}

/// Writes a job into the registry. Once this returns, the job survives a power loss.
///
/// # Errors
/// `StorageFull` while the daemon keeps the remaining space for job outcomes; otherwise the error of the first failing
/// call. After an error no record is visible, but a job number may be used up.
pub fn create_job(registry: &Registry, draft: &JobDraft<'_>) -> io::Result<CreateResult> {
    if reserve::is_released(registry) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    staged::remove_leftovers(&registry.staging(), SystemTime::now());
    let Some(key) = draft.key else { return create_new(registry, draft, None).map(CreateResult::New) };
    let mut file = open_locked(&key_file(registry, key))?;
    let job_text = read_small_text(&mut file)?;
    match launched_job(registry, &job_text) {
        Some(job) => Ok(CreateResult::Existing(job)),
        None => create_new(registry, draft, Some(&mut file)).map(CreateResult::New),
    }
}

/// Returns the job that a key's file names, if that job was launched. The file is written before the job's record, so
/// it may name a job that was never created.
fn launched_job(registry: &Registry, job_text: &str) -> Option<JobId> {
    let job: JobId = job_text.trim().parse().ok()?;
    let exists =
        is_number_used(&registry.record(&job)) || is_number_used(&registry.archive_registry().record(&job));
    exists.then_some(job)
}

/// Locks the launch of follow-up jobs. Waits until other commands have finished their launches. The lock is held until
/// the handle is dropped.
///
/// # Errors
/// `TimedOut` when another command holds the lock for too long; otherwise the error of the failing call.
pub fn lock_follow_up(registry: &Registry) -> io::Result<File> {
    // A job name contains no dot, so the file can't be the counter of a name.
    open_locked(&registry.names().file("follow.lock"))
}

/// Returns the job that an earlier launch with this key created.
pub fn job_of_key(registry: &Registry, key: &str) -> io::Result<Option<JobId>> {
    match key_file(registry, key).read_text(MAX_SMALL_FILE) {
        Ok(job_text) => Ok(launched_job(registry, &job_text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Returns the file of an idempotency key. A key is arbitrary text, so the file is named by the key's digest.
fn key_file(registry: &Registry, key: &str) -> FileRef {
    let digest = hex::encode(Sha256::digest(key.as_bytes()));
    registry.names().file(format!("key.{}", &digest[..32]))
}

/// Creates a job. The file of the idempotency key names the job before the job's record is visible.
fn create_new(registry: &Registry, draft: &JobDraft<'_>, key: Option<&mut File>) -> io::Result<JobId> {
    let job = next_job_id(registry, &draft.name)?;
    if let Some(key) = key {
        overwrite(key, &job.file_stem())?;
        key.sync_data()?;
    }
    let spec = (draft.build_spec)(&job);
    let queued = Queued {
        workspace: draft.workspace.clone(),
        prompt_summary: common::text_format::one_line(&spec.prompt, common::event::MAX_TITLE),
        runner: spec.runner,
        engine: draft.engine.clone(),
        log_path: registry.log(&job).display().to_string(),
        events_path: registry.events(&job).display().to_string(),
        origin: draft.origin.clone(),
        model: spec.codex.model.clone(),
        folder_use: spec.folder_use(),
        after: draft.schedule.after.clone(),
        base_job: draft.schedule.base_job.clone(),
        group: draft.schedule.group.resolve(&job),
        on_quota: spec.on_quota,
    };
    let record = JobRecord::from_queued(job.clone(), draft.launched_at, &queued);
    let staging = registry.staging();
    let spec = StagedFile::write_in(&staging, &registry.spec(&job), &serde_json::to_vec(&spec)?)?;
    let record = StagedFile::write_in(&staging, &registry.record(&job), &record.to_bytes()?)?;
    let pack = draft.pack.map(|pack| stage_pack(&staging, &registry.pack(&job), pack)).transpose()?;
    let images =
        draft.images.map(|archive| stage_images(&staging, &registry.images(&job), archive)).transpose()?;
    let latest = LatestLink::stage(registry, &job)?;
    // Both files are written before the first sync, which then commits both to the disk's journal.
    spec.begin_writing();
    record.begin_writing();
    spec.sync()?;
    record.sync()?;
    // These files stay locked until the record exists, because an unlocked file without a record counts as a leftover.
    let _images = images.map(StagedFile::publish).transpose()?;
    let _pack = pack.map(StagedFile::publish).transpose()?;
    let _spec = spec.publish()?;
    if let Err(e) = record.publish().and_then(|_| registry.folder().sync()) {
        // The partial job is removed, because it would never run.
        for file in [registry.record(&job), registry.spec(&job), registry.pack(&job), registry.images(&job)] {
            let _ = file.remove();
        }
        return Err(e);
    }
    // The job exists now, so the launch succeeds even if the link `latest` can't be published.
    let _ = latest.publish();
    Ok(job)
}

/// Writes a pack to the disk, under a temporary name.
fn stage_pack(staging: &RegistryDir, target: &FileRef, mut pack: &File) -> io::Result<StagedFile> {
    let mut staged = StagedFile::create_in(staging, target)?;
    pack.rewind()?;
    io::copy(&mut pack, staged.file())?;
    staged.sync()?;
    Ok(staged)
}

/// Writes an archive of images to the disk, under a temporary name.
fn stage_images(staging: &RegistryDir, target: &FileRef, archive: &[u8]) -> io::Result<StagedFile> {
    let staged = StagedFile::write_in(staging, target, archive)?;
    staged.sync()?;
    Ok(staged)
}

/// Returns the id of the next job with this name. A locked file per name holds the counter, so the cost does not grow
/// with the number of jobs. A lost counter is rebuilt from the existing files.
fn next_job_id(registry: &Registry, name: &JobName) -> io::Result<JobId> {
    let mut file = open_locked(&registry.names().file(name.as_str()))?;
    let text = read_small_text(&mut file)?;
    let last_number = match text.trim().parse::<u32>() {
        Ok(last_number) => last_number,
        Err(_) => read::highest_number(registry, name)?,
    };
    let mut job = JobId::new(name.clone(), last_number.saturating_add(1));
    // After a power loss the counter may be older than the records.
    let archived = registry.archive_registry();
    while is_number_used(&registry.record(&job)) || is_number_used(&archived.record(&job)) {
        job = JobId::new(name.clone(), job.number().saturating_add(1));
    }
    overwrite(&mut file, &job.number().to_string())?;
    Ok(job)
}

/// Returns true if the record exists. Any other entry with its name is set aside later, and uses up no number.
fn is_number_used(record: &FileRef) -> bool {
    record.size().is_some()
}

/// Returns the last number given to a name; 0 for none.
pub fn last_number(registry: &Registry, name: &JobName) -> u32 {
    let counter_text = registry.names().file(name.as_str()).read_text(MAX_SMALL_FILE).unwrap_or_default();
    // A lost counter is rebuilt from the existing files.
    counter_text.trim().parse().unwrap_or_else(|_| read::highest_number(registry, name).unwrap_or(0))
}

/// Ensures that the numbers of jobs that are about to be removed are never reused.
///
/// # Errors
/// Returns an error if a counter can't be read, written or synced.
pub fn remember_numbers(registry: &Registry, jobs: &[JobId]) -> io::Result<()> {
    let mut highest: BTreeMap<&JobName, u32> = BTreeMap::new();
    for job in jobs {
        let number = highest.entry(job.name()).or_default();
        *number = job.number().max(*number);
    }
    for (name, number) in highest {
        let mut file = open_locked(&registry.names().file(name.as_str()))?;
        let text = read_small_text(&mut file)?;
        if text.trim().parse::<u32>().map_or(true, |last_number| last_number < number) {
            // A lost counter could not be rebuilt after the removal of these jobs.
            let last_number = read::highest_number(registry, name)?.max(number);
            overwrite(&mut file, &last_number.to_string())?;
        }
        file.sync_data()?;
    }
    Ok(())
}

/// Removes the idempotency keys of jobs that are about to be removed.
pub fn remove_keys(registry: &Registry, jobs: &BTreeSet<&JobId>) -> io::Result<()> {
    let folder = registry.names();
    for name in folder.names()?.into_iter().filter(|name| name.starts_with("key.")) {
        // A key file that can't be read names no job.
        let job = folder.file(&name).read_text(MAX_SMALL_FILE).unwrap_or_default().trim().parse::<JobId>();
        if job.is_ok_and(|job| jobs.contains(&job)) {
            folder.file(&name).remove()?;
        }
    }
    Ok(())
}

/// Opens a small file and locks it for as long as the handle lives.
///
/// # Errors
/// `TimedOut` when another process holds the lock for too long; otherwise the error of the failing call.
pub(super) fn open_locked(file_ref: &FileRef) -> io::Result<File> {
    let file = file_ref.open_or_create()?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(e),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let text = format!("another process holds {} locked", file_ref.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Err(TryLockError::WouldBlock) => std::thread::park_timeout(LOCK_PAUSE),
        }
    }
}

/// Reads an open counter or key file, at most [`MAX_SMALL_FILE`] bytes. Text that is not UTF-8 counts as empty.
fn read_small_text(file: &mut File) -> io::Result<String> {
    let mut text = Vec::new();
    file.take(MAX_SMALL_FILE).read_to_end(&mut text)?;
    Ok(String::from_utf8(text).unwrap_or_default())
}

fn overwrite(file: &mut File, text: &str) -> io::Result<()> {
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

/// The link `latest` to a new job, staged under a temporary name, so that a full disk is detected early.
struct LatestLink {
    temp_link: FileRef,
    link: FileRef,
}

impl LatestLink {
    fn stage(registry: &Registry, job: &JobId) -> io::Result<Self> {
        let temp_link = registry.staging().file(format!("latest.{}", job.file_stem()));
        let target = format!("{}.json", job.file_stem());
        match temp_link.create_link(&target) {
            // No other job has this number: an entry with this name is a leftover or was planted.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                temp_link.remove()?;
                temp_link.create_link(&target)?;
            }
            result => result?,
        }
        Ok(Self { temp_link, link: registry.latest() })
    }

    fn publish(&self) -> io::Result<()> {
        self.temp_link.rename_link(&self.link)
    }
}

impl Drop for LatestLink {
    fn drop(&mut self) {
        // Best effort. After `publish` there is nothing left to remove.
        let _ = self.temp_link.remove();
    }
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
