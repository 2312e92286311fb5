//! Masking of a command's output: secrets in it are masked before any other code reads it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::mask::{MaskedStream, Masker};
use crate::process::OutputSource;

/// Time after which a possible beginning of a secret is released if no more output follows: long compared with the time
/// between two writes of one secret, short enough to show a prompt.
const HOLD_TIME: Duration = Duration::from_millis(200);

/// Masked output of one command.
#[derive(Debug)]
pub(super) struct MaskedOutput {
    stdout: MaskedStream,
    stderr: MaskedStream,
    /// Time of the newest output.
    last_output: Instant,
}

impl MaskedOutput {
    /// Creates streams without any output yet.
    pub(super) fn new(mask: &Arc<Masker>) -> Self {
        let stream = || MaskedStream::new(Arc::clone(mask));
        Self { stdout: stream(), stderr: stream(), last_output: Instant::now() }
    }

    /// Adds output; returns the part that can already be shown.
    pub(super) fn push(&mut self, source: OutputSource, bytes: Vec<u8>) -> Vec<u8> {
        self.last_output = Instant::now();
        match source {
            OutputSource::Stdout => self.stdout.push(bytes),
            OutputSource::Stderr => self.stderr.push(bytes),
        }
    }

    /// Returns the time at which held-back output is released if no more output follows.
    pub(super) fn release_time(&self) -> Option<Instant> {
        (self.stdout.has_releasable() || self.stderr.has_releasable()).then(|| self.last_output + HOLD_TIME)
    }

    /// Releases the output that no longer needs to be held back, or all held-back output if `is_final` is true.
    pub(super) fn release_output(&mut self, is_final: bool) -> [(OutputSource, Vec<u8>); 2] {
        let due = self.release_time().is_some_and(|due| due <= Instant::now());
        let rest = |stream: &mut MaskedStream| match (is_final, due) {
            (true, _) => stream.finish(),
            (false, true) => stream.release(),
            (false, false) => Vec::new(),
        };
        [(OutputSource::Stdout, rest(&mut self.stdout)), (OutputSource::Stderr, rest(&mut self.stderr))]
    }
}
