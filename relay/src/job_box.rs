//! Box of a job: the container in which one run of one job works, if jobs don't share the platform's container.
//!
//! The identity of a box consists of the job's identity and the run. The id of the box's agent is computed from it, so
//! that relay knows the agent before it connects, and a relay that was restarted recognizes the boxes of its jobs.

use common::ids::JobId;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::container_state::ContainerState;
use crate::job_identity::JobIdentity;

/// Identity of a box.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoxId {
    owner: JobIdentity,
    /// Run of the job, from 1.
    epoch: u32,
}

/// A box that exists on an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBox {
    /// Identity of the box, from the container's labels.
    pub id: BoxId,
    /// State of the container.
    pub state: ContainerState,
}

/// Reason why a box did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoxFailure {
    /// One line.
    pub reason: String,
    /// True if a further attempt would fail for the same reason.
    pub is_permanent: bool,
}

impl From<String> for BoxFailure {
    fn from(reason: String) -> Self {
        Self { reason, is_permanent: false }
    }
}

impl BoxId {
    /// Length of the id of an agent, in hexadecimal digits.
    const AGENT_DIGITS: usize = 16;

    /// Returns the identity of the box for a run of a job.
    pub fn new(owner: JobIdentity, epoch: u32) -> Self {
        Self { owner, epoch }
    }

    /// Returns the identity of the box for a run of the job that was launched at this time.
    pub fn of_run(job: &JobId, created_at: Timestamp, epoch: u32) -> Self {
        Self::new(JobIdentity::new(job.clone(), created_at.as_millisecond()), epoch)
    }

    /// Returns the identity of the job.
    pub fn owner(&self) -> &JobIdentity {
        &self.owner
    }

    /// Returns the id of the job.
    pub fn job(&self) -> &JobId {
        self.owner.job()
    }

    /// Returns the run of the job.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Returns the id of the agent in the box.
    pub fn agent(&self) -> String {
        let mut digest =
            hex::encode(Sha256::digest(format!("box {} {}", self.owner.file_stem(), self.epoch)));
        digest.truncate(Self::AGENT_DIGITS);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_of_each_launch_has_an_agent_of_its_own() {
        let agent = |launched_at, epoch| BoxId::new(JobIdentity::for_test("a#1", launched_at), epoch).agent();
        assert_eq!(agent(5, 1), agent(5, 1));
        assert_eq!(agent(5, 1).len(), 16);
        assert_ne!(agent(5, 1), agent(5, 2));
        assert_ne!(agent(5, 1), agent(6, 1));
    }
}
