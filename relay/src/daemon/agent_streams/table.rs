//! Table of the open streams of one connection.

use std::collections::BTreeMap;

use common::stream::{
    MAX_MODEL_STREAMS, MAX_NETWORK_STREAMS, OutgoingParts, StreamHandle, StreamPart, StreamService,
};
use tokio::task::JoinSet;

use super::service::{self, AgentStream, OpenRequest, Services};
use crate::daemon::core::ConnectionId;

/// Maximum number of open streams of one connection: for each of an agent's jobs one, all for the model and for other
/// hosts, and as many others that are ending.
const MAX_STREAMS: usize =
    2 * (common::job::MAX_AGENT_JOBS as usize + MAX_MODEL_STREAMS + MAX_NETWORK_STREAMS);

/// Streams of a connection. Dropping this value ends them.
pub(in crate::daemon) struct AgentStreams {
    services: Services,
    connection_id: ConnectionId,
    parts: OutgoingParts,
    /// Handle of each open stream, by the stream's number, with its service.
    handles: BTreeMap<u32, (StreamHandle, StreamService)>,
    /// Tasks that serve the streams, each with the number of its stream as its result.
    tasks: JoinSet<u32>,
}

impl AgentStreams {
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
        let open = self.handles.values().filter(|(_, service)| *service == request.service).count();
        self.handles.insert(stream, (handle.clone(), request.service));
        if let Some((_, peer)) = connection_limit(request.service).filter(|(limit, _)| open >= *limit) {
            // The agent counts a stream as ended earlier than the relay, so this does not violate the protocol.
            self.tasks.spawn(async move {
                let reason = format!("the agent has too many connections to {peer}");
                // Closing fails if the connection has ended.
                let _ = handle.close(Some(reason)).await;
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

/// Returns the maximum number of streams of a service that carries connections, with the other end of these.
fn connection_limit(service: StreamService) -> Option<(usize, &'static str)> {
    match service {
        StreamService::Model => Some((MAX_MODEL_STREAMS, "the model")),
        StreamService::Network => Some((MAX_NETWORK_STREAMS, "other hosts")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::sync::mpsc;

    use super::*;
    use crate::config::Config;
    use crate::config::prices::Prices;
    use crate::daemon::job_repositories::JobRepositories;
    use crate::daemon::model_access::ModelAccess;
    use crate::daemon::writer::{WriterCommand, WriterHandle};
    use crate::engine_kind::EngineKind;
    use crate::output::store::Outputs;
    use crate::policy::JobPolicy;
    use crate::registry::Registry;

    type Parts = mpsc::Receiver<(u32, StreamPart)>;

    /// Creates a table whose writer gives no answers, with the queue of the writer and of the parts to send.
    fn table(root: &Path, has_model: bool) -> (AgentStreams, mpsc::Receiver<WriterCommand>, Parts) {
        let (commands, writer) = mpsc::channel(1024);
        let policy = JobPolicy::new(EngineKind::Local, &Config::load(root).unwrap());
        let load = |writer| {
            let (secret, registry) = (root.join("model-secret"), Registry::for_project(root));
            ModelAccess::load(&secret, registry, Prices::default(), writer).unwrap()
        };
        let model = has_model.then(|| load(WriterHandle::new(commands.clone())));
        let services = Services {
            writer: WriterHandle::new(commands),
            repositories: JobRepositories::new(
                &Registry::for_project(root),
                policy,
                root.join("repositories"),
            ),
            outputs: Outputs::in_folder(root.join("outputs")),
            model,
            network: None,
        };
        let (parts, queue) = mpsc::channel(1);
        let connection_id = ConnectionId { agent: "a".into(), number: 1 };
        (AgentStreams::new(services, connection_id, parts), writer, queue)
    }

    fn request(stream: usize) -> OpenRequest {
        let stream = u32::try_from(stream).unwrap();
        OpenRequest { stream, job: "a#1".parse().unwrap(), epoch: 1, service: StreamService::Model }
    }

    #[tokio::test]
    async fn too_many_connections_to_the_model_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut streams, _writer, mut parts) = table(dir.path(), true);
        for stream in 0..MAX_MODEL_STREAMS {
            streams.open_stream(request(stream)).unwrap();
        }
        streams.open_stream(request(MAX_MODEL_STREAMS)).unwrap();
        let refused = parts.recv().await;
        let reason = "the agent has too many connections to the model";
        let stream = u32::try_from(MAX_MODEL_STREAMS).unwrap();
        assert_eq!(refused, Some((stream, StreamPart::Close(Some(reason.to_owned())))));
        let violation = (MAX_MODEL_STREAMS + 1..2 * MAX_STREAMS)
            .find_map(|stream| streams.open_stream(request(stream)).err());
        assert!(violation.unwrap().contains("one too many"));
    }

    #[tokio::test]
    async fn without_a_gateway_a_connection_to_the_model_is_refused_with_the_setting() {
        let dir = tempfile::tempdir().unwrap();
        let (mut streams, _writer, mut parts) = table(dir.path(), false);
        streams.open_stream(request(1)).unwrap();
        let refused = parts.recv().await;
        let names_setting = |reason: &str| reason.contains("[model] gateway = true");
        assert!(
            matches!(&refused, Some((1, StreamPart::Close(Some(reason)))) if names_setting(reason)),
            "{refused:?}"
        );
    }
}
