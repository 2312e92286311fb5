//! Where a job's output goes: to the relay through the spool, and into the workspace's own copy.

use std::sync::Arc;

use common::event::EventBody;

use crate::mask::Masker;
use crate::spool::JobSpool;
use crate::workspace_log::{Part, WorkspaceLog};

/// Text that is gathered at most before it is written.
const GATHERED: usize = 64 * 1024;

/// A job's log. What is written goes out with the next flush: one turn of the job's loop brings many short lines.
#[derive(Debug)]
pub(crate) struct Log {
    spool: Arc<JobSpool>,
    gathered: Vec<u8>,
    copy: Option<WorkspaceLog>,
    mask: Arc<Masker>,
}

impl Log {
    /// A log with or without a copy in the workspace.
    pub(crate) fn new(spool: Arc<JobSpool>, copy: Option<WorkspaceLog>, mask: Arc<Masker>) -> Self {
        Self { spool, gathered: Vec::new(), copy, mask }
    }

    /// Appends a line of the agent's own to the human-readable log.
    pub(crate) fn write_line(&mut self, line: &str) {
        let line = format!("{}\n", self.mask.text(line));
        self.write(line.as_bytes());
    }

    /// Appends output, its secrets masked already, to the human-readable log.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHERED {
            self.flush();
        }
    }

    /// Hands on what was gathered.
    pub(crate) fn flush(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        self.spool.append_output(&gathered);
        self.keep(Part::Log, &gathered);
        gathered.clear();
        // A flood's buffer is not kept for the calm after it.
        gathered.shrink_to(GATHERED);
        self.gathered = gathered;
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
