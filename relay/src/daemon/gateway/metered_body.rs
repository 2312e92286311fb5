//! Body of an answer on its way to a worker: passed on byte for byte, and metered.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::meter::{Meter, Reading};
use super::route::JobRoute;

/// Body of an answer, with its meter.
pub(super) struct MeteredBody {
    body: Incoming,
    /// Meter, until the answer has its reading; `None` for an answer without token counts.
    meter: Option<Meter>,
    route: Arc<JobRoute>,
}

impl MeteredBody {
    /// Wraps the body of an answer.
    pub(super) fn new(body: Incoming, meter: Option<Meter>, route: Arc<JobRoute>) -> Self {
        Self { body, meter, route }
    }

    fn take_bytes(&mut self, bytes: &[u8]) {
        let Some(meter) = &mut self.meter else { return };
        meter.feed(bytes);
        if let Some(reading) = meter.take_reading() {
            self.meter = None;
            self.route.record_answer(&reading);
        }
    }

    /// Records the end of the answer, once.
    fn end(&mut self) {
        if let Some(mut meter) = self.meter.take() {
            let reading = meter.finish().unwrap_or(Reading { usage: None, model: None, error: None });
            self.route.record_answer(&reading);
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
