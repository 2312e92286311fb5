//! Open streams of one connection.

use std::collections::BTreeMap;

use common::stream::{OutgoingParts, StreamHandle, StreamPart};
use tokio::task::JoinSet;

use super::service::{self, OpenRequest, Service, Services};
use crate::daemon::core::ConnectionId;

/// Maximum number of streams of one connection: each of an agent's jobs has one, and one more that is ending.
const MAX_STREAMS: usize = 2 * common::job::MAX_AGENT_JOBS as usize;

/// Streams of a connection. Dropping this value ends them.
pub(in crate::daemon) struct GitStreams {
    services: Services,
    connection_id: ConnectionId,
    parts: OutgoingParts,
    open: BTreeMap<u32, StreamHandle>,
    /// Tasks that serve the streams, each with the number of its stream as its result.
    tasks: JoinSet<u32>,
}

impl GitStreams {
    /// Creates the table of a connection, which sends the parts that are put into the queue.
    pub(in crate::daemon) fn new(
        services: Services,
        connection_id: ConnectionId,
        parts: OutgoingParts,
    ) -> Self {
        Self { services, connection_id, parts, open: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Opens a stream. Never waits.
    ///
    /// # Errors
    /// The agent broke the protocol.
    pub(in crate::daemon) fn open(&mut self, request: OpenRequest) -> Result<(), String> {
        self.forget_ended();
        let stream = request.stream;
        if self.open.contains_key(&stream) || self.open.len() >= MAX_STREAMS {
            return Err(format!("stream {stream} is open already, or one too many"));
        }
        let handle = StreamHandle::new(stream, self.parts.clone());
        self.open.insert(stream, handle.clone());
        let service = Service { connection_id: self.connection_id.clone(), request, handle };
        let services = self.services.clone();
        self.tasks.spawn(async move {
            service::serve(&services, service).await;
            stream
        });
        Ok(())
    }

    /// Handles a part. Ignores a part of an unknown stream: the agent sent it before it received the end of the
    /// stream. Never waits.
    ///
    /// # Errors
    /// The agent broke the protocol.
    pub(in crate::daemon) fn receive(&mut self, stream: u32, part: StreamPart) -> Result<(), String> {
        self.forget_ended();
        self.open.get(&stream).map_or(Ok(()), |handle| handle.receive(part)).map_err(|e| e.to_string())
    }

    fn forget_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Ok(stream) = ended {
                self.open.remove(&stream);
            }
        }
    }
}
