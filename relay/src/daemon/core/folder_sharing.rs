//! Reports which jobs work in the same folder at the same time (`--share`), so that their changes can't be told apart.
//! Pure.
//!
//! ```text
//!  offered to an agent ──► added to the lists of the other holders of the folder ──ended──► stays in their lists
//!                                             │
//!                                             └──refused──► removed from their lists
//! ```
//!
//! The lists are recorded before the job is sent to its agent: each job's own list is in its log before the job can
//! end, and so is its entry in the lists of jobs whose changes it could affect.

use common::event::EventBody;
use common::folder::MAX_SHARED_WITH;
use common::ids::JobId;

use super::folder_guard::FolderSharing;
use super::scheduler::{Action, Scheduler};

impl Scheduler {
    /// Adds a job to the lists of the other jobs that work in its folder, and adds those jobs to its list.
    pub(super) fn add_to_shared_folder(&mut self, id: &JobId) {
        for other in self.other_holders(id) {
            self.add_sharing_job(id, &other);
            self.add_sharing_job(&other, id);
        }
    }

    fn add_sharing_job(&mut self, id: &JobId, other: &JobId) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let jobs = &mut job.sharing.jobs;
        if jobs.len() < MAX_SHARED_WITH && !jobs.contains(other) {
            jobs.push(other.clone());
            self.changed_sharing.insert(id.clone());
        }
    }

    /// Removes a job from the lists of the other jobs, and clears its list: it was refused, so it has not worked.
    pub(super) fn remove_from_shared_folder(&mut self, id: &JobId) {
        for other in self.other_holders(id) {
            self.remove_sharing_jobs(&other, |job| job == id);
        }
        self.remove_sharing_jobs(id, |_| true);
    }

    fn remove_sharing_jobs(&mut self, id: &JobId, is_removed: impl Fn(&JobId) -> bool) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let count = job.sharing.jobs.len();
        job.sharing.jobs.retain(|job| !is_removed(job));
        if job.sharing.jobs.len() < count {
            self.changed_sharing.insert(id.clone());
        }
    }

    fn other_holders(&self, id: &JobId) -> Vec<JobId> {
        let claim = self.jobs.get(id).and_then(|job| job.claim.as_ref());
        let holders = claim.into_iter().flat_map(|claim| self.folders.holders(claim));
        holders.filter(|holder| *holder != id).cloned().collect()
    }

    /// Returns the events with the lists that have changed.
    pub(super) fn report_sharing(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for id in std::mem::take(&mut self.changed_sharing) {
            let Some(FolderSharing { jobs, is_reported }) =
                self.jobs.get_mut(&id).map(|job| &mut job.sharing)
            else {
                continue;
            };
            let first = jobs.first().filter(|_| !std::mem::replace(is_reported, true)).cloned();
            let body = EventBody::FolderShared { jobs: jobs.clone() };
            actions.push(Action::Record { job: id.clone(), body });
            actions.extend(first.map(|other| Action::WarnOfSharedExpectations { job: id, other }));
        }
        actions
    }
}

#[cfg(test)]
#[path = "folder_sharing_tests.rs"]
mod tests;
