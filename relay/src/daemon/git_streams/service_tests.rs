//! The real git at both ends of a stream.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::place::PlaceSpec;
use common::stream::StreamPart;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::*;

fn git(folder: &Path, arguments: &[&str]) -> String {
    let settings = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"];
    let output = Command::new("git").current_dir(folder).args(settings).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A caller's repository with two branches, and a job's repository on it with its folder.
fn repositories() -> (tempfile::TempDir, PathBuf, PathBuf, JobRepository) {
    let dir = tempfile::tempdir().unwrap();
    let (caller, bare) = (dir.path().join("caller"), dir.path().join("demo.1.git"));
    git(dir.path(), &["init", "-q", "caller"]);
    git(&caller, &["commit", "-q", "--allow-empty", "-m", "one"]);
    std::fs::write(caller.join("file"), "text\n").unwrap();
    git(&caller, &["add", "file"]);
    git(&caller, &["commit", "-q", "-m", "two"]);
    git(&caller, &["branch", "secret"]);
    let commit = git(&caller, &["rev-parse", "HEAD"]);
    let repository = JobRepository::of_job(dir.path(), &"demo#1".parse().unwrap());
    let place = PlaceSpec::new(&commit, &commit, "relay/demo-1", "").unwrap();
    repository.create(&place, &caller, None, None).unwrap();
    git(&bare, &["update-ref", "refs/heads/other", "refs/heads/base"]);
    (dir, caller, bare, repository)
}

/// Runs a shell line whose descriptor 3 is a stream to git on a repository. Returns the shell's success with its error
/// output, and the result of the service.
async fn client(
    folder: &Path,
    line: &str,
    service: GitService,
    repository: &JobRepository,
) -> (bool, String, Result<(), String>) {
    let (ours, theirs) = StdStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut socket = UnixStream::from_std(ours).unwrap();
    let client = tokio::process::Command::new("sh")
        .args(["-c", &format!("exec 3>&1 1>&2; {line}")])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (near_parts, mut near_queue) = mpsc::channel(1);
    let (far_parts, mut far_queue) = mpsc::channel(1);
    let (near, far) = (StreamHandle::new(1, near_parts), StreamHandle::new(1, far_parts));
    let carry = async {
        loop {
            tokio::select! {
                Some((_, part)) = near_queue.recv() => far.receive(part).unwrap(),
                Some((_, part)) = far_queue.recv() => near.receive(part).unwrap(),
            }
        }
    };
    let near_end = near.clone();
    // Closes the socket at its end: git's helper waits for that.
    let transfers = async move {
        let (reader, writer) = socket.split();
        let sending = async {
            near_end.send_from(reader).await?;
            near_end.close(None).await
        };
        let _ = tokio::join!(sending, near_end.receive_into(writer));
    };
    let serving = async {
        let served = serve_git(&far, git_service(repository, service).unwrap()).await;
        let _ = far.close(served.clone().err()).await;
        served
    };
    let ends = async { tokio::join!(client.wait_with_output(), serving, transfers) };
    let (output, served, ()) = tokio::select! {
        ends = ends => ends,
        () = carry => unreachable!(),
    };
    let output = output.unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap(), served)
}

#[tokio::test]
async fn the_base_is_fetched_and_no_other_branch() {
    let (dir, _, _, repository) = repositories();
    git(dir.path(), &["init", "-q", "place"]);
    let place = dir.path().join("place");
    let fetch = "git fetch -q --depth 1 fd::3 refs/heads/base && git checkout -q FETCH_HEAD";
    let (done, told, served) = client(&place, fetch, GitService::FetchPlace, &repository).await;
    assert!(done && served.is_ok(), "{told} {served:?}");
    assert_eq!(git(&place, &["log", "--format=%s"]), "two");
    let (done, told, _) = client(&place, "git ls-remote fd::3", GitService::FetchPlace, &repository).await;
    assert!(done && told.contains("refs/heads/base") && !told.contains("other"), "{told}");
    let other = "git fetch -q fd::3 refs/heads/other";
    let (done, told, _) = client(&place, other, GitService::FetchPlace, &repository).await;
    assert!(!done && told.contains("other"), "{told}");
}

#[tokio::test]
async fn only_the_result_is_pushed_and_only_new_objects_come() {
    let (dir, caller, bare, repository) = repositories();
    let place = dir.path().join("place");
    git(dir.path(), &["clone", "-q", "--depth", "1", &format!("file://{}", caller.display()), "place"]);
    git(&place, &["config", "user.email", "t@example.com"]);
    git(&place, &["config", "user.name", "t"]);
    let push = "git commit -q --allow-empty -m three && git push fd::3 HEAD:refs/heads/result";
    let (done, told, served) = client(&place, push, GitService::PushResult, &repository).await;
    assert!(done && served.is_ok(), "{told} {served:?}");
    assert_eq!(git(&bare, &["log", "--format=%s", "base..result"]), "three");
    let count = git(&bare, &["count-objects", "-v"]);
    assert!(count.contains("in-pack: 1\n"), "{count}");
    for name in ["refs/heads/base", "refs/heads/main", "refs/tags/x", "HEAD"] {
        let push = format!("git push --force fd::3 HEAD:{name}");
        let (done, told, _) = client(&place, &push, GitService::PushResult, &repository).await;
        assert!(!done, "{name}: {told}");
    }
    let (done, told, _) =
        client(&place, "git push fd::3 :refs/heads/result", GitService::PushResult, &repository).await;
    assert!(!done, "{told}");
    assert_eq!(git(&bare, &["log", "--format=%s", "base..result"]), "three");
    let (_, told, _) = client(&place, "git ls-remote fd::3", GitService::PushResult, &repository).await;
    assert!(!told.contains("secret"), "{told}");
}

#[tokio::test]
async fn a_broken_object_is_refused_and_hooks_do_not_run() {
    let (dir, _, bare, repository) = repositories();
    let mark = dir.path().join("mark");
    std::fs::create_dir_all(bare.join("hooks")).unwrap();
    for hook in ["pre-receive", "update", "post-receive", "post-update"] {
        let path = bare.join("hooks").join(hook);
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
    let (done, told, _) = client(&place, line, GitService::PushResult, &repository).await;
    assert!(!done && told.contains("fsck"), "{told}");
    let line = "git -c user.name=t -c user.email=t@example.com commit -q --allow-empty -m x && \
                git push fd::3 HEAD:refs/heads/result";
    let (done, told, served) = client(&place, line, GitService::PushResult, &repository).await;
    assert!(done && served.is_ok() && !mark.exists(), "{told} {served:?}");
}

#[tokio::test]
async fn a_lost_connection_ends_git_and_leaves_no_temporary_files() {
    let (_dir, _, bare, repository) = repositories();
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
        !std::fs::read_dir(bare.join("objects"))
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with("tmp_objdir") })
    );
}

#[tokio::test]
async fn a_repository_that_is_missing_is_one_line() {
    let (parts, _queue) = mpsc::channel(1);
    let handle = StreamHandle::new(1, parts);
    let dir = tempfile::tempdir().unwrap();
    let repository = JobRepository::of_job(dir.path(), &"demo#1".parse().unwrap());
    let refused = serve_git(&handle, repository.fetch_service()).await.unwrap_err();
    assert!(refused.contains("demo.1.git") && refused.lines().count() == 1, "{refused}");
}
