//! Channel from the writer to the subscribers. The writer hands over what it has made durable and never waits.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use common::event_line::LineHead;
use common::ids::JobId;
use tokio::sync::watch;

use super::ring_buffer::{Line, RingBuffer};
use crate::registry::chunk::Chunk;

/// Both ends of the broadcast, shared by clones.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Broadcast {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    buffer: Mutex<RingBuffer>,
    /// Every event up to this id is durable and can be read. Each subscriber holds a receiver.
    published: watch::Sender<u64>,
}

/// Lines that one commit of the writer has made durable.
#[derive(Debug)]
pub(in crate::daemon) struct Batch {
    /// `None` while there are no subscribers, so that it costs nothing.
    pieces: Option<Vec<(Arc<JobId>, Bytes)>>,
}

impl Batch {
    /// Adds lines of a job, each with its line break.
    pub(in crate::daemon) fn add(&mut self, job: &JobId, lines: &[u8]) {
        if let Some(pieces) = self.pieces.as_mut().filter(|_| !lines.is_empty()) {
            pieces.push((Arc::new(job.clone()), Bytes::copy_from_slice(lines)));
        }
    }
}

impl Broadcast {
    /// Creates a broadcast without events.
    pub(in crate::daemon) fn new() -> Self {
        let inner = Inner { buffer: Mutex::default(), published: watch::Sender::new(0) };
        Self { inner: Arc::new(inner) }
    }

    /// Begins to gather lines for the next [`Broadcast::publish`].
    pub(in crate::daemon) fn begin_batch(&self) -> Batch {
        Batch { pieces: (self.inner.published.receiver_count() > 0).then(Vec::new) }
    }

    /// Publishes events: everything up to the id `top` is durable, and `batch` has the lines since the last call.
    pub(in crate::daemon) fn publish(&self, batch: Batch, top: u64) {
        match batch.pieces {
            Some(pieces) => {
                let mut lines: Vec<Line> = pieces.iter().flat_map(|(job, text)| split(job, text)).collect();
                lines.sort_unstable_by_key(|line| line.id);
                self.buffer(|buffer| buffer.extend(lines, top));
            }
            None => self.buffer(|buffer| buffer.clear(top)),
        }
        // After the lines, so that a subscriber that wakes finds them.
        self.inner.published.send_if_modified(|published| std::mem::replace(published, top) != top);
    }

    /// Subscribes to the id up to which events are published.
    pub(super) fn listen(&self) -> watch::Receiver<u64> {
        self.inner.published.subscribe()
    }

    /// Returns the next lines after a cursor; `None` if they must be read from the files.
    pub(super) fn after(&self, cursor: u64, job: Option<&JobId>) -> Option<Chunk> {
        self.buffer(|buffer| buffer.after(cursor, job))
    }

    fn buffer<T>(&self, act: impl FnOnce(&mut RingBuffer) -> T) -> T {
        // Consistent after every call, so a panic elsewhere leaves nothing half-done in it.
        act(&mut self.inner.buffer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn split<'a>(job: &'a Arc<JobId>, text: &'a Bytes) -> impl Iterator<Item = Line> + 'a {
    let mut start = 0;
    memchr::memchr_iter(b'\n', text).filter_map(move |end| {
        let line = text.slice(start..end);
        start = end + 1;
        let id = LineHead::parse(&line).ok()?.id;
        Some(Line { id, job: Arc::clone(job), text: line })
    })
}
