//! Tests of streams, with the real git at both ends.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::place::PlaceSpec;
use common::stream::StreamPart;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::*;
use crate::job_identity::JobIdentity;

fn git(folder: &Path, arguments: &[&str]) -> String {
    let settings = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"];
    let output = Command::new("git").current_dir(folder).args(settings).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Creates a caller's repository with two branches, and a job's repository on its HEAD. Returns the folder of both, the
/// folder of each, and the job's repository.
fn repositories() -> (tempfile::TempDir, PathBuf, PathBuf, JobRepository) {
    let dir = tempfile::tempdir().unwrap();
    let (caller, job_dir) = (dir.path().join("caller"), dir.path().join("demo.1-1.git"));
    git(dir.path(), &["init", "-q", "caller"]);
    git(&caller, &["commit", "-q", "--allow-empty", "-m", "one"]);
    std::fs::write(caller.join("file"), "text\n").unwrap();
    git(&caller, &["add", "file"]);
    git(&caller, &["commit", "-q", "-m", "two"]);
    git(&caller, &["branch", "secret"]);
    let commit = git(&caller, &["rev-parse", "HEAD"]);
    let repository = JobRepository::of_job(dir.path(), &JobIdentity::for_test("demo#1", 1));
    let place = PlaceSpec::new(&commit, &commit, "relay/demo-1", "").unwrap();
    repository.create(&place, &caller, None, None).unwrap();
    git(&job_dir, &["update-ref", "refs/heads/other", "refs/heads/base"]);
    (dir, caller, job_dir, repository)
}

/// Runs a shell line whose descriptor 3 is a stream to git on a repository. Returns the shell's success with its error
/// output, and the result of the service.
async fn client(
    folder: &Path,
    line: &str,
    service: StreamService,
    repository: &JobRepository,
) -> (bool, String, Result<(), String>) {
    let (relay_socket, client_socket) = StdStream::pair().unwrap();
    relay_socket.set_nonblocking(true).unwrap();
    let mut socket = UnixStream::from_std(relay_socket).unwrap();
    let client = tokio::process::Command::new("sh")
        .args(["-c", &format!("exec 3>&1 1>&2; {line}")])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::from(OwnedFd::from(client_socket)))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (client_parts, mut client_queue) = mpsc::channel(1);
    let (relay_parts, mut relay_queue) = mpsc::channel(1);
    let (client_handle, relay_handle) =
        (StreamHandle::new(1, client_parts), StreamHandle::new(1, relay_parts));
    let exchange_parts = async {
        loop {
            tokio::select! {
                Some((_, part)) = client_queue.recv() => relay_handle.receive(part).unwrap(),
                Some((_, part)) = relay_queue.recv() => client_handle.receive(part).unwrap(),
            }
        }
    };
    let client_end = client_handle.clone();
    // The socket is closed when the stream ends: git's helper waits for that.
    let transfers = async move {
        let (reader, writer) = socket.split();
        let sending = async {
            client_end.send_from(reader).await?;
            client_end.close(None).await
        };
        let _ = tokio::join!(sending, client_end.receive_into(writer));
    };
    let serving = async {
        let served = serve_git(&relay_handle, service_command(repository, service).unwrap()).await;
        let _ = relay_handle.close(served.clone().err()).await;
        served
    };
    let all_ends = async { tokio::join!(client.wait_with_output(), serving, transfers) };
    let (output, served, ()) = tokio::select! {
        all_ends = all_ends => all_ends,
        () = exchange_parts => unreachable!(),
    };
    let output = output.unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap(), served)
}

#[tokio::test]
async fn only_the_base_can_be_fetched() {
    let (dir, _, _, repository) = repositories();
    git(dir.path(), &["init", "-q", "place"]);
    let place = dir.path().join("place");
    let fetch = "git fetch -q --depth 1 fd::3 refs/heads/base && git checkout -q FETCH_HEAD";
    let (succeeded, stderr, served) = client(&place, fetch, StreamService::FetchPlace, &repository).await;
    assert!(succeeded && served.is_ok(), "{stderr} {served:?}");
    assert_eq!(git(&place, &["log", "--format=%s"]), "two");
    let (succeeded, stderr, _) =
        client(&place, "git ls-remote fd::3", StreamService::FetchPlace, &repository).await;
    assert!(succeeded && stderr.contains("refs/heads/base") && !stderr.contains("other"), "{stderr}");
    let other = "git fetch -q fd::3 refs/heads/other";
    let (succeeded, stderr, _) = client(&place, other, StreamService::FetchPlace, &repository).await;
    assert!(!succeeded && stderr.contains("other"), "{stderr}");
}

