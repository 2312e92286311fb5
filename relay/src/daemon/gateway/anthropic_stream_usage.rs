//! Token counts in a stream of the Messages API (pure). The counts of the input come first, those of the output last.
//!
//! ```text
//!  message_start: usage, model ──► message_delta: usage, the sum so far ──► message_stop: the answer has its reading
//! ```

use common::event::Usage;

/// Counts of an answer that is being streamed.
#[derive(Debug, Default)]
pub(super) struct AnthropicStreamUsage {
    usage: Option<Usage>,
    model: Option<String>,
}

impl AnthropicStreamUsage {
    /// Takes an event of this kind, with its counts and its model. Returns those of the answer at its end.
    pub(super) fn take_event(
        &mut self,
        kind: &str,
        usage: Option<Usage>,
        model: Option<String>,
    ) -> Option<(Option<Usage>, Option<String>)> {
        match kind {
            "message_start" | "message_delta" => {
                self.add(usage);
                self.model = self.model.take().or(model);
                None
            }
            "message_stop" => Some((self.usage, self.model.take())),
            _ => None,
        }
    }

    /// Adds counts. Each is a sum so far, and an event may leave some out.
    fn add(&mut self, usage: Option<Usage>) {
        let Some(newer) = usage else { return };
        let older = self.usage.unwrap_or_default();
        self.usage = Some(Usage {
            input_tokens: older.input_tokens.max(newer.input_tokens),
            cached_input_tokens: older.cached_input_tokens.max(newer.cached_input_tokens),
            output_tokens: older.output_tokens.max(newer.output_tokens),
            reasoning_output_tokens: older.reasoning_output_tokens.max(newer.reasoning_output_tokens),
        });
    }
}
