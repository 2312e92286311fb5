//! State of jobs that the registry does not have, because it was removed or replaced while no relay was running.
//!
//! ```text
//! repositories/, outputs/, receipts/, threads/ ──job unknown──► leftovers/DATE/ ──30 days──► removed
//!                                             ◄──job known again, as in a restored registry──┘
//! ```
//!
//! The state may contain a result that was not taken, and the record that would say so is gone.

#![expect(clippy::disallowed_methods, reason = "relay's own state folder, which no session may write")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use common::ids::JobId;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use crate::git::job_repository::PLACE_FILE;
use crate::job_identity::JobIdentity;
use crate::registry::{Registry, layout, read};
use crate::state_dir::{StateDir, threads};

/// Time for which the state of an unknown job is kept: enough to notice the loss of a registry, and to restore it.
const KEPT_DAYS: i64 = 30;
/// Maximum number of jobs that the warning names.
const MAX_NAMED_JOBS: usize = 3;

/// Sets the state of unknown jobs aside, and takes back that of known ones. Nothing may use the state meanwhile.
pub(super) fn set_aside(registry: &Registry, state: &StateDir, today: Date) {
    // Without the list, every job may be one that the registry has.
    let Ok(mut known) = KnownJobs::list(registry) else { return };
    let folders = [
        (state.repositories(), ".git"),
        (state.outputs(), ".tar"),
        (state.receipts(), ".json"),
        (state.threads_dir(), threads::ARCHIVE_ENDING),
    ];
    for (date, leftovers) in dated_folders(&state.leftovers()) {
        take_back(&leftovers, &folders, &mut known);
        if removal_date(date) < today {
            log_failure(&leftovers, &fs::remove_dir_all(&leftovers));
        } else {
            // Only an empty folder is removed.
            let _ = fs::remove_dir(&leftovers);
        }
    }
    let target = state.leftovers().join(today.to_string());
    let mut jobs = BTreeSet::new();
    for (folder, ending) in &folders {
        for (name, path) in entries(folder) {
            let Some(stem) = name.strip_suffix(ending) else { continue };
            match known.owner(stem, &path) {
                Owner::Known => {}
                Owner::Unnamed(owner) => {
                    let named = folder.join(format!("{}{ending}", owner.file_stem()));
                    log_failure(&path, &fs::rename(&path, named));
                }
                Owner::Missing(job) => {
                    let moved =
                        fs::create_dir_all(&target).and_then(|()| fs::rename(&path, target.join(&name)));
                    if log_failure(&path, &moved) {
                        jobs.insert(job);
                    }
                }
            }
        }
    }
    if !jobs.is_empty() {
        tracing::warn!(
            "results, outputs and receipts of jobs that the registry does not have ({}) were moved to {}; they are \
             removed after {}",
            format_jobs(&jobs),
            target.display(),
            removal_date(today)
        );
    }
}

fn format_jobs(jobs: &BTreeSet<JobId>) -> String {
    let named: Vec<String> = jobs.iter().take(MAX_NAMED_JOBS).map(ToString::to_string).collect();
    let unnamed = jobs.len().saturating_sub(MAX_NAMED_JOBS);
    let rest = if unnamed > 0 { format!(" and {unnamed} more") } else { String::new() };
    format!("{}{rest}", named.join(", "))
}

/// Moves the state of jobs that the registry has again back into its folders.
fn take_back(leftovers: &Path, folders: &[(PathBuf, &str)], known: &mut KnownJobs<'_>) {
    for (name, path) in entries(leftovers) {
        for (folder, ending) in folders {
            let owner = name.strip_suffix(ending).and_then(JobIdentity::from_file_stem);
            let target = folder.join(&name);
            if owner.is_some_and(|owner| known.has(&owner)) && !target.exists() {
                let moved = fs::create_dir_all(folder).and_then(|()| fs::rename(&path, target));
                log_failure(&path, &moved);
            }
        }
    }
}

/// Owner of a part of the state.
enum Owner {
    /// A job in the registry, or no job.
    Known,
    /// A job in the registry. An earlier version of relay named the part after the job's id alone.
    Unnamed(JobIdentity),
    /// A job that the registry does not have.
    Missing(JobId),
}

/// Jobs of a registry and its archive.
struct KnownJobs<'a> {
    registry: &'a Registry,
    /// Jobs with a record or an event log, from which a record is rebuilt.
    jobs: BTreeSet<JobId>,
    /// Identities that were looked up; `None` for a record that can't be read.
    identities: BTreeMap<JobId, Option<JobIdentity>>,
}

impl<'a> KnownJobs<'a> {
    fn list(registry: &'a Registry) -> io::Result<Self> {
        let names = [registry.folder().names()?, registry.archive().names()?].concat();
        let job = |name: &String| layout::job_of_record(name).or_else(|| layout::job_of_events(name));
        Ok(Self { registry, jobs: names.iter().filter_map(job).collect(), identities: BTreeMap::new() })
    }