#[tokio::test]
async fn only_the_result_is_pushed_and_only_new_objects_are_sent() {
    let (dir, caller, job_dir, repository) = repositories();
    let place = dir.path().join("place");
    git(dir.path(), &["clone", "-q", "--depth", "1", &format!("file://{}", caller.display()), "place"]);
    git(&place, &["config", "user.email", "t@example.com"]);
    git(&place, &["config", "user.name", "t"]);
    let push = "git commit -q --allow-empty -m three && git push fd::3 HEAD:refs/heads/result";
    let (succeeded, stderr, served) = client(&place, push, StreamService::PushResult, &repository).await;
    assert!(succeeded && served.is_ok(), "{stderr} {served:?}");
    assert_eq!(git(&job_dir, &["log", "--format=%s", "base..result"]), "three");
    let count = git(&job_dir, &["count-objects", "-v"]);
    assert!(count.contains("in-pack: 1\n"), "{count}");
    for name in ["refs/heads/base", "refs/heads/main", "refs/tags/x", "HEAD"] {
        let push = format!("git push --force fd::3 HEAD:{name}");
        let (succeeded, stderr, _) = client(&place, &push, StreamService::PushResult, &repository).await;
        assert!(!succeeded, "{name}: {stderr}");
    }
    let (succeeded, stderr, _) =
        client(&place, "git push fd::3 :refs/heads/result", StreamService::PushResult, &repository).await;
    assert!(!succeeded, "{stderr}");
    assert_eq!(git(&job_dir, &["log", "--format=%s", "base..result"]), "three");
    let (_, stderr, _) = client(&place, "git ls-remote fd::3", StreamService::PushResult, &repository).await;
    assert!(!stderr.contains("secret"), "{stderr}");
}

#[tokio::test]
async fn a_broken_object_is_refused_and_hooks_do_not_run() {
    let (dir, _, job_dir, repository) = repositories();
    let mark = dir.path().join("mark");
    std::fs::create_dir_all(job_dir.join("hooks")).unwrap();
    for hook in ["pre-receive", "update", "post-receive", "post-update"] {
        let path = job_dir.join("hooks").join(hook);
        std::fs::write(&path, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    git(dir.path(), &["init", "-q", "place"]);
    let place = dir.path().join("place");
    let line = "tree=$(printf '100644 .git\\0aaaaaaaaaaaaaaaaaaaa' | git hash-object -w -t tree --literally --stdin); \
                blob=$(git hash-object -w --stdin </dev/null); \
                tree=$(printf '100644 blob %s\\t.git' $blob | git mktree 2>/dev/null || echo $tree); \
                commit=$(printf 'tree %s\\nauthor a <a> 1 +0000\\ncommitter a <a> 1 +0000\\n\\nx' $tree | \
                git hash-object -w -t commit --literally --stdin); git push fd::3 $commit:refs/heads/result";
    let (succeeded, stderr, _) = client(&place, line, StreamService::PushResult, &repository).await;
    assert!(!succeeded && stderr.contains("fsck"), "{stderr}");
    let line = "git -c user.name=t -c user.email=t@example.com commit -q --allow-empty -m x && \
                git push fd::3 HEAD:refs/heads/result";
    let (succeeded, stderr, served) = client(&place, line, StreamService::PushResult, &repository).await;
    assert!(succeeded && served.is_ok() && !mark.exists(), "{stderr} {served:?}");
}

#[tokio::test]
async fn a_lost_connection_ends_git_and_leaves_no_temporary_files() {
    let (_dir, _, job_dir, repository) = repositories();
    let (parts, mut queue) = mpsc::channel(1);
    let handle = StreamHandle::new(1, parts);
    let serving = serve_git(&handle, repository.push_service());
    let losing = async {
        let advertised = queue.recv().await;
        assert!(matches!(advertised, Some((1, StreamPart::Data(_)))), "{advertised:?}");
        handle.fail(StreamError::Lost);
    };
    let (served, ()) = tokio::join!(serving, losing);
    assert_eq!(served, Err(StreamError::Lost.to_string()));
    assert!(
        !std::fs::read_dir(job_dir.join("objects"))
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with("tmp_objdir") })
    );
}

#[tokio::test]
async fn a_missing_repository_gives_an_error_of_one_line() {
    let (parts, _queue) = mpsc::channel(1);
    let handle = StreamHandle::new(1, parts);
    let dir = tempfile::tempdir().unwrap();
    let repository = JobRepository::of_job(dir.path(), &JobIdentity::for_test("demo#1", 1));
    let refused = serve_git(&handle, repository.fetch_service()).await.unwrap_err();
    assert!(refused.contains("demo.1-1.git") && refused.lines().count() == 1, "{refused}");
}
