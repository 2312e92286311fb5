//! Serves one stream: checks that it is allowed, runs the transfer, and ends a transfer that takes too long.

use std::future::pending;
use std::process::Command;
use std::time::Duration;

use common::ids::JobId;
use common::record::JobRecord;
use common::stream::{StreamError, StreamHandle, StreamService};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::child::GitChild;
use super::idle::wait_until_idle;
use super::{images, model, network, output};
use crate::daemon::core::ConnectionId;
use crate::daemon::job_repositories::JobRepositories;
use crate::daemon::model_access::ModelAccess;
use crate::daemon::network_access::NetworkAccess;
use crate::daemon::writer::{WriterCommand, WriterHandle};
use crate::git::job_repository::JobRepository;
use crate::output::store::Outputs;

/// Time limit of one stream, which suffices for the largest result over a slow link.
const TOTAL_LIMIT: Duration = Duration::from_secs(3600);
/// Maximum time without a byte in either direction. While git works, it sends a keepalive every 5 s.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// Time between two checks whether the run of a connection to the model has ended.
const RUN_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// Time limit for the writer's answer whether a stream belongs to the running run.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Request of an agent to open a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) struct OpenRequest {
    /// Number of the stream, chosen by the agent.
    pub(in crate::daemon) stream: u32,
    pub(in crate::daemon) job: JobId,
    pub(in crate::daemon) epoch: u32,
    pub(in crate::daemon) service: StreamService,
}

/// Parts of the daemon that streams need.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Services {
    /// Writer, which confirms that a stream belongs to the running run of its job.
    pub(in crate::daemon) writer: WriterHandle,
    pub(in crate::daemon) repositories: JobRepositories,
    pub(in crate::daemon) outputs: Outputs,
    /// Access to the model, if workers reach it through this relay.
    pub(in crate::daemon) model: Option<ModelAccess>,
    /// Access to other hosts, if jobs reach them through this relay.
    pub(in crate::daemon) network: Option<NetworkAccess>,
}

/// A stream that an agent has opened.
pub(super) struct AgentStream {
    pub(super) connection_id: ConnectionId,
    pub(super) request: OpenRequest,
    pub(super) handle: StreamHandle,
}

/// Serves a stream to its end.
pub(super) async fn serve(services: &Services, stream: AgentStream) {
    let result = match stream.request.service {
        StreamService::Model => serve_model(services, &stream).await,
        StreamService::Network => serve_network(services, &stream).await,
        _ => {
            let result = timeout(TOTAL_LIMIT, transfer(services, &stream)).await;
            result.unwrap_or_else(|_| Err(format!("it took longer than {} s", TOTAL_LIMIT.as_secs())))
        }
    };
    if let Err(reason) = &result {
        let OpenRequest { job, service, .. } = &stream.request;
        tracing::warn!("{job}: {service:?}: {reason}");
    }
    // Closing fails if the connection has ended.
    let _ = stream.handle.close(result.err()).await;
}

/// Serves a connection to the model. It has no time limit, because the model may think for long, and a worker keeps a
/// connection for its next request. It ends with the run.
async fn serve_model(services: &Services, stream: &AgentStream) -> Result<(), String> {
    let off = "workers reach no model through this relay: set [model] gateway = true in platform/relay.toml";
    let access = services.model.as_ref().ok_or(off)?;
    let record = check_run(services, stream).await?;
    let route = access.route(&record)?;
    tokio::select! {
        () = model::serve_connection(&stream.handle, route) => Ok(()),
        reason = wait_until_run_ends(services, stream) => Err(reason),
    }
}

/// Serves a connection to other hosts. It has no time limit for the whole, because a download may take long. It ends with
/// the run.
async fn serve_network(services: &Services, stream: &AgentStream) -> Result<(), String> {
    let off = "jobs reach no other host through this relay: it was started with other settings";
    let access = services.network.as_ref().ok_or(off)?;
    let record = check_run(services, stream).await?;
    let job = access.job(&record)?;
    tokio::select! {
        () = network::serve_connection(&stream.handle, job) => Ok(()),
        reason = wait_until_run_ends(services, stream) => Err(reason),
    }
}

