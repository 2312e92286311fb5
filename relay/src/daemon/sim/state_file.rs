//! State that a simulated relay stores for the next one, in a separate file.

#![expect(clippy::disallowed_methods, reason = "no file of the registry")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::state_dir::saved_state::SavedState;

/// File with the saved state.
pub(super) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// Returns the file of the project at `root`.
    pub(super) fn in_project(root: &Path) -> Self {
        Self { path: root.join("saved-state.json") }
    }

    /// Loads the stored state; the default if there is none.
    pub(super) fn load(&self) -> SavedState {
        serde_json::from_slice(&fs::read(&self.path).unwrap_or_default()).unwrap_or_default()
    }

    /// Stores the state. If that fails, the next relay starts without it.
    pub(super) fn store(&self, state: &SavedState) {
        let stored = serde_json::to_vec(state).map(|bytes| fs::write(&self.path, bytes));
        debug_assert!(stored.is_ok_and(|written| written.is_ok()), "the simulated disk takes it");
    }
}
