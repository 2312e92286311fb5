//! The streams of the fake relay: the real git on a bare repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::stream::{GitService, StreamError, StreamHandle, StreamPart};
use common::wire::RelayFrame;
use tokio::sync::mpsc;

/// Streams of a fake relay, and what it does with them.
pub(crate) struct Streams {
    /// Repository of the job; without one, streams are refused.
    pub(crate) repository: Option<PathBuf>,
    /// Services that were asked for.
    pub(crate) opened: Vec<GitService>,
    /// Bytes that came from the agent.
    pub(crate) received: usize,
    /// Bytes that were sent to the agent.
    pub(crate) sent: usize,
    open: BTreeMap<u32, StreamHandle>,
    parts: mpsc::Receiver<(u32, StreamPart)>,
    sender: mpsc::Sender<(u32, StreamPart)>,
}

impl Default for Streams {
    fn default() -> Self {
        let (sender, parts) = mpsc::channel(1);
        let (repository, opened, open) = (None, Vec::new(), BTreeMap::new());
        Self { repository, opened, received: 0, sent: 0, open, parts, sender }
    }
}

impl Streams {
    pub(crate) fn open(&mut self, stream: u32, service: GitService) {
        self.opened.push(service);
        let handle = StreamHandle::new(stream, self.sender.clone());
        assert!(self.open.insert(stream, handle.clone()).is_none(), "stream {stream} was opened twice");
        let repository = self.repository.clone();
        tokio::spawn(async move {
            let error = match repository {
                Some(repository) => serve(&handle, service, &repository).await,
                None => Some("no repository".to_owned()),
            };
            let _ = handle.close(error).await;
        });
    }

    pub(crate) fn receive(&mut self, stream: u32, part: StreamPart) {
        if let StreamPart::Data(bytes) = &part {
            self.received += bytes.len();
        }
        if let Some(handle) = self.open.get(&stream) {
            handle.receive(part).expect("the agent keeps to the window");
        }
    }

    /// Waits for the next frame to send.
    pub(crate) async fn next_frame(&mut self) -> RelayFrame {
        loop {
            let (stream, part) = self.parts.recv().await.unwrap();
            if !self.open.contains_key(&stream) {
                continue;
            }
            match &part {
                StreamPart::Data(bytes) => self.sent += bytes.len(),
                StreamPart::Close(_) => drop(self.open.remove(&stream)),
                StreamPart::Window(_) => {}
            }
            return RelayFrame::Stream { stream, part };
        }
    }

    pub(crate) fn fail_all(&mut self) {
        for handle in std::mem::take(&mut self.open).into_values() {
            handle.fail(StreamError::Lost);
        }
    }
}

/// Runs git to its end; returns the reason of a failure.
async fn serve(handle: &StreamHandle, service: GitService, repository: &Path) -> Option<String> {
    let name = match service {
        GitService::FetchPlace => "upload-pack",
        GitService::PushResult => "receive-pack",
        GitService::FetchImages => return Some("there are none".to_owned()),
        GitService::PushOutput => {
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

/// Runs git as a user would; returns its output.
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

/// Makes a caller's repository with these files in one commit, and the bare repository of a job on it; returns the bare
/// repository and the commit.
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
