//! Digest of a check's output.

use sha2::{Digest, Sha256};

/// Digest of a check's output.
#[derive(Debug, Clone, Default)]
pub(super) struct OutputDigest {
    pub(super) sha256: Sha256,
    /// Length of the output, in bytes.
    pub(super) bytes: u64,
}

impl OutputDigest {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}
