//! Channel from the writer to the subscribers. The writer publishes durable lines and never waits.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use common::event_line::LineHead;
use common::ids::JobId;
use tokio::sync::watch;

use super::ring_buffer::{BufferedLine, RingBuffer};
use crate::registry::chunk::Chunk;

/// Sending and receiving end of the broadcast. All clones share one buffer.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Broadcast {
    inner: Arc<BroadcastState>,
}

#[derive(Debug)]
struct BroadcastState {
    buffer: Mutex<RingBuffer>,
    /// Every event up to this id is durable and can be read. Each subscriber holds a receiver.
    published_id: watch::Sender<u64>,
}

/// Lines that one commit of the writer has made durable.
#[derive(Debug)]
pub(in crate::daemon) struct PublishBatch {
    /// Lines by job; `None` while there are no subscribers, to save the cost.
    job_lines: Option<Vec<(Arc<JobId>, Bytes)>>,
}

impl PublishBatch {
    /// Adds lines of a job, each with its line break.
    pub(in crate::daemon) fn add(&mut self, job: &JobId, lines: &[u8]) {
        if let Some(job_lines) = self.job_lines.as_mut().filter(|_| !lines.is_empty()) {
            job_lines.push((Arc::new(job.clone()), Bytes::copy_from_slice(lines)));
        }
    }
}

impl Broadcast {
    /// Creates a broadcast without events.
    pub(in crate::daemon) fn new() -> Self {
        let inner = BroadcastState { buffer: Mutex::default(), published_id: watch::Sender::new(0) };
        Self { inner: Arc::new(inner) }
    }

    /// Starts a batch of lines for the next [`Broadcast::publish`].
    pub(in crate::daemon) fn begin_batch(&self) -> PublishBatch {
        PublishBatch { job_lines: (self.inner.published_id.receiver_count() > 0).then(Vec::new) }
    }

    /// Publishes events: everything up to the id `newest_id` is durable, and `batch` contains the lines since the last
    /// call.
    pub(in crate::daemon) fn publish(&self, batch: PublishBatch, newest_id: u64) {
        match batch.job_lines {
            Some(job_lines) => {
                let mut lines: Vec<BufferedLine> =
                    job_lines.iter().flat_map(|(job, text)| split_lines(job, text)).collect();
                lines.sort_unstable_by_key(|line| line.id);
                self.with_buffer(|buffer| buffer.extend(lines, newest_id));
            }
            None => self.with_buffer(|buffer| buffer.clear(newest_id)),
        }
        // The id is sent after the lines were added, so that a woken subscriber finds them.
        self.inner
            .published_id
            .send_if_modified(|published| std::mem::replace(published, newest_id) != newest_id);
    }

    /// Subscribes to the id up to which events are published.
    pub(super) fn subscribe_published(&self) -> watch::Receiver<u64> {
        self.inner.published_id.subscribe()
    }

    /// Returns the next lines after a cursor; `None` if they must be read from the files.
    pub(super) fn lines_after(&self, cursor: u64, job: Option<&JobId>) -> Option<Chunk> {
        self.with_buffer(|buffer| buffer.lines_after(cursor, job))
    }

    fn with_buffer<T>(&self, access: impl FnOnce(&mut RingBuffer) -> T) -> T {
        // The buffer is consistent after every call, even after a panic elsewhere.
        access(&mut self.inner.buffer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn split_lines<'a>(job: &'a Arc<JobId>, text: &'a Bytes) -> impl Iterator<Item = BufferedLine> + 'a {
    let mut start = 0;
    memchr::memchr_iter(b'\n', text).filter_map(move |end| {
        let line = text.slice(start..end);
        start = end + 1;
        let id = LineHead::parse(&line).ok()?.id;
        Some(BufferedLine { id, job: Arc::clone(job), text: line })
    })
}
