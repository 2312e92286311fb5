//! Masking of output that arrives in pieces.

use std::sync::Arc;

use super::Masker;
use super::ansi::shows_at_most;

/// Maximum number of bytes, colours not counted, at the end of the output that are shown though a secret may begin with
/// them: a prompt that ends like the beginning of a secret is more likely than a secret.
const MAX_SHOWN: usize = 3;

/// Masks one stream of output. Only an end that may be the beginning of a secret is held back.
#[derive(Debug)]
pub(crate) struct Stream {
    masker: Arc<Masker>,
    held: Vec<u8>,
    /// Bytes of `held` that were shown already.
    shown: usize,
}

impl Stream {
    /// Creates a stream without any output yet.
    pub(crate) fn new(masker: Arc<Masker>) -> Self {
        Self { masker, held: Vec::new(), shown: 0 }
    }

    /// Takes a piece; returns the part that can be shown by now.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.mask_piece(bytes, false)
    }

    /// Returns true if output is held back that can be released when nothing follows for a moment.
    pub(crate) fn is_holding(&self) -> bool {
        self.shown < self.held.len() && shows_at_most(MAX_SHOWN, &self.held)
    }

    /// Returns held-back output that is too short to reveal anything, after a moment in which nothing followed.
    pub(crate) fn release(&mut self) -> Vec<u8> {
        if !self.is_holding() {
            return Vec::new();
        }
        let rest = self.held[self.shown..].to_vec();
        self.shown = self.held.len();
        rest
    }

    /// Returns the rest, since nothing follows.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.mask_piece(Vec::new(), true)
    }

    fn mask_piece(&mut self, bytes: Vec<u8>, last: bool) -> Vec<u8> {
        if self.masker.is_empty() {
            return bytes;
        }
        let text = if self.held.is_empty() {
            bytes
        } else {
            let mut text = std::mem::take(&mut self.held);
            text.extend_from_slice(&bytes);
            text
        };
        let mut out = Vec::new();
        let known = self.masker.mask(&text, self.shown, last, &mut out);
        let unchanged = self.shown == 0 && out.is_empty() && known == text.len();
        self.shown = self.shown.saturating_sub(known);
        if unchanged {
            return text;
        }
        self.held = text[known..].to_vec();
        out
    }
}
