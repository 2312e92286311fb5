//! Id of a run, and the name of the run's folder.

use std::fmt;

use common::ids::JobId;

/// Id of a run: a job, and the number of the run.
#[cfg_attr(not(feature = "internals"), expect(unreachable_pub, reason = "the simulation uses the id, too"))]
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    /// Job of the run.
    pub job: JobId,
    /// Number of the run, from 1.
    pub epoch: u32,
}

impl RunId {
    /// Returns the name of the run's folder.
    pub(super) fn folder_name(&self) -> String {
        format!("{}.{}", self.job.file_stem(), self.epoch)
    }

    pub(super) fn from_folder_name(name: &str) -> Option<Self> {
        let (stem, epoch) = name.rsplit_once('.')?;
        let run = Self { job: stem.parse().ok()?, epoch: epoch.parse().ok()? };
        (run.folder_name() == name).then_some(run)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (run {})", self.job, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_name_has_one_spelling_for_each_run() {
        let run = RunId { job: "abe-smoke#2".parse().unwrap(), epoch: 3 };
        assert_eq!(run.folder_name(), "abe-smoke.2.3");
        assert_eq!(RunId::from_folder_name("abe-smoke.2.3"), Some(run));
        for foreign in ["abe-smoke.2", "abe-smoke#2.3", "abe-smoke.2.03", "lost+found", "a.b.c"] {
            assert_eq!(RunId::from_folder_name(foreign), None, "{foreign}");
        }
    }
}
