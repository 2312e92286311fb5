//! Where a job's output goes: to the relay through the spool, and into the workspace's own copy.

use std::sync::Arc;

use common::event::EventBody;

use crate::spool::JobSpool;
use crate::workspace_log::{Part, WorkspaceLog};

/// A job's log.
#[derive(Debug)]
pub(crate) struct Log {
    spool: Arc<JobSpool>,
    copy: Option<WorkspaceLog>,
}

impl Log {
    /// A log with or without a copy in the workspace.
    pub(crate) fn new(spool: Arc<JobSpool>, copy: Option<WorkspaceLog>) -> Self {
        Self { spool, copy }
    }

    /// Appends to the human-readable log.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.spool.append_output(bytes);
        self.keep(Part::Log, bytes);
    }

    /// Appends to what only the workspace keeps.
    pub(crate) fn keep(&mut self, part: Part, bytes: &[u8]) {
        let Some(copy) = &mut self.copy else { return };
        if let Err(error) = copy.append(part, bytes) {
            self.copy = None;
            let message = format!("the workspace's copy of the log can't be written any more: {error}");
            self.spool.append(EventBody::Warning { message });
        }
    }
}
