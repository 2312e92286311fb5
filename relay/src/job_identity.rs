//! Identity of a job: its id and its launch time.
//!
//! A registry that was removed gives the same ids again. relay keeps data of jobs outside of the registry, too, so the
//! names of that data contain the identity: no job ever finds the data of another job that had its id.

use std::fmt;

use common::ids::JobId;
use common::record::JobRecord;
use jiff::Timestamp;

/// Identity of a job, which no other job of the project ever gets. Displayed as the id of the job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobIdentity {
    job: JobId,
    /// Launch time, in milliseconds since 1970.
    launched_at_ms: i64,
}

impl JobIdentity {
    /// Returns the identity of the job with this record.
    pub fn of(record: &JobRecord) -> Self {
        Self { job: record.job.clone(), launched_at_ms: record.created_at.as_millisecond() }
    }

    /// Returns the identity of a job that was launched at this time, in milliseconds since 1970.
    pub fn new(job: JobId, launched_at_ms: i64) -> Self {
        Self { job, launched_at_ms }
    }

    /// Returns the time of the job's launch, in milliseconds since 1970.
    pub fn launched_at_ms(&self) -> i64 {
        self.launched_at_ms
    }

    /// Returns the id of the job.
    pub fn job(&self) -> &JobId {
        &self.job
    }

    /// Returns true if the job was launched at this time or earlier.
    pub fn is_launched_by(&self, time: Timestamp) -> bool {
        self.launched_at_ms <= time.as_millisecond()
    }

    /// Returns the stem of the names of the job's data: `NAME.N-MILLISECONDS`.
    pub fn file_stem(&self) -> String {
        format!("{}-{}", self.job.file_stem(), self.launched_at_ms)
    }

    /// Parses the stem of a name; `None` if it contains no identity.
    pub fn from_file_stem(stem: &str) -> Option<Self> {
        let (name, rest) = stem.split_once('.')?;
        let (number, launched_at_ms) = rest.split_once('-')?;
        let job = format!("{name}.{number}").parse().ok()?;
        let identity = Self { job, launched_at_ms: launched_at_ms.parse().ok()? };
        // An identity has only one spelling.
        (identity.file_stem() == stem).then_some(identity)
    }

    /// Returns the identity of a job of a test.
    #[cfg(test)]
    pub fn for_test(job: &str, launched_at_ms: i64) -> Self {
        Self::new(job.parse().unwrap(), launched_at_ms)
    }
}

impl fmt::Display for JobIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.job.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shows_id_and_launch_time_and_other_names_show_no_identity() {
        for at in [0, 1_767_323_045_123, -5] {
            let identity = JobIdentity::for_test("a-5_b#12", at);
            assert_eq!(JobIdentity::from_file_stem(&identity.file_stem()), Some(identity));
        }
        let stem = JobIdentity::for_test("demo#1", 1_767_323_045_123).file_stem();
        assert_eq!(stem, "demo.1-1767323045123");
        for other in ["demo.1", "demo.1-", "demo.1-+5", "demo.1-05", "demo.01-5", "demo-5", ".1-5", "key", ""]
        {
            assert_eq!(JobIdentity::from_file_stem(other), None, "{other}");
        }
    }
}
