//! A job's place: a clone of the caller's repository in which the job works, instead of the caller's folder.

use serde::{Deserialize, Serialize};

/// Place of a job, as decided at its launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceSpec {
    /// Full id (hexadecimal) of the commit that the worker starts from.
    pub base: String,
    /// Full id of the caller's own commit: the same as `base`, or the commit below it if `base` contains the caller's
    /// uncommitted files; empty if the caller's repository had no commit.
    pub parent: String,
    /// Branch that gets the result, such as `relay/demo-1`.
    pub branch: String,
    /// Folder that the job works in, relative to the repository's root; empty for the root.
    pub subfolder: String,
}
