//! A new job: number, spec, record, in this order, each durable before the next is visible.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use common::event::Queued;
use common::ids::{JobId, JobName};
use common::job::JobSpec;
use common::origin::Origin;
use common::record::JobRecord;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::atomic::{self, Staged};
use super::{Registry, layout, read, reserve};

/// What is known of a job before it has a number.
pub struct Draft<'a> {
    /// Its name.
    pub name: JobName,
    /// When it is launched.
    pub at: Timestamp,
    /// Makes the spec of the job once its number is known.
    pub spec: &'a dyn Fn(&JobId) -> JobSpec,
    /// The working folder on the host.
    pub workspace: String,
    /// Name of the engine.
    pub engine: String,
    /// Where it comes from.
    pub origin: Origin,
    /// A second launch with the same key gives the first one's job.
    pub key: Option<&'a str>,
}

/// What a launch gave.
#[derive(Debug, PartialEq)]
pub enum Created {
    /// A new job.
    New(JobId),
    /// The job that the same key launched before.
    Existing(JobId),
}

/// Writes a job into the registry. When this returns, a power loss can't take it back.
///
/// # Errors
/// `StorageFull` while the daemon keeps what room there is for the ends of jobs; otherwise the first failing call. Then no
/// record is visible, and at most a number is used up.
pub fn create(registry: &Registry, draft: &Draft<'_>) -> io::Result<Created> {
    if reserve::is_given_up(registry) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let Some(key) = draft.key else { return create_new(registry, draft).map(Created::New) };
    let mut file = open_locked(&key_file(registry, key))?;
    let mut known = String::new();
    file.read_to_string(&mut known)?;
    if let Ok(job) = known.trim().parse() {
        return Ok(Created::Existing(job));
    }
    let job = create_new(registry, draft)?;
    overwrite(&mut file, &job.stem())?;
    file.sync_data()?;
    Ok(Created::New(job))
}

/// The job that a key launched before.
///
/// # Errors
/// When the key's file can't be read.
pub fn of_key(registry: &Registry, key: &str) -> io::Result<Option<JobId>> {
    match fs::read_to_string(key_file(registry, key)) {
        Ok(known) => Ok(known.trim().parse().ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Keys are any text, so their files are named by a digest.
fn key_file(registry: &Registry, key: &str) -> PathBuf {
    let digest = hex::encode(Sha256::digest(key.as_bytes()));
    registry.names().join(format!("key.{}", &digest[..32]))
}

fn create_new(registry: &Registry, draft: &Draft<'_>) -> io::Result<JobId> {
    let job = next_number(registry, &draft.name)?;
    let spec = (draft.spec)(&job);
    let queued = Queued {
        workspace: draft.workspace.clone(),
        prompt_summary: common::text::one_line(&spec.prompt, common::event::MAX_TITLE),
        runner: spec.runner,
        engine: draft.engine.clone(),
        log_path: registry.log(&job).display().to_string(),
        events_path: registry.events(&job).display().to_string(),
        origin: draft.origin.clone(),
    };
    let record = JobRecord::queued(job.clone(), draft.at, &queued);
    let spec = Staged::write(&registry.spec(&job), &serde_json::to_vec(&spec)?)?;
    let record = Staged::write(&registry.record(&job), &record.to_bytes()?)?;
    let latest = Latest::stage(registry, &job)?;
    spec.sync()?;
    record.sync()?;
    spec.publish()?;
    if let Err(e) = record.publish().and_then(|()| atomic::sync_dir(registry.dir())) {
        // Nothing half-made: a spec without a record would hold a prompt that nobody ever runs.
        for path in [registry.record(&job), registry.spec(&job)] {
            let _ = fs::remove_file(path);
        }
        return Err(e);
    }
    // The job is there now: a link that stays behind is a nuisance, and no reason to say that there is none.
    let _ = latest.publish();
    Ok(job)
}

/// The next number of a name. Counted in a locked file per name, so that it costs the same with 10,000 jobs; a lost
/// counter is made again from the files that are there.
fn next_number(registry: &Registry, name: &JobName) -> io::Result<JobId> {
    let mut file = open_locked(&registry.names().join(name.as_str()))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let last = match text.trim().parse::<u32>() {
        Ok(last) => last,
        Err(_) => read::highest_number(registry, name)?,
    };
    let mut job = JobId::new(name.clone(), last.saturating_add(1));
    // After a power loss the counter can be older than the records.
    while registry.record(&job).exists() || registry.archived().record(&job).exists() {
        job = JobId::new(name.clone(), job.number().saturating_add(1));
    }
    overwrite(&mut file, &job.number().to_string())?;
    Ok(job)
}

/// The last number that a name was given; 0 for none.
pub fn last_number(registry: &Registry, name: &JobName) -> u32 {
    let counted = fs::read_to_string(registry.names().join(name.as_str())).unwrap_or_default();
    // A lost counter is made again from the files that are there; without those there is no number either.
    counted.trim().parse().unwrap_or_else(|_| read::highest_number(registry, name).unwrap_or(0))
}

/// Makes sure that the numbers of jobs that are about to go are never given again.
///
/// # Errors
/// When a counter can't be read, written or synced.
pub fn remember_numbers(registry: &Registry, jobs: &[JobId]) -> io::Result<()> {
    let mut highest: BTreeMap<&JobName, u32> = BTreeMap::new();
    for job in jobs {
        let number = highest.entry(job.name()).or_default();
        *number = job.number().max(*number);
    }
    for (name, number) in highest {
        let mut file = open_locked(&registry.names().join(name.as_str()))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        if text.trim().parse::<u32>().map_or(true, |last| last < number) {
            // A lost counter is made of the jobs that are there, and these will not be.
            let last = read::highest_number(registry, name)?.max(number);
            overwrite(&mut file, &last.to_string())?;
        }
        file.sync_data()?;
    }
    Ok(())
}

/// Forgets the idempotency keys of jobs that are about to go.
///
/// # Errors
/// When the folder can't be read or a key not be removed.
pub fn forget_keys(registry: &Registry, jobs: &BTreeSet<&JobId>) -> io::Result<()> {
    for entry in fs::read_dir(registry.names())? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b"key.") {
            continue;
        }
        let job = fs::read_to_string(entry.path())?.trim().parse::<JobId>();
        if job.is_ok_and(|job| jobs.contains(&job)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Opens a small file and locks it for as long as the handle lives.
fn open_locked(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.lock()?;
    Ok(file)
}

fn overwrite(file: &mut File, text: &str) -> io::Result<()> {
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

/// The link to the new job, under a name that nobody looks for yet: on a full disk it is this that fails, and not a link
/// that is missing in the end.
struct Latest {
    temporary: PathBuf,
    path: PathBuf,
}

impl Latest {
    fn stage(registry: &Registry, job: &JobId) -> io::Result<Self> {
        let temporary = registry.dir().join(format!(".latest.{}", job.stem()));
        std::os::unix::fs::symlink(format!("{}.json", job.stem()), &temporary)?;
        Ok(Self { temporary, path: registry.latest() })
    }

    fn publish(&self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for Latest {
    fn drop(&mut self) {
        // Best effort, and nothing is there any more after it was published.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// The job that `latest` points to.
///
/// # Errors
/// When there is no such link.
pub fn latest(registry: &Registry) -> io::Result<JobId> {
    let target = fs::read_link(registry.latest())?;
    target
        .to_str()
        .and_then(layout::job_of_record)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "'latest' points to no record"))
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
