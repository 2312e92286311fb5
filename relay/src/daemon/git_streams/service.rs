//! One stream: its check, its process of git, and its limits.

use std::future::pending;
use std::process::Command;
use std::time::Duration;

use common::ids::JobId;
use common::stream::{GitService, StreamError, StreamHandle};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::child::GitChild;
use super::{images, output};
use crate::daemon::core::ConnectionId;
use crate::daemon::job_repositories::JobRepositories;
use crate::daemon::writer::{WriterCommand, WriterHandle};
use crate::git::job_repository::JobRepository;
use crate::output::store::Outputs;

/// Limit of one stream: the largest result over a slow link.
const TOTAL_LIMIT: Duration = Duration::from_secs(3600);
/// Limit without a byte in either direction. While git works, it sends a keepalive every 5 s.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// Time for the writer's answer about a run.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Request of an agent to open a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) struct OpenRequest {
    pub(in crate::daemon) stream: u32,
    pub(in crate::daemon) job: JobId,
    pub(in crate::daemon) epoch: u32,
    pub(in crate::daemon) service: GitService,
}

/// Parts of the daemon that streams need.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Services {
    /// Confirms that a run is the running one.
    pub(in crate::daemon) writer: WriterHandle,
    pub(in crate::daemon) repositories: JobRepositories,
    pub(in crate::daemon) outputs: Outputs,
}

/// A stream to serve.
pub(super) struct Service {
    pub(super) connection_id: ConnectionId,
    pub(super) request: OpenRequest,
    pub(super) handle: StreamHandle,
}

/// Serves a stream to its end.
pub(super) async fn serve(services: &Services, service: Service) {
    let served = timeout(TOTAL_LIMIT, run(services, &service)).await;
    let served = served.unwrap_or_else(|_| Err(format!("it took longer than {} s", TOTAL_LIMIT.as_secs())));
    if let Err(reason) = &served {
        let OpenRequest { job, service, .. } = &service.request;
        tracing::warn!("{job}: {service:?}: {reason}");
    }
    // The connection may have ended.
    let _ = service.handle.close(served.err()).await;
}

/// Returns once the stream has transferred no byte for [`IDLE_LIMIT`].
async fn idle(handle: &StreamHandle) {
    let mut transferred = None;
    while transferred != Some(handle.transferred()) {
        transferred = Some(handle.transferred());
        tokio::time::sleep(IDLE_LIMIT).await;
    }
}

async fn run(services: &Services, service: &Service) -> Result<(), String> {
    check_run(services, service).await?;
    if service.request.service == GitService::PushOutput {
        let (outputs, job) = (services.outputs.clone(), service.request.job.clone());
        return until_idle(&service.handle, output::receive(&service.handle, outputs, job)).await;
    }
    if service.request.service == GitService::FetchImages {
        let (registry, job) = (services.repositories.registry().clone(), service.request.job.clone());
        return until_idle(&service.handle, images::send(&service.handle, registry, job)).await;
    }
    let (repositories, job) = (services.repositories.clone(), service.request.job.clone());
    let repository = tokio::task::spawn_blocking(move || repositories.prepare(&job));
    let repository = repository.await.map_err(|_| "the relay is stopping".to_owned())??;
    let command = git_service(&repository, service.request.service).ok_or("it is no service of git")?;
    // Making the repository may take longer than the limit without a byte: it indexes the uncommitted files.
    until_idle(&service.handle, serve_git(&service.handle, command)).await
}

/// Waits for the end of a transfer, at most until nothing is transferred for [`IDLE_LIMIT`].
async fn until_idle(
    handle: &StreamHandle,
    transfer: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    tokio::select! {
        ended = transfer => ended,
        () = idle(handle) => Err(format!("no byte was transferred for {} s", IDLE_LIMIT.as_secs())),
    }
}

/// Returns the command of a service of git.
fn git_service(repository: &JobRepository, service: GitService) -> Option<Command> {
    match service {
        GitService::FetchPlace => Some(repository.fetch_service()),
        GitService::PushResult => Some(repository.push_service()),
        GitService::PushOutput | GitService::FetchImages => None,
    }
}

/// Runs a service of git until it has ended.
async fn serve_git(handle: &StreamHandle, service: Command) -> Result<(), String> {
    let mut child = GitChild::start(service)?;
    let (stdin, stdout, stderr) = child.take_pipes().ok_or("git has no pipes")?;
    let receiving = async {
        match handle.receive_into(stdin).await {
            // Git has read what it needs, or its exit says what went wrong.
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

/// Asks the writer whether the stream is allowed, with the same rules as for events: it must belong to the job's
/// running run, and come from the newest connection of the job's agent.
async fn check_run(services: &Services, service: &Service) -> Result<(), String> {
    let (reply, answer) = oneshot::channel();
    let OpenRequest { job, epoch, .. } = service.request.clone();
    let connection_id = service.connection_id.clone();
    let asked = async {
        services.writer.send(WriterCommand::CheckRun { connection_id, job, epoch, reply }).await;
        answer.await
    };
    match timeout(CHECK_TIMEOUT, asked).await {
        Ok(Ok(checked)) => checked,
        Ok(Err(_)) | Err(_) => Err("the registry gave no answer".to_owned()),
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
