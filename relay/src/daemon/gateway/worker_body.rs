//! Body of a worker's request on its way to the model's server: limited, counted and checked.

use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Limited;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::request_check::RequestCheck;

/// Error of a worker's body.
pub(super) type BodyError = Box<dyn Error + Send + Sync>;

/// The part of a request that has been sent.
#[derive(Debug, Default)]
pub(super) struct SentRequest {
    bytes: AtomicU64,
    model: OnceLock<String>,
}

impl SentRequest {
    /// Counts bytes, and stores the model that the request asks for once it is known.
    fn add(&self, bytes: usize, model: Option<&str>) {
        self.bytes.fetch_add(bytes.try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Some(model) = model {
            self.model.get_or_init(|| model.to_owned());
        }
    }

    /// Returns the number of bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the model that the request asks for, if it is known.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.get().map(String::as_str)
    }
}

/// Body of a worker's request.
pub(in crate::daemon) struct WorkerBody {
    body: Limited<Incoming>,
    /// Check of a request that uses the model, and what is sent of it.
    metering: Option<(RequestCheck, Arc<SentRequest>)>,
}

impl WorkerBody {
    /// Wraps a body of at most `limit` bytes.
    pub(super) fn new(
        body: Incoming,
        limit: u64,
        metering: Option<(RequestCheck, Arc<SentRequest>)>,
    ) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { body: Limited::new(body, limit), metering }
    }

    /// Wraps a body that is passed on as it is.
    pub(in crate::daemon) fn unlimited(body: Incoming) -> Self {
        Self { body: Limited::new(body, usize::MAX), metering: None }
    }
}

impl Body for WorkerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let (Some((check, sent)), Some(Ok(frame))) = (&mut self.metering, &frame)
            && let Some(data) = frame.data_ref()
        {
            // The bytes that complete a forbidden value are not sent, so the server never has the whole request.
            if let Err(error) = check.feed(data) {
                return Poll::Ready(Some(Err(error.into())));
            }
            sent.add(data.len(), check.model());
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
