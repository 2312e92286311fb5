//! Log of a job. Its text goes to the relay through the spool, and into a copy in the workspace.

use std::sync::Arc;

use common::event::EventBody;

use super::log_copy::LogCopy;
use crate::mask::Masker;
use crate::spool::JobSpool;
use crate::workspace_log::{LogFile, WorkspaceLog};

/// Maximum number of bytes that are buffered before they are written.
const MAX_BUFFERED: usize = 64 * 1024;

/// Log of a job. Text is buffered until the next flush, because one iteration of the job's loop writes many lines.
#[derive(Debug)]
pub(crate) struct JobLog {
    spool: Arc<JobSpool>,
    buffer: Vec<u8>,
    workspace_copy: Option<LogCopy>,
    mask: Arc<Masker>,
}

impl JobLog {
    /// Creates a log with or without a copy in the workspace.
    pub(crate) fn new(spool: Arc<JobSpool>, workspace_copy: Option<WorkspaceLog>, mask: Arc<Masker>) -> Self {
        let mut log = Self { spool, buffer: Vec::new(), workspace_copy: None, mask };
        match workspace_copy.map(LogCopy::start).transpose() {
            Ok(copy) => log.workspace_copy = copy,
            Err(error) => log.warn(&error.to_string()),
        }
        log
    }

    /// Appends a line that the agent itself wrote to the human-readable log.
    pub(crate) fn write_line(&mut self, line: &str) {
        let line = format!("{}\n", self.mask.mask_text(line));
        self.write(line.as_bytes());
    }

    /// Appends output, whose secrets are already masked, to the human-readable log.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= MAX_BUFFERED {
            self.flush();
        }
    }

    /// Writes the buffered text.
    pub(crate) fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let mut text = std::mem::take(&mut self.buffer);
        self.spool.append_output(&text);
        self.append_file(LogFile::Log, &text);
        text.clear();
        // Frees the memory of a large buffer after a burst of output.
        text.shrink_to(MAX_BUFFERED);
        self.buffer = text;
    }

    /// Appends to a file of the workspace's copy. The relay does not get these bytes.
    pub(crate) fn append_file(&mut self, file: LogFile, bytes: &[u8]) {
        if let Some(copy) = &self.workspace_copy {
            copy.append(file, bytes);
        }
    }

    /// Drops the workspace's copy if it can no longer be written.
    pub(crate) fn check_copy(&mut self) {
        if let Some(error) = self.workspace_copy.as_ref().and_then(LogCopy::error) {
            self.workspace_copy = None;
            self.warn(&error);
        }
    }

    fn warn(&self, error: &str) {
        let message = format!("the workspace's copy of the log can't be written any more: {error}");
        self.spool.append(EventBody::Warning { message });
    }

    /// Returns true if so much output waits to be written to the copy that reading from the worker must pause.
    pub(crate) fn is_congested(&self) -> bool {
        self.workspace_copy.as_ref().is_some_and(LogCopy::is_full)
    }

    /// Waits until everything is written to the copy.
    pub(crate) async fn close(&mut self) {
        self.flush();
        if let Some(copy) = &self.workspace_copy {
            copy.wait_drained().await;
        }
        self.check_copy();
    }
}
