//! Token counts.

use serde::{Deserialize, Serialize};

/// Token counts of a Codex thread, of a job or of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input tokens.
    pub input_tokens: u64,
    /// Input tokens read from the cache.
    pub cached_input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Output tokens used for reasoning.
    pub reasoning_output_tokens: u64,
}
