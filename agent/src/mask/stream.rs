//! Masking of output that arrives in chunks.

use std::sync::Arc;

use super::Masker;
use super::ansi::shows_at_most;

/// Maximum number of bytes (without colours) at the end of the output that are shown although a secret may begin with
/// them. So few bytes are more likely to be the end of a prompt.
const MAX_RELEASED_PREFIX: usize = 3;

/// Masker of one stream of output. If a secret may begin near the end of the output, it holds that end back.
#[derive(Debug)]
pub(crate) struct MaskedStream {
    masker: Arc<Masker>,
    held_back_bytes: Vec<u8>,
    /// Number of bytes of `held_back_bytes` that were already shown.
    shown_bytes: usize,
}

impl MaskedStream {
    /// Creates a stream without any output yet.
    pub(crate) fn new(masker: Arc<Masker>) -> Self {
        Self { masker, held_back_bytes: Vec::new(), shown_bytes: 0 }
    }

    /// Adds a chunk; returns the part that can already be shown.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.mask_chunk(bytes, false)
    }

    /// Returns true if held-back output may be released after a moment without more output.
    pub(crate) fn has_releasable(&self) -> bool {
        self.shown_bytes < self.held_back_bytes.len()
            && shows_at_most(MAX_RELEASED_PREFIX, &self.held_back_bytes)
    }

    /// Returns held-back output that is too short to reveal a secret. Called after a moment without more output.
    pub(crate) fn release(&mut self) -> Vec<u8> {
        if !self.has_releasable() {
            return Vec::new();
        }
        let rest = self.held_back_bytes[self.shown_bytes..].to_vec();
        self.shown_bytes = self.held_back_bytes.len();
        rest
    }

    /// Ends the stream; returns the rest of the output, masked.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.mask_chunk(Vec::new(), true)
    }

    fn mask_chunk(&mut self, bytes: Vec<u8>, is_last: bool) -> Vec<u8> {
        if self.masker.is_empty() {
            return bytes;
        }
        let text = if self.held_back_bytes.is_empty() {
            bytes
        } else {
            let mut text = std::mem::take(&mut self.held_back_bytes);
            text.extend_from_slice(&bytes);
            text
        };
        let mut out = Vec::new();
        let decided_bytes = self.masker.mask(&text, self.shown_bytes, is_last, &mut out);
        let is_unchanged = self.shown_bytes == 0 && out.is_empty() && decided_bytes == text.len();
        self.shown_bytes = self.shown_bytes.saturating_sub(decided_bytes);
        if is_unchanged {
            return text;
        }
        self.held_back_bytes = text[decided_bytes..].to_vec();
        out
    }
}
