//! The real git at both ends of a stream.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

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

/// A caller's repository with two branches, and a job's repository on it.
fn repositories() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (caller, bare) = (dir.path().join("caller"), dir.path().join("demo.1.git"));
    git(dir.path(), &["init", "-q", "caller"]);
    git(&caller, &["commit", "-q", "--allow-empty", "-m", "one"]);
    std::fs::write(caller.join("file"), "text\n").unwrap();
    git(&caller, &["add", "file"]);
    git(&caller, &["commit", "-q", "-m", "two"]);
    git(&caller, &["branch", "secret"]);
    git(dir.path(), &["init", "-q", "--bare", "demo.1.git"]);
    let objects = format!("{}\n", caller.join(".git/objects").display());
    std::fs::write(bare.join("objects/info/alternates"), objects).unwrap();
    git(&bare, &["update-ref", "refs/heads/base", &git(&caller, &["rev-parse", "HEAD"])]);
    git(&bare, &["update-ref", "refs/heads/other", "refs/heads/base"]);
    (dir, caller, bare)
}

/// Runs a shell line whose descriptor 3 is a stream to git on a repository. Returns the shell's success with its error
/// output, and the result of the service.
async fn client(
    folder: &Path,
    line: &str,
    service: GitService,
    bare: &Path,
) -> (bool, String, Result<(), String>) {
    let (ours, theirs) = StdStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let socket = UnixStream::from_std(ours).unwrap();
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
    let pumps = async move {
        // Dropped at the end, so that the client sees the end of a stream that failed, too.
        let (reader, writer) = socket.into_split();
        let near = &near_end;
        let sending = async {
            near.send_from(reader).await?;
            near.close(None).await
        };
        let _ = tokio::join!(sending, near.receive_into(writer));
    };
    let serving = async {
        let served = serve_git(&far, service, bare).await;
        let _ = far.close(served.clone().err()).await;
        served
    };
    let ends = async { tokio::join!(client.wait_with_output(), serving, pumps) };
    let (output, served, ()) = tokio::select! {
        ends = ends => ends,
        () = carry => unreachable!(),
    };
    let output = output.unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap(), served)
}

#[tokio::test]
async fn the_base_is_fetched_and_no_other_branch() {
    let (dir, _, bare) = repositories();
    git(dir.path(), &["init", "-q", "place"]);
    let place = dir.path().join("place");
    let fetch = "git fetch -q --depth 1 fd::3 refs/heads/base && git checkout -q FETCH_HEAD";
    let (done, told, served) = client(&place, fetch, GitService::FetchPlace, &bare).await;
    assert!(done && served.is_ok(), "{told} {served:?}");
    assert_eq!(git(&place, &["log", "--format=%s"]), "two");
    let (done, told, _) = client(&place, "git ls-remote fd::3", GitService::FetchPlace, &bare).await;
    assert!(done && told.contains("refs/heads/base") && !told.contains("other"), "{told}");
    let other = "git fetch -q fd::3 refs/heads/other";
    let (done, told, _) = client(&place, other, GitService::FetchPlace, &bare).await;
    assert!(!done && told.contains("other"), "{told}");
}

#[tokio::test]
async fn only_the_result_is_pushed_and_only_new_objects_come() {
    let (dir, caller, bare) = repositories();
    let place = dir.path().join("place");
    git(dir.path(), &["clone", "-q", "--depth", "1", &format!("file://{}", caller.display()), "place"]);
    git(&place, &["config", "user.email", "t@example.com"]);
    git(&place, &["config", "user.name", "t"]);
    let push = "git commit -q --allow-empty -m three && git push fd::3 HEAD:refs/heads/result";
    let (done, told, served) = client(&place, push, GitService::PushResult, &bare).await;
    assert!(done && served.is_ok(), "{told} {served:?}");
    assert_eq!(git(&bare, &["log", "--format=%s", "base..result"]), "three");
    let count = git(&bare, &["count-objects", "-v"]);
    assert!(count.contains("count: 1\n") && count.contains("packs: 0\n"), "{count}");
    for name in ["refs/heads/base", "refs/heads/main", "refs/tags/x", "HEAD"] {
        let push = format!("git push --force fd::3 HEAD:{name}");
        let (done, told, _) = client(&place, &push, GitService::PushResult, &bare).await;
        assert!(!done, "{name}: {told}");
    }
    let (done, told, _) =
        client(&place, "git push fd::3 :refs/heads/result", GitService::PushResult, &bare).await;
    assert!(!done, "{told}");
    assert_eq!(git(&bare, &["log", "--format=%s", "base..result"]), "three");
    let (_, told, _) = client(&place, "git ls-remote fd::3", GitService::PushResult, &bare).await;
    assert!(!told.contains("secret"), "{told}");
}

#[tokio::test]
async fn a_broken_object_is_refused_and_hooks_do_not_run() {
    let (dir, _, bare) = repositories();
    let mark = dir.path().join("mark");
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
    let (done, told, _) = client(&place, line, GitService::PushResult, &bare).await;
    assert!(!done && told.contains("fsck"), "{told}");
    let line = "git -c user.name=t -c user.email=t@example.com commit -q --allow-empty -m x && \
                git push fd::3 HEAD:refs/heads/result";
    let (done, told, served) = client(&place, line, GitService::PushResult, &bare).await;
    assert!(done && served.is_ok() && !mark.exists(), "{told} {served:?}");
}

#[tokio::test]
async fn a_lost_connection_ends_git_and_leaves_no_temporary_files() {
    let (_dir, _, bare) = repositories();
    let (parts, mut queue) = mpsc::channel(1);
    let handle = StreamHandle::new(1, parts);
    let serving = serve_git(&handle, GitService::PushResult, &bare);
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
    let refused = serve_git(&handle, GitService::FetchPlace, Path::new("/nowhere/at/all")).await.unwrap_err();
    assert!(refused.contains("/nowhere/at/all") && refused.lines().count() == 1, "{refused}");
}
