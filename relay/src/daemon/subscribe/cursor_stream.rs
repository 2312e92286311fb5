//! Stream of all events after a cursor: past events come from the files, new ones from memory.
//!
//! ```text
//!           memory holds all events after the cursor
//!   reading ◄──────────────────────────────────► following ──(nothing new)──► waiting
//!   files      memory lacks some of these events    ▲────────(published)─────────┘
//! ```

use std::io;
use std::sync::Arc;

use common::ids::JobId;
use tokio::sync::{Semaphore, watch};

use super::broadcast::Broadcast;
use crate::registry::Registry;
use crate::registry::chunk::Chunk;
use crate::registry::history::EventHistory;

/// Stream of a subscriber's events.
#[derive(Debug)]
pub(super) struct CursorStream {
    broadcast: Broadcast,
    registry: Registry,
    published_id: watch::Receiver<u64>,
    /// Permits to read files, which limit the disk load.
    reader_permits: Arc<Semaphore>,
    job: Option<JobId>,
    cursor: u64,
    history_reader: Option<EventHistory>,
}

impl CursorStream {
    /// Creates a stream that begins after the id `since`, or with the next event.
    pub(super) fn new(
        broadcast: &Broadcast,
        registry: &Registry,
        reader_permits: Arc<Semaphore>,
        job: Option<JobId>,
        since: Option<u64>,
    ) -> Self {
        let published_id = broadcast.subscribe_published();
        let cursor = since.unwrap_or(*published_id.borrow());
        Self {
            broadcast: broadcast.clone(),
            registry: registry.clone(),
            published_id,
            reader_permits,
            job,
            cursor,
            history_reader: None,
        }
    }

    /// Returns the id after which the next chunk begins.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(super) fn newest_id(&self) -> u64 {
        *self.published_id.borrow()
    }

    /// Waits for the next lines; never returns an empty chunk.
    ///
    /// Cancel-safe: the cursor advances only on return. After a cancellation, files are opened again.
    ///
    /// # Errors
    /// Fails if a log can't be read, or the writer has ended.
    pub(super) async fn next(&mut self) -> io::Result<Chunk> {
        loop {
            let chunk = self.next_chunk().await?;
            self.cursor = chunk.cursor;
            if !chunk.is_empty() {
                return Ok(chunk);
            }
        }
    }

    async fn next_chunk(&mut self) -> io::Result<Chunk> {
        if let Some(history) = self.history_reader.take() {
            return self.read_files(move || Ok(history)).await;
        }
        let newest_id = *self.published_id.borrow_and_update();
        if self.cursor >= newest_id {
            self.published_id.changed().await.map_err(|_| io::Error::other("the writer has ended"))?;
        }
        if let Some(chunk) = self.broadcast.lines_after(self.cursor, self.job.as_ref()) {
            return Ok(chunk);
        }
        let (registry, job, since) = (self.registry.clone(), self.job.clone(), self.cursor);
        let newest_id = *self.published_id.borrow_and_update();
        self.read_files(move || EventHistory::open(&registry, job.as_ref(), since, newest_id)).await
    }

    /// Reads the next chunk from the files, on a blocking thread.
    async fn read_files(
        &mut self,
        open_history: impl FnOnce() -> io::Result<EventHistory> + Send + 'static,
    ) -> io::Result<Chunk> {
        let permit = Arc::clone(&self.reader_permits).acquire_owned().await.map_err(io::Error::other)?;
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut history = open_history()?;
            let chunk = history.next_chunk()?;
            Ok::<_, io::Error>((history, chunk))
        });
        let (history, chunk) = reading.await.map_err(io::Error::other)??;
        self.history_reader = Some(history).filter(|history| !history.is_over());
        Ok(chunk)
    }
}

#[cfg(test)]
#[path = "cursor_stream_tests.rs"]
mod tests;