    fn identity(&mut self, job: &JobId) -> Option<JobIdentity> {
        let registry = self.registry;
        let load = || Some(JobIdentity::of(&read::load_record(registry, job).ok()?.record));
        self.identities.entry(job.clone()).or_insert_with(load).clone()
    }

    /// Returns true if the registry has this job. A job whose record can't be read counts as this one.
    fn has(&mut self, identity: &JobIdentity) -> bool {
        let job = identity.job();
        self.jobs.contains(job) && self.identity(job).is_none_or(|known| known == *identity)
    }

    fn owner(&mut self, stem: &str, path: &Path) -> Owner {
        if let Some(identity) = JobIdentity::from_file_stem(stem) {
            return if self.has(&identity) { Owner::Known } else { Owner::Missing(identity.job().clone()) };
        }
        let Ok(job) = stem.parse::<JobId>() else { return Owner::Known };
        if !self.jobs.contains(&job) {
            return Owner::Missing(job);
        }
        match self.identity(&job) {
            None => Owner::Known,
            Some(identity) if made_at(path).is_some_and(|at| identity.is_launched_by(at)) => {
                Owner::Unnamed(identity)
            }
            Some(_) => Owner::Missing(job),
        }
    }
}

/// Returns the time at which a file or a repository was made.
fn made_at(path: &Path) -> Option<Timestamp> {
    // The folder of a repository changes later, too.
    let meta = fs::metadata(path.join(PLACE_FILE)).or_else(|_| fs::metadata(path)).ok()?;
    Timestamp::try_from(meta.modified().ok()?).ok()
}

/// Returns the last day on which leftovers of a day are kept.
fn removal_date(date: Date) -> Date {
    date.saturating_add(KEPT_DAYS.days())
}

fn dated_folders(leftovers: &Path) -> Vec<(Date, PathBuf)> {
    entries(leftovers).into_iter().filter_map(|(name, path)| Some((name.parse().ok()?, path))).collect()
}

fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}

/// Logs a failure to move or remove a part of the state, which then stays where it is, unused. Returns true on success.
fn log_failure(path: &Path, result: &io::Result<()>) -> bool {
    if let Err(e) = result {
        tracing::warn!("{} of an earlier job can't be moved or removed: {e}", path.display());
    }
    result.is_ok()
}

#[cfg(test)]
mod tests {
    use common::record::State;
    use jiff::civil::date;

    use super::*;
    use crate::render::samples;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = entries(folder).into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    #[test]
    fn state_of_unknown_jobs_is_kept_aside_and_comes_back_with_its_job() {
        let (_registry_dir, registry) = Registry::temporary();
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::in_folder(dir.path().to_owned());
        let write_record = |job: &str, created_at| {
            let mut record = samples::minimal_record(job, State::Completed);
            record.created_at = created_at;
            std::fs::write(registry.record(&record.job), record.to_bytes().unwrap()).unwrap();
        };
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        write_record("a#1", at(5));
        write_record("c#1", at(7));
        write_record("d#1", Timestamp::now() + 1.hour());
        fs::create_dir_all(state.repositories().join("b.1-2.git")).unwrap();
        let files = [
            (
                state.outputs(),
                &["a.1-5.tar", "a.1-1.tar", "b.1-2.tar", "c.1.tar", "d.1.tar", ".new-1"] as &[&str],
            ),
            (state.receipts(), &["b.1-2.json", "c.1-7.json", "key.pem"]),
        ];
        for (folder, names) in files {
            fs::create_dir_all(&folder).unwrap();
            for name in names {
                fs::write(folder.join(name), "").unwrap();
            }
        }
        let leftovers = state.leftovers().join("2026-01-02");
        set_aside(&registry, &state, date(2026, 1, 2));
        assert_eq!(names(&state.outputs()), [".new-1", "a.1-5.tar", "c.1-7.tar"]);
        assert_eq!(names(&state.receipts()), ["c.1-7.json", "key.pem"]);
        assert_eq!(names(&leftovers), ["a.1-1.tar", "b.1-2.git", "b.1-2.json", "b.1-2.tar", "d.1.tar"]);

        write_record("b#1", at(2));
        set_aside(&registry, &state, date(2026, 2, 1));
        assert_eq!(names(&leftovers), ["a.1-1.tar", "d.1.tar"]);
        assert_eq!(names(&state.repositories()), ["b.1-2.git"]);
        set_aside(&registry, &state, date(2026, 2, 2));
        assert_eq!(names(&state.leftovers()), [""; 0]);
        assert_eq!(names(&state.outputs()), [".new-1", "a.1-5.tar", "b.1-2.tar", "c.1-7.tar"]);
    }
}
