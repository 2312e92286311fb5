//! Removes temporary files of killed launches and other writers. They may contain values of a job's environment.

use std::collections::BTreeSet;
use std::time::SystemTime;

use common::ids::JobId;

use super::{Registry, layout};
use crate::files::staged;

/// Removes the leftovers from every folder, when a daemon starts. What can't be removed stays until the next start.
pub fn remove_leftovers(registry: &Registry, now: SystemTime) {
    // The archive is not searched, because it has many entries and no leftovers: files are moved there under their
    // final name.
    let archive = registry.archive_registry();
    for folder in registry.folders().iter().filter(|folder| folder.path() != archive.dir()) {
        staged::remove_leftovers(folder, now);
    }
    let names = registry.folder().names().unwrap_or_default();
    let recorded_jobs: BTreeSet<JobId> = names
        .iter()
        .filter_map(|name| layout::job_of_record(name).or_else(|| layout::job_of_events(name)))
        .collect();
    for extension in [".spec", ".pack", ".images"] {
        let jobs = names.iter().filter_map(|name| name.strip_suffix(extension)?.parse::<JobId>().ok());
        for job in jobs.filter(|job| !recorded_jobs.contains(job)) {
            let file = registry.folder().file(format!("{}{extension}", job.file_stem()));
            // A launch keeps its files locked until its record exists. The record may exist by now.
            if file.is_leftover(now) && !registry.record(&job).exists() {
                let _ = file.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::staged::StagedFile;

    #[test]
    fn a_spec_without_a_record_is_removed_unless_its_launch_is_running() {
        let (_dir, registry) = Registry::temporary();
        let job = |text: &str| text.parse::<JobId>().unwrap();
        let lock = StagedFile::write(&registry.spec(&job("a#1")), b"{}").unwrap().publish().unwrap();
        for dead in ["a#2", "a#3"] {
            drop(StagedFile::write(&registry.spec(&job(dead)), b"{}").unwrap().publish().unwrap());
        }
        std::fs::write(registry.record(&job("a#3")), "{}").unwrap();
        std::fs::write(registry.folder().file(".a.4.spec.77"), "{}").unwrap();
        std::fs::write(registry.staging().file(".a.5.spec.77"), "{}").unwrap();
        remove_leftovers(&registry, SystemTime::now());
        let exists = |name: &str| registry.spec(&job(name)).exists();
        assert_eq!((exists("a#1"), exists("a#2"), exists("a#3")), (true, false, true));
        assert!(!registry.folder().file(".a.4.spec.77").exists());
        assert_eq!(registry.staging().names().unwrap(), [""; 0]);
        drop(lock);
        remove_leftovers(&registry, SystemTime::now());
        assert!(!exists("a#1"));
    }
}
