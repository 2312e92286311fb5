//! Use of a working folder by jobs: one job works in a folder at a time, unless its jobs share it.

use serde::{Deserialize, Serialize};

/// Use of its working folder by a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderUse {
    /// The job works in the folder, and waits while another job works there.
    #[default]
    Alone,
    /// The job works in the folder, and does not wait for other jobs there.
    Shared,
    /// The job works in its own clone of the repository, not in the folder.
    OwnPlace,
}

impl FolderUse {
    /// Returns true for [`Self::Alone`], the default.
    pub fn is_alone(&self) -> bool {
        *self == Self::Alone
    }
}
