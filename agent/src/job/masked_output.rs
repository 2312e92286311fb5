//! Masking of a command's output: its secrets are masked before anything else reads it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::mask::{Masker, Stream};
use crate::process::Source;

/// Time for which a possible beginning of a secret is held back when nothing follows: a prompt waits for its reader,
/// and two writes of one program come much closer together.
const PATIENCE: Duration = Duration::from_millis(200);

/// Output of one command.
#[derive(Debug)]
pub(super) struct Masked {
    stdout: Stream,
    stderr: Stream,
    /// Time of the newest output.
    newest: Instant,
}

impl Masked {
    /// Creates streams without any output yet.
    pub(super) fn new(mask: &Arc<Masker>) -> Self {
        let stream = || Stream::new(Arc::clone(mask));
        Self { stdout: stream(), stderr: stream(), newest: Instant::now() }
    }

    /// Takes output; returns the part that can be shown by now.
    pub(super) fn push(&mut self, source: Source, bytes: Vec<u8>) -> Vec<u8> {
        self.newest = Instant::now();
        match source {
            Source::Stdout => self.stdout.push(bytes),
            Source::Stderr => self.stderr.push(bytes),
        }
    }

    /// Returns the time at which held-back output is released though nothing follows.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.stdout.waits() || self.stderr.waits()).then(|| self.newest + PATIENCE)
    }

    /// Releases output that need not be held back any longer; all of it if `end` is set.
    pub(super) fn release(&mut self, end: bool) -> [(Source, Vec<u8>); 2] {
        let due = self.due().is_some_and(|due| due <= Instant::now());
        let rest = |stream: &mut Stream| match (end, due) {
            (true, _) => stream.finish(),
            (false, true) => stream.idle(),
            (false, false) => Vec::new(),
        };
        [(Source::Stdout, rest(&mut self.stdout)), (Source::Stderr, rest(&mut self.stderr))]
    }
}
