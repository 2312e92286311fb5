//! A request to the model whose answer is not metered yet.

use std::sync::Arc;

use common::event::Usage;

use super::reading::Reading;
use super::route::JobRoute;
use super::worker_body::SentRequest;

/// Bytes of a token, about: a rule of thumb for English text.
const BYTES_PER_TOKEN: u64 = 4;

/// A request that is sent to the model. If it ends without token counts, they are estimated from its bytes, so that a
/// worker that closes its connections early can't use the model for nothing.
#[derive(Debug)]
pub(super) struct PendingAnswer {
    route: Arc<JobRoute>,
    sent: Arc<SentRequest>,
    received: u64,
    is_settled: bool,
}

impl PendingAnswer {
    /// Begins a request of a job.
    pub(super) fn new(route: &Arc<JobRoute>) -> Self {
        Self { route: Arc::clone(route), sent: Arc::default(), received: 0, is_settled: false }
    }

    /// Returns the sent part of the request, for its body.
    pub(super) fn sent(&self) -> Arc<SentRequest> {
        Arc::clone(&self.sent)
    }

    /// Counts bytes of the answer.
    pub(super) fn add_received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes.try_into().unwrap_or(u64::MAX));
    }

    /// Records the result of the answer.
    pub(super) fn settle(mut self, reading: &Reading) {
        self.is_settled = true;
        self.record(reading);
    }

    /// Records the result. The price is that of the model that has answered, else of the one that was asked for.
    fn record(&self, reading: &Reading) {
        let model = reading.model.clone().or_else(|| self.sent.model().map(str::to_owned));
        self.route.record_answer(&Reading { model, ..reading.clone() }, self.estimate());
    }

    /// Ends a request that the model has not worked on.
    pub(super) fn forgive(mut self) {
        self.is_settled = true;
    }

    fn estimate(&self) -> Usage {
        Usage {
            input_tokens: self.sent.bytes().div_ceil(BYTES_PER_TOKEN),
            output_tokens: self.received.div_ceil(BYTES_PER_TOKEN),
            ..Usage::default()
        }
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        if !self.is_settled {
            self.record(&Reading::default());
        }
    }
}
