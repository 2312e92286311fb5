//! The result of a job with a clone of its own: a branch with the job's commits.

use serde::{Deserialize, Serialize};

/// Maximum length of the note of a result, in bytes.
pub const MAX_NOTE: usize = 500;

/// Result of a job: the branch with the job's commits, and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// Name of the branch in the caller's repository.
    pub branch: String,
    /// Id of the commit that the worker started from.
    pub base: String,
    /// Id of the job's newest commit; `null` if the job made none.
    pub commit: Option<String>,
    /// Number of the job's commits.
    pub commits: u32,
    /// Number of files that differ from the base.
    pub files: u32,
    /// Number of inserted lines.
    pub insertions: u32,
    /// Number of deleted lines.
    pub deletions: u32,
    /// State of the result.
    pub state: ResultState,
    /// Note for users, one line (≤ [`MAX_NOTE`]): why there is no branch, or what is unusual about the branch.
    pub note: Option<String>,
}

/// State of a result: what the user has done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ResultState {
    /// Not applied, merged or discarded yet.
    Open,
    /// Put into the caller's work tree.
    Applied,
    /// Merged into a branch of the caller.
    Merged,
    /// Discarded: the branch was removed.
    Discarded,
    /// The job changed nothing.
    None,
}

impl ResultState {
    /// Returns the name used in JSON.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl JobResult {
    /// Creates the result of a job that has changed nothing.
    pub fn none(branch: String, base: String) -> Self {
        Self {
            branch,
            base,
            commit: None,
            commits: 0,
            files: 0,
            insertions: 0,
            deletions: 0,
            state: ResultState::None,
            note: None,
        }
    }

    /// Returns true if the job has changed something, and the result was not applied, merged or discarded yet.
    pub fn is_open(&self) -> bool {
        self.state == ResultState::Open
    }

    /// Describes the result in one line: `relay/demo-1: 3 commits, 4 files +20 -3, not taken`.
    pub fn describe(&self) -> String {
        let note = self.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
        format!("{}{note}", self.headline())
    }

    /// Describes the result without its note, which may contain names that a worker chose.
    pub fn headline(&self) -> String {
        let counted = |n: u32, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
        if self.state == ResultState::None {
            return "no changes".to_owned();
        }
        let state = match self.state {
            ResultState::Open => "not taken",
            state => state.as_str(),
        };
        format!(
            "{}: {}, {} +{} -{}, {state}",
            self.branch,
            counted(self.commits, "commit", "commits"),
            counted(self.files, "file", "files"),
            self.insertions,
            self.deletions
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_described_in_one_line() {
        let mut result = JobResult {
            branch: "relay/demo-1".to_owned(),
            base: "b".to_owned(),
            commit: Some("c".to_owned()),
            commits: 3,
            files: 4,
            insertions: 20,
            deletions: 3,
            state: ResultState::Open,
            note: None,
        };
        assert_eq!(result.describe(), "relay/demo-1: 3 commits, 4 files +20 -3, not taken");
        (result.state, result.commits, result.files) = (ResultState::Merged, 1, 1);
        assert_eq!(result.describe(), "relay/demo-1: 1 commit, 1 file +20 -3, merged");
        (result.state, result.note) = (ResultState::None, Some("nothing was pushed".to_owned()));
        assert_eq!(result.describe(), "no changes; nothing was pushed");
    }
}
