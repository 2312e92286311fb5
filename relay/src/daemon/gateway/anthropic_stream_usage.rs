//! Token counts in a stream of the Messages API (pure). The counts of the input come first, those of the output last.
//!
//! ```text
//!  message_start: usage, model ──► message_delta: usage, the sum so far ──► message_stop: the answer has its reading
//! ```

use common::event::Usage;

use super::reading::{Counts, Reading};

/// Counts of an answer that is being streamed.
#[derive(Debug, Default)]
pub(super) struct AnthropicStreamUsage {
    counts: Option<Counts>,
    model: Option<String>,
}

impl AnthropicStreamUsage {
    /// Takes an event of this kind, with its counts and its model. Returns the result of the answer at its end.
    pub(super) fn take_event(
        &mut self,
        kind: &str,
        counts: Option<Counts>,
        model: Option<String>,
    ) -> Option<Reading> {
        match kind {
            "message_start" | "message_delta" => {
                self.add(counts);
                self.model = self.model.take().or(model);
                None
            }
            "message_stop" => {
                let model = self.model.take();
                Some(match self.counts {
                    Some(counts) => counts.into_reading(model, None),
                    None => Reading { model, ..Reading::default() },
                })
            }
            _ => None,
        }
    }

    /// Adds counts. Each is a sum so far, and an event may leave some out.
    fn add(&mut self, counts: Option<Counts>) {
        let Some(Counts { usage: newer, cache_written }) = counts else { return };
        let counts = self.counts.unwrap_or_default();
        let older = counts.usage;
        let usage = Usage {
            input_tokens: older.input_tokens.max(newer.input_tokens),
            cached_input_tokens: older.cached_input_tokens.max(newer.cached_input_tokens),
            output_tokens: older.output_tokens.max(newer.output_tokens),
            reasoning_output_tokens: older.reasoning_output_tokens.max(newer.reasoning_output_tokens),
        };
        self.counts = Some(Counts { usage, cache_written: counts.cache_written.max(cache_written) });
    }
}
