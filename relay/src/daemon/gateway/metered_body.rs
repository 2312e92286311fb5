//! Body of an answer on its way to a worker: passed on byte for byte, and metered.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::meter::Meter;
use super::pending_answer::PendingAnswer;
use super::reading::Reading;

/// Body of an answer, with its meter.
pub(super) struct MeteredBody {
    body: Incoming,
    /// Meter and request, until the answer has its reading; `None` for an answer without token counts.
    metering: Option<(Meter, PendingAnswer)>,
}

impl MeteredBody {
    /// Wraps the body of an answer.
    pub(super) fn new(body: Incoming, metering: Option<(Meter, PendingAnswer)>) -> Self {
        Self { body, metering }
    }

    fn take_bytes(&mut self, bytes: &[u8]) {
        let Some((meter, pending)) = &mut self.metering else { return };
        pending.add_received(bytes.len());
        meter.feed(bytes);
        if let Some(reading) = meter.take_reading() {
            self.settle(&reading);
        }
    }

    fn settle(&mut self, reading: &Reading) {
        if let Some((_, pending)) = self.metering.take() {
            pending.settle(reading);
        }
    }

    /// Records the end of the answer, once. Without a reading, its tokens are estimated.
    fn end(&mut self) {
        let Some((mut meter, pending)) = self.metering.take() else { return };
        if let Some(reading) = meter.finish() {
            pending.settle(&reading);
        }
    }
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => self.take_bytes(frame.data_ref().map_or(&[][..], |data| &data[..])),
            Some(Err(_)) | None => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for MeteredBody {
    /// A body of a known length is not asked for its end, and a worker may go away before it.
    fn drop(&mut self) {
        self.end();
    }
}
