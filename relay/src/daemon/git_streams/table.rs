//! Table of the open streams of one connection.

use std::collections::BTreeMap;

use common::stream::{GitService, MAX_MODEL_STREAMS, OutgoingParts, StreamHandle, StreamPart};
use tokio::task::JoinSet;

use super::service::{self, AgentStream, OpenRequest, Services};
use crate::daemon::core::ConnectionId;

/// Maximum number of open streams of one connection: for each of an agent's jobs one and for the model all, and as many
/// others that are ending.
const MAX_STREAMS: usize = 2 * (common::job::MAX_AGENT_JOBS as usize + MAX_MODEL_STREAMS);

/// Streams of a connection. Dropping this value ends them.
pub(in crate::daemon) struct GitStreams {
    services: Services,
    connection_id: ConnectionId,
    parts: OutgoingParts,
    /// Handle of each open stream, by the stream's number, with its service.
    handles: BTreeMap<u32, (StreamHandle, GitService)>,
    /// Tasks that serve the streams, each with the number of its stream as its result.
    tasks: JoinSet<u32>,
}

impl GitStreams {
    /// Creates the table of a connection. The connection sends the parts that the streams put into the queue `parts`.
    pub(in crate::daemon) fn new(
        services: Services,
        connection_id: ConnectionId,
        parts: OutgoingParts,
    ) -> Self {
        Self { services, connection_id, parts, handles: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Opens a stream. Never waits.
    ///
    /// # Errors
    /// The agent broke the protocol.
    pub(in crate::daemon) fn open_stream(&mut self, request: OpenRequest) -> Result<(), String> {
        self.remove_ended();
        let stream = request.stream;
        if self.handles.contains_key(&stream) || self.handles.len() >= MAX_STREAMS {
            return Err(format!("stream {stream} is open already, or one too many"));
        }
        let handle = StreamHandle::new(stream, self.parts.clone());
        let is_model = |service| service == GitService::Model;
        let model_streams = self.handles.values().filter(|(_, service)| is_model(*service)).count();
        self.handles.insert(stream, (handle.clone(), request.service));
        if is_model(request.service) && model_streams >= MAX_MODEL_STREAMS {
            // The agent counts a stream as ended earlier than the relay, so this does not violate the protocol.
            self.tasks.spawn(async move {
                let reason = "the agent has too many connections to the model";
                // Closing fails if the connection has ended.
                let _ = handle.close(Some(reason.to_owned())).await;
                stream
            });
            return Ok(());
        }
        let agent_stream = AgentStream { connection_id: self.connection_id.clone(), request, handle };
        let services = self.services.clone();
        self.tasks.spawn(async move {
            service::serve(&services, agent_stream).await;
            stream
        });
        Ok(())
    }

    /// Handles a part of a stream. Ignores a part of an unknown stream: the agent sent it before it learned that the
    /// stream has ended. Never waits.
    ///
    /// # Errors
    /// The agent broke the protocol.
    pub(in crate::daemon) fn receive_part(&mut self, stream: u32, part: StreamPart) -> Result<(), String> {
        self.remove_ended();
        self.handles
            .get(&stream)
            .map_or(Ok(()), |(handle, _)| handle.receive(part))
            .map_err(|e| e.to_string())
    }

    fn remove_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Ok(stream) = ended {
                self.handles.remove(&stream);
            }
        }
    }
}
