//! Streams of the fake relay. The real git serves them from a bare repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use common::stream::{STREAM_CHUNK, StreamError, StreamHandle, StreamPart, StreamService};
use common::wire::RelayFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Barrier, mpsc};

/// All streams of a fake relay. A repository serves those of git, and those to the model are echoed.
pub(crate) struct Streams {
    /// Bare repository of the job; `None` if streams of git are refused.
    pub(crate) repository: Option<PathBuf>,
    /// Services of all streams that the agent has opened, in order.
    pub(crate) opened_services: Vec<StreamService>,
    /// Barrier that the first line of each connection to the model waits for. By default nothing waits.
    pub(crate) model_barrier: Arc<Barrier>,
    /// Number of bytes that were received from the agent.
    pub(crate) received_bytes: usize,
    /// Number of bytes that were sent to the agent.
    pub(crate) sent_bytes: usize,
    open_handles: BTreeMap<u32, StreamHandle>,
    parts: mpsc::Receiver<(u32, StreamPart)>,
    sender: mpsc::Sender<(u32, StreamPart)>,
}

impl Default for Streams {
    fn default() -> Self {
        let (sender, parts) = mpsc::channel(1);
        Self {
            repository: None,
            opened_services: Vec::new(),
            model_barrier: Arc::new(Barrier::new(1)),
            received_bytes: 0,
            sent_bytes: 0,
            open_handles: BTreeMap::new(),
            parts,
            sender,
        }
    }
}

impl Streams {
    pub(crate) fn open(&mut self, stream: u32, service: StreamService) {
        self.opened_services.push(service);
        let handle = StreamHandle::new(stream, self.sender.clone());
        let previous = self.open_handles.insert(stream, handle.clone());
        assert!(previous.is_none(), "stream {stream} was opened twice");
        let (repository, barrier) = (self.repository.clone(), Arc::clone(&self.model_barrier));
        tokio::spawn(async move {
            let error = match repository {
                _ if service == StreamService::Model => echo(&handle, &barrier).await,
                Some(repository) => serve(&handle, service, &repository).await,
                None => Some("no repository".to_owned()),
            };
            let _ = handle.close(error).await;
        });
    }

    pub(crate) fn receive(&mut self, stream: u32, part: StreamPart) {
        if let StreamPart::Data(bytes) = &part {
            self.received_bytes += bytes.len();
        }
        if let Some(handle) = self.open_handles.get(&stream) {
            handle.receive(part).expect("the agent keeps to the protocol of streams");
        }
    }

    /// Waits for the next frame to send.
    pub(crate) async fn next_frame(&mut self) -> RelayFrame {
        loop {
            let (stream, part) = self.parts.recv().await.unwrap();
            if !self.open_handles.contains_key(&stream) {
                continue;
            }
            match &part {
                StreamPart::Data(bytes) => self.sent_bytes += bytes.len(),
                StreamPart::Close(_) => drop(self.open_handles.remove(&stream)),
                StreamPart::Window(_) => {}
            }
            return RelayFrame::Stream { stream, part };
        }
    }

    pub(crate) fn fail_all(&mut self) {
        for handle in std::mem::take(&mut self.open_handles).into_values() {
            handle.fail(StreamError::Lost);
        }
    }
}

/// Sends back what a connection to the model sends, once the barrier opens; returns the reason of a failure.
async fn echo(handle: &StreamHandle, barrier: &Barrier) -> Option<String> {
    let (near, far) = tokio::io::duplex(STREAM_CHUNK);
    let (mut reader, mut writer) = tokio::io::split(far);
    let echoing = async {
        let mut byte = [0];
        let Ok(1) = reader.read(&mut byte).await else { return };
        barrier.wait().await;
        let _ = writer.write_all(&byte).await;
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        let _ = writer.shutdown().await;
    };
    let (reader, writer) = tokio::io::split(near);
    let ((), received, sent) = tokio::join!(echoing, handle.receive_into(writer), handle.send_from(reader));
    received.and(sent).err().map(|error| error.to_string())
}

/// Runs the git program of a service until it exits; returns the reason of a failure.
async fn serve(handle: &StreamHandle, service: StreamService, repository: &Path) -> Option<String> {
    let name = match service {
        StreamService::FetchPlace => "upload-pack",
        StreamService::PushResult => "receive-pack",
        StreamService::FetchImages => return Some("the job has no images".to_owned()),
        StreamService::Model | StreamService::Network => return None,
        StreamService::PushOutput => {
            return handle.receive_into(tokio::io::sink()).await.err().map(|error| error.to_string());
        }
    };
    let mut child = tokio::process::Command::new("git")
        .arg(name)
        .arg(repository)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let receiving = async {
        match handle.receive_into(stdin).await {
            Ok(()) | Err(StreamError::Local(_)) => std::future::pending().await,
            Err(error) => error,
        }
    };
    tokio::select! {
        error = receiving => Some(error.to_string()),
        sent = handle.send_from(stdout) => match sent {
            Ok(()) => child.wait().await.ok().filter(|status| !status.success()).map(|status| status.to_string()),
            Err(error) => Some(error.to_string()),
        },
    }
}

/// Runs git in a folder, with a name and an address for commits; returns git's output.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let settings = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"];
    let output = std::process::Command::new("git")
        .current_dir(folder)
        .args(settings)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Creates a caller's repository with these files in its newest commit, and a bare repository for a job, which shares
/// the caller's objects. Returns the path of the bare repository and the id of the commit.
pub(crate) fn job_repository(dir: &Path, files: &[(&str, &[u8])]) -> (PathBuf, String) {
    let (caller, bare) = (dir.join("caller"), dir.join("job.git"));
    std::fs::create_dir(&caller).unwrap();
    git(&caller, &["init", "-q"]);
    git(&caller, &["commit", "-q", "--allow-empty", "-m", "first"]);
    for (name, content) in files {
        std::fs::create_dir_all(caller.join(name).parent().unwrap()).unwrap();
        std::fs::write(caller.join(name), content).unwrap();
    }
    git(&caller, &["add", "-A"]);
    git(&caller, &["commit", "-q", "--allow-empty", "-m", "base"]);
    let commit = git(&caller, &["rev-parse", "HEAD"]);
    git(dir, &["init", "-q", "--bare", "job.git"]);
    std::fs::write(
        bare.join("objects/info/alternates"),
        format!("{}\n", caller.join(".git/objects").display()),
    )
    .unwrap();
    git(&bare, &["update-ref", "refs/heads/base", &commit]);
    (bare, commit)
}