/// Returns the writer's reason once the stream's run has ended. An agent closes the connections of a run that ends; this
/// check does not rely on that.
async fn wait_until_run_ends(services: &Services, stream: &AgentStream) -> String {
    loop {
        tokio::time::sleep(RUN_CHECK_INTERVAL).await;
        if let Some(Err(reason)) = query_run(services, stream).await {
            return reason;
        }
    }
}

async fn transfer(services: &Services, stream: &AgentStream) -> Result<(), String> {
    check_run(services, stream).await?;
    if stream.request.service == StreamService::PushOutput {
        let (repositories, job) = (services.repositories.clone(), stream.request.job.clone());
        let receiving = output::receive_output(&stream.handle, (repositories, services.outputs.clone()), job);
        return transfer_until_idle(&stream.handle, receiving).await;
    }
    if stream.request.service == StreamService::FetchImages {
        let (registry, job) = (services.repositories.registry().clone(), stream.request.job.clone());
        return transfer_until_idle(&stream.handle, images::send_images(&stream.handle, registry, job)).await;
    }
    let (repositories, request) = (services.repositories.clone(), stream.request.clone());
    let repository = tokio::task::spawn_blocking(move || {
        let repository = repositories.prepare(&request.job)?;
        if request.service == StreamService::PushResult {
            repository.remove_broken_refs().map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(repository)
    });
    let repository = repository.await.map_err(|_| "the relay is stopping".to_owned())??;
    let command = service_command(&repository, stream.request.service).ok_or("it is no service of git")?;
    // The idle limit begins only now: making the repository may take longer, because it indexes the uncommitted files.
    transfer_until_idle(&stream.handle, serve_git(&stream.handle, command)).await
}

/// Waits for the end of a transfer, at most until nothing is transferred for [`IDLE_LIMIT`].
async fn transfer_until_idle(
    handle: &StreamHandle,
    transfer: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    tokio::select! {
        ended = transfer => ended,
        () = wait_until_idle(handle, IDLE_LIMIT) => Err(format!("no byte was transferred for {} s", IDLE_LIMIT.as_secs())),
    }
}

/// Returns the git command that serves a kind of stream; `None` for a stream without git.
fn service_command(repository: &JobRepository, service: StreamService) -> Option<Command> {
    match service {
        StreamService::FetchPlace => Some(repository.fetch_service()),
        StreamService::PushResult => Some(repository.push_service()),
        StreamService::PushOutput
        | StreamService::FetchImages
        | StreamService::Model
        | StreamService::Network => None,
    }
}

/// Connects a stream with a new process of git, until the process has ended.
async fn serve_git(handle: &StreamHandle, command: Command) -> Result<(), String> {
    let mut child = GitChild::start(command)?;
    let (stdin, stdout, stderr) = child.take_pipes().ok_or("git has no pipes")?;
    let receiving = async {
        match handle.receive_into(stdin).await {
            // Git has read all it needs, or its exit status shows a failure.
            Ok(()) | Err(StreamError::Local(_)) => pending().await,
            Err(error) => error,
        }
    };
    let sending = async {
        let (sent, errors) = tokio::join!(handle.send_from(stdout), stderr.read_to_end());
        sent.map_err(|error| error.to_string())?;
        child.wait(&errors).await
    };
    tokio::select! {
        error = receiving => Err(error.to_string()),
        ended = sending => ended,
    }
}

/// Checks with the writer whether the stream is allowed. Like an event, it must belong to the job's running run, and come
/// from the newest connection of the job's agent. Returns the job's record.
async fn check_run(services: &Services, stream: &AgentStream) -> Result<Box<JobRecord>, String> {
    let checked = query_run(services, stream).await;
    checked.unwrap_or_else(|| Err("the registry gave no answer".to_owned()))
}

/// Returns the record of the stream's job, or the writer's reason why the stream is not allowed; `None` if it gives no answer in time.
async fn query_run(services: &Services, stream: &AgentStream) -> Option<Result<Box<JobRecord>, String>> {
    let (reply, answer) = oneshot::channel();
    let OpenRequest { job, epoch, .. } = stream.request.clone();
    let connection_id = stream.connection_id.clone();
    let query = async {
        services.writer.send(WriterCommand::CheckRun { connection_id, job, epoch, reply }).await;
        answer.await.ok()
    };
    timeout(CHECK_TIMEOUT, query).await.ok().flatten()
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
