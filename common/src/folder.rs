//! Use of folders by jobs that work in place: one job works in a folder at a time, unless jobs share it.

use serde::{Deserialize, Serialize};

/// Use of the workspace by a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderUse {
    /// The job works in the folder, and waits while another job works there.
    #[default]
    Alone,
    /// The job works in the folder, and does not wait for other jobs there.
    Shared,
    /// The job works in a place of its own.
    OwnPlace,
}

impl FolderUse {
    /// Returns true for the default.
    pub fn is_alone(&self) -> bool {
        *self == Self::Alone
    }
}
