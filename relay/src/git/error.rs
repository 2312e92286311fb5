//! Errors of git and of repositories.

use crate::exit::Failure;

/// Error of git or of a repository: one line that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// The call is not possible: the repository is in an unsuitable state, or an argument is wrong.
    #[error("{0}")]
    Refused(String),
    /// Git can't be run, took too long or failed.
    #[error("{0}")]
    Failed(String),
}

impl GitError {
    /// Builds a refusal.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::Refused(message.into())
    }

    /// Builds the error of a failed call of the system. `action` says what failed, such as `the index can't be copied`.
    pub fn io(action: &str, error: &std::io::Error) -> Self {
        Self::Failed(format!("{action}: {error}"))
    }
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        match error {
            GitError::Refused(message) => Self::usage(message),
            GitError::Failed(message) => Self::unreachable(message),
        }
    }
}
