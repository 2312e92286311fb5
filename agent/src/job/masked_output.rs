//! Masking of a command's output: its secrets are masked before anything else reads it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::mask::{Masker, Stream};
use crate::process::OutputSource;

/// Time for which a possible beginning of a secret is held back when nothing follows: a prompt waits for its reader,
/// and two writes of one program come much closer together.
const HOLD_TIME: Duration = Duration::from_millis(200);

/// Output of one command.
#[derive(Debug)]
pub(super) struct MaskedOutput {
    stdout: Stream,
    stderr: Stream,
    /// Time of the newest output.
    last_output: Instant,
}

impl MaskedOutput {
    /// Creates streams without any output yet.
    pub(super) fn new(mask: &Arc<Masker>) -> Self {
        let stream = || Stream::new(Arc::clone(mask));
        Self { stdout: stream(), stderr: stream(), last_output: Instant::now() }
    }

    /// Takes output; returns the part that can be shown by now.
    pub(super) fn push(&mut self, source: OutputSource, bytes: Vec<u8>) -> Vec<u8> {
        self.last_output = Instant::now();
        match source {
            OutputSource::Stdout => self.stdout.push(bytes),
            OutputSource::Stderr => self.stderr.push(bytes),
        }
    }

    /// Returns the time at which held-back output is released though nothing follows.
    pub(super) fn release_at(&self) -> Option<Instant> {
        (self.stdout.is_holding() || self.stderr.is_holding()).then(|| self.last_output + HOLD_TIME)
    }

    /// Releases output that need not be held back any longer; all of it if `end` is set.
    pub(super) fn release(&mut self, end: bool) -> [(OutputSource, Vec<u8>); 2] {
        let due = self.release_at().is_some_and(|due| due <= Instant::now());
        let rest = |stream: &mut Stream| match (end, due) {
            (true, _) => stream.finish(),
            (false, true) => stream.release(),
            (false, false) => Vec::new(),
        };
        [(OutputSource::Stdout, rest(&mut self.stdout)), (OutputSource::Stderr, rest(&mut self.stderr))]
    }
}
