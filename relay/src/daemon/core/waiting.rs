//! Decides which queued jobs may be offered to agents, and reports why the others wait. Pure.

use common::event::EventBody;
use common::ids::JobId;
use common::wait_reason::WaitReason;

use super::folder_guard::Ticket;
use super::scheduler::{Action, Assignment, Scheduler};

impl Scheduler {
    /// Lets a job wait for its folder and a free slot, unless it still waits for another job.
    pub(super) fn enqueue(&mut self, id: &JobId) {
        let Some(job) = self.jobs.get(id).filter(|_| !self.dependencies.is_waiting(id)) else { return };
        let affected =
            job.claim.as_ref().map(|claim| self.folders.add_waiter(claim, &(job.created_at, id.clone())));
        self.recheck(id);
        self.recheck_all(affected.unwrap_or_default());
    }

    /// Removes a job from the queue, from its folder, and from the jobs that wait for others.
    pub(super) fn dequeue(&mut self, id: &JobId) {
        self.dependencies.remove(id);
        let Some(job) = self.jobs.get(id) else { return };
        let ticket = (job.created_at, id.clone());
        self.queue.remove(job.created_at, id, job.group.as_ref());
        let affected = job.claim.as_ref().map(|claim| self.folders.release(claim, &ticket));
        self.recheck_all(affected.unwrap_or_default());
    }

    fn recheck_all(&mut self, affected: Vec<Ticket>) {
        for (_, id) in affected {
            self.recheck(&id);
        }
    }

    /// Queues a waiting job if its folder is free and it is not held, else removes it from the queue.
    pub(super) fn recheck(&mut self, id: &JobId) {
        let is_free = self.blocker(id).is_none() && !self.is_held(id);
        let Some(job) = self.jobs.get(id).filter(|job| job.assignment == Assignment::Queued) else { return };
        if is_free {
            self.queue.push(job.created_at, id.clone(), job.group.as_ref());
        } else {
            self.queue.remove(job.created_at, id, job.group.as_ref());
        }
        self.rechecked_jobs.insert(id.clone());
    }

    /// Returns the job that a queued job has to wait for because of its folder.
    pub(super) fn blocker(&self, id: &JobId) -> Option<&JobId> {
        let job = self.jobs.get(id)?;
        self.folders.blocker(job.claim.as_ref()?, &(job.created_at, id.clone()))
    }

    /// Returns the event with the reason why a queued job waits, if the reason has changed.
    pub(super) fn report_wait(&mut self, id: &JobId) -> Option<Action> {
        // The jobs that a job waits for are in its record from the beginning.
        let is_dependent = self.dependencies.is_waiting(id);
        let blocker = self.blocker(id).filter(|_| !is_dependent).cloned();
        let reason = blocker.map(|job| WaitReason::Folder { job });
        let text = reason.as_ref().map(ToString::to_string);
        let is_queued = !self.requested_cancels.contains_key(id);
        let job = self.jobs.get_mut(id).filter(|job| is_queued && job.assignment == Assignment::Queued)?;
        if job.wait_reason == text {
            return None;
        }
        job.wait_reason = text;
        Some(Action::Record { job: id.clone(), body: EventBody::Waiting { reason } })
    }
}
