//! Push of a job's output to the relay.

use std::io;
use std::time::Duration;

use common::stream::{StreamError, StreamService};
use common::text_format::one_line;
use rustix::fs::Dir;
use tokio::time::timeout;

use super::collector::Report;
use crate::confine::sandbox::JobSandbox;
use crate::environment::{Variables, strip_secrets};
use crate::process::{Exit, OutputPipes, OutputSource, capture};
use crate::shim::protocol::Command;
use crate::spool::RunId;
use crate::stream_request::{OpenedStream, StreamOpener};
use crate::user::UserIds;
use crate::workspace::WorkspaceDir;

/// Timeout of one attempt to send the output: enough for the largest output over a slow connection.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(600);
/// Maximum time for the relay to store what it has received.
const STREAM_END_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of attempts to send the output, if the connection is lost each time.
const MAX_ATTEMPTS: u32 = 20;

/// Output folder of one job.
#[derive(Debug, Clone)]
pub(crate) struct JobOutput {
    pub(crate) run: RunId,
    pub(crate) streams: StreamOpener,
    pub(crate) folder: WorkspaceDir,
    /// Worker's environment without the job's own values.
    pub(crate) env: Variables,
    pub(crate) user: Option<UserIds>,
    /// Sandbox of the job, for commands that work in the folder.
    pub(crate) sandbox: Option<JobSandbox>,
}

impl JobOutput {
    /// Creates the output of a job in `folder`. `sandbox` is the job's sandbox.
    pub(crate) fn new(
        run: RunId,
        streams: StreamOpener,
        folder: WorkspaceDir,
        (env, user): (Variables, Option<UserIds>),
        sandbox: Option<&JobSandbox>,
    ) -> Self {
        let sandbox = sandbox.cloned().map(|sandbox| sandbox.for_subfolder(&folder));
        Self { run, streams, folder, env, user, sandbox }
    }

    /// Returns true if the job has put nothing into the folder.
    pub(crate) fn is_empty(&self) -> bool {
        let is_entry = |entry: Result<rustix::fs::DirEntry, _>| {
            entry.is_ok_and(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."))
        };
        Dir::read_from(&self.folder).is_ok_and(|mut entries| !entries.any(is_entry))
    }

    /// Sends the output to the relay. No process of the job may still run.
    ///
    /// # Errors
    /// One line with the reason.
    pub(crate) async fn push_output(&self) -> Result<Report, String> {
        for _ in 0..MAX_ATTEMPTS {
            if let Some(result) = self.try_push_output().await {
                return result;
            }
        }
        Err("the connection to the relay was lost again and again".to_owned())
    }

    /// Sends the output to the relay; returns `None` if the connection is lost meanwhile.
    async fn try_push_output(&self) -> Option<Result<Report, String>> {
        let opened = self.streams.open(&self.run, StreamService::PushOutput).await;
        let OpenedStream { job_side: socket, result } = match opened {
            Ok(opened) => opened,
            Err(error) => return Some(Err(error.to_string())),
        };
        let collected = self.collect(socket).await;
        let end = timeout(STREAM_END_TIMEOUT, result.wait()).await;
        match (collected, end) {
            (_, Ok(Err(StreamError::Lost))) => None,
            (_, Ok(Err(StreamError::Refused(reason)))) | (Err(reason), _) => Some(Err(reason)),
            (Ok(report), Ok(Ok(()))) => Some(Ok(report)),
            (Ok(_), Ok(Err(error))) => Some(Err(error.to_string())),
            (Ok(_), Err(_)) => Some(Err("the relay did not confirm it".to_owned())),
        }
    }

    /// Runs the collector, with the stream as its stdout.
    async fn collect(&self, socket: std::os::fd::OwnedFd) -> Result<Report, String> {
        let failed = |error: io::Error| format!("the collector can't be run: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command {
            argv: vec![program.display().to_string(), "collect-output".to_owned()],
            env: strip_secrets(&self.env, &Variables::new()),
            cwd: ".".to_owned(),
            user: self.user,
            stdin: String::new(),
            interrupt_first: false,
            orphan_report: None,
            confine: None,
        };
        if let Some(sandbox) = &self.sandbox {
            sandbox.wrap(&mut command);
        }
        let pipes = OutputPipes::Stream(socket);
        let call = capture(command, pipes, OutputSource::Stderr, Some(&self.folder));
        let (exit, output) = match timeout(ATTEMPT_TIMEOUT, call).await {
            Err(_) => return Err(format!("it took longer than {} s", ATTEMPT_TIMEOUT.as_secs())),
            Ok(Ok((Some(exit), output))) => (exit, String::from_utf8_lossy(&output).into_owned()),
            Ok(Ok((None, _))) => return Err("the collector was killed".to_owned()),
            Ok(Err(event)) => return Err(format!("the collector could not be run ({event:?})")),
        };
        let last = output.lines().last().unwrap_or_default();
        if exit != Exit::Code(0) {
            return Err(format!("the collector failed: {}", one_line(last, 300)));
        }
        serde_json::from_str(last).map_err(|error| format!("the collector's report can't be read: {error}"))
    }
}
