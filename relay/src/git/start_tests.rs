//! Tests of jobs on real repositories, from the launch to the branch with the result.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::result::{JobResult, ResultState};

use super::apply;
use super::base::StartCommit;
use super::publish::publish;
use super::source::{Head, Source};
use super::test_repository::{TestJob, TestRepository, change, files, fingerprint, git, git_fails};

/// Parts of a repository that publishing may change.
const PUBLISHED_PARTS: [&str; 2] = ["/objects", "refs/heads"];

fn refusal(folder: &Path) -> String {
    Source::find(folder).unwrap_err().to_string()
}

/// Launches a job for a folder, adds a commit in the job's clone and publishes it. Checks that nothing else changes.
fn check_round_trip(workspace: &Path, state: &Path, git_dir: &Path, job: &str) -> JobResult {
    let root = Source::find(workspace).unwrap().root;
    let before = (fingerprint(&root, &[]), fingerprint(git_dir, &[]));
    let job = TestJob::start(workspace, state, job);
    assert_eq!((fingerprint(&root, &[]), fingerprint(git_dir, &[])), before, "a launch changes nothing");
    let tracked = git(&root, &["ls-files", "-co", "--exclude-standard", "--deduplicate"]);
    let mut expected = files(&root);
    expected.retain(|path, _| tracked.lines().any(|line| Path::new(line) == path));
    assert_eq!(files(&job.clone), expected, "the worker sees what the user sees");
    let subfolder = job.clone.join(job.place.subfolder());
    assert!(subfolder.is_dir());
    fs::write(subfolder.join("made.txt"), "made\n").unwrap();
    let commit = job.commit_and_push("made");
    let result = publish(&job.repository);
    assert_eq!(result.note, None);
    assert_eq!((result.state, result.commit.as_deref()), (ResultState::Open, Some(&*commit)));
    assert_eq!((result.commits, result.files, result.insertions, result.deletions), (1, 1, 1, 0));
    assert_eq!(git(&root, &["rev-parse", &result.branch]), commit);
    assert!(git(&root, &["fsck", "--connectivity-only"]).is_empty());
    let current_files = |dir: &Path| fingerprint(dir, &PUBLISHED_PARTS);
    let assert_unchanged = |before: &std::collections::BTreeMap<PathBuf, String>, dir: &Path| {
        let mut before = before.clone();
        before.retain(|path, _| PUBLISHED_PARTS.iter().all(|part| !path.to_string_lossy().contains(part)));
        let mut after = current_files(dir);
        after.retain(|path, _| PUBLISHED_PARTS.iter().all(|part| !path.to_string_lossy().contains(part)));
        assert_eq!(after, before, "publishing adds objects and the branch alone");
    };
    assert_unchanged(&before.0, &root);
    assert_unchanged(&before.1, git_dir);
    result
}

#[test]
fn every_kind_of_repository_is_cloned_and_gets_its_branch() {
    let make_dirty = |root: &Path| {
        fs::write(root.join("a.txt"), "changed\n").unwrap();
        fs::write(root.join("new.txt"), "new\n").unwrap();
        fs::write(root.join(".gitignore"), "ignored.txt\n").unwrap();
        fs::write(root.join("ignored.txt"), "ignored\n").unwrap();
    };
    for format in ["sha1", "sha256"] {
        let ordinary = TestRepository::with_format(format);
        make_dirty(&ordinary.root);
        fs::remove_file(ordinary.root.join("sub/b.txt")).unwrap();
        ordinary.write("sub/c.txt", "staged\n");
        ordinary.git(&["add", "sub/c.txt"]);
        let state = ordinary.sibling_path("state");
        check_round_trip(&ordinary.root, &state, &ordinary.root.join(".git"), "demo#1");
        check_round_trip(&ordinary.root.join("sub"), &state, &ordinary.root.join(".git"), "demo#2");
        ordinary.git(&["checkout", "-q", "--detach"]);
        check_round_trip(&ordinary.root, &state, &ordinary.root.join(".git"), "demo#3");
    }
    let main = TestRepository::new();
    let tree = main.sibling_path("tree");
    main.git(&["worktree", "add", "-q", tree.to_str().unwrap(), "-b", "other"]);
    make_dirty(&tree);
    check_round_trip(&tree, &main.sibling_path("state"), &main.root.join(".git"), "tree#1");

    let (outer, inner) = (TestRepository::new(), TestRepository::new());
    outer.git(&["submodule", "--quiet", "add", inner.root.to_str().unwrap(), "mod"]);
    outer.git(&["commit", "-qm", "mod"]);
    make_dirty(&outer.root.join("mod"));
    let module = outer.root.join(".git/modules/mod");
    check_round_trip(&outer.root.join("mod"), &outer.sibling_path("state"), &module, "mod#1");

    let shared = outer.sibling_path("shared");
    git(&outer.root, &["clone", "-q", "-s", inner.root.to_str().unwrap(), shared.to_str().unwrap()]);
    make_dirty(&shared);
    check_round_trip(&shared, &outer.sibling_path("state"), &shared.join(".git"), "shared#1");

    let shallow = inner.sibling_path("shallow");
    inner.write("a.txt", "second\n");
    inner.git(&["commit", "-qam", "second"]);
    let url = format!("file://{}", inner.root.display());
    git(&outer.root, &["clone", "-q", "--depth", "1", &url, shallow.to_str().unwrap()]);
    make_dirty(&shallow);
    check_round_trip(&shallow, &inner.sibling_path("state"), &shallow.join(".git"), "shallow#1");
}

#[test]
fn a_repository_without_a_commit_hands_over_its_files() {
    let empty = TestRepository::without_commits();
    let find = || Source::find(&empty.root).unwrap();
    assert_eq!(find().head().unwrap(), Head::Unborn);
    for skips_uncommitted in [true, false] {
        let refused = StartCommit::prepare(&find(), None, skips_uncommitted).unwrap_err().to_string();
        assert!(refused.contains("has no commit yet"), "{refused}");
    }
    empty.write("a.txt", "one\n");
    let result =
        check_round_trip(&empty.root, &empty.sibling_path("state"), &empty.root.join(".git"), "demo#1");
    assert_eq!(result.branch, "relay/demo-1");
}

#[test]
fn without_uncommitted_files_the_base_is_the_commit_itself() {
    let repository = TestRepository::new();
    let head = repository.git(&["rev-parse", "HEAD"]);
    let source = Source::find(&repository.root).unwrap();
    let start = StartCommit::prepare(&source, None, false).unwrap();
    assert_eq!((&start.base, &start.parent, start.pack.is_none()), (&head, &head, true));
    repository.write("a.txt", "changed\n");
    let start = StartCommit::prepare(&source, None, true).unwrap();
    assert_eq!((&start.base, start.pack.is_none()), (&head, true));
    let start = StartCommit::prepare(&source, Some("main"), false).unwrap();
    assert_eq!((&start.base, start.pack.is_none()), (&head, true));
    let start = StartCommit::prepare(&source, None, false).unwrap();
    assert!(start.base != head && start.parent == head && start.pack.is_some());
    let refused = StartCommit::prepare(&source, Some("nope"), false).unwrap_err().to_string();
    assert!(refused.starts_with("--base nope is no commit of "), "{refused}");
    for flag in ["--help", "-q"] {
        assert!(StartCommit::prepare(&source, Some(flag), false).is_err());
    }
}

#[test]
fn files_with_unusual_names_reach_the_clone_and_the_result() {
    let repository = TestRepository::new();
    let odd = Path::new(OsStr::from_bytes(b"caf\xe9\n'\"$(x)")).to_owned();
    repository.write(&odd, "odd\n");
    repository.write("-flag", "flag\n");
    repository.write("100644 4b825dc642cb6eb9a060e54bf8d69288fbee4904 0\tx", "tab\n");
    symlink("nowhere", repository.root.join("link")).unwrap();
    fs::set_permissions(repository.root.join("-flag"), fs::Permissions::from_mode(0o755)).unwrap();
    let job = repository.start("odd#1");
    assert_eq!(files(&job.clone), files(&repository.root));
    assert_eq!(fs::read_link(job.clone.join("link")).unwrap(), Path::new("nowhere"));
    assert_eq!(fs::metadata(job.clone.join("-flag")).unwrap().permissions().mode() & 0o111, 0o111);
    fs::rename(job.clone.join(&odd), job.clone.join("plain")).unwrap();
    job.commit_and_push("renamed");
    let result = publish(&job.repository);
    assert_eq!((result.files, result.note.as_deref()), (2, None));
    let applied = apply::apply(&repository.root, &job.repository, change(&result)).unwrap();
    assert_eq!((applied.files.len(), applied.conflicts.len()), (2, 0));
    assert!(repository.root.join("plain").exists() && !repository.root.join(&odd).exists());
}

#[test]
fn a_folder_without_a_usable_repository_is_refused_with_advice() {
    let repository = TestRepository::new();
    let outside = tempfile::tempdir().unwrap();
    assert!(refusal(outside.path()).contains("is in no git repository: run `git init`"));
    let bare = repository.sibling_path("bare.git");
    git(&repository.root, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    assert!(refusal(&bare).contains("is a bare repository"));
    repository.git(&["config", "core.bare", "true"]);
    assert!(refusal(&repository.root).contains("is bare (core.bare)"));
    repository.git(&["config", "core.bare", "false"]);
    let planted = repository.sibling_path("planted");
    fs::create_dir(&planted).unwrap();
    fs::write(planted.join(".git"), format!("gitdir: {}/.git\n", repository.root.display())).unwrap();
    assert!(refusal(&planted).contains("which does not point back"));
    fs::write(planted.join(".git"), "nonsense\n").unwrap();
    assert!(refusal(&planted).contains("names no repository"));
    fs::remove_file(planted.join(".git")).unwrap();
    symlink(repository.root.join(".git"), planted.join(".git")).unwrap();
    assert!(refusal(&planted).contains("is neither a folder nor a file"));
    fs::remove_file(planted.join(".git")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        planted.join(".git"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(refusal(&planted).contains("is neither a folder nor a file"));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(repository.root.join(".git"), Some(4321), None).unwrap();
        assert!(refusal(&repository.root).contains("belongs to another user (id 4321)"));
    }
}

#[test]
fn a_pipe_is_refused_and_a_nested_repository_is_left_out() {
    let repository = TestRepository::new();
    repository.write("nested/file", "x\n");
    git(&repository.root.join("nested"), &["init", "-q"]);
    let job = repository.start("nested#1");
    assert_eq!(job.notes, ["repositories inside of the work tree are left out: nested/"]);
    fs::remove_file(repository.root.join("a.txt")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        repository.root.join("a.txt"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let source = Source::find(&repository.root).unwrap();
    let refused = StartCommit::prepare(&source, None, false).unwrap_err().to_string();
    assert!(refused.starts_with("a.txt is a pipe, socket or device"), "{refused}");
}

#[test]
fn ten_launches_at_once_all_get_the_same_files() {
    let repository = TestRepository::new();
    repository.write("new.txt", "new\n");
    let before = fingerprint(&repository.root, &[]);
    let trees: Vec<String> = std::thread::scope(|scope| {
        let jobs: Vec<_> = (1..=10)
            .map(|n| {
                let repository = &repository;
                scope.spawn(move || {
                    let job = repository.start(&format!("many#{n}"));
                    git(&job.clone, &["rev-parse", "HEAD^{tree}"])
                })
            })
            .collect();
        jobs.into_iter().map(|job| job.join().unwrap()).collect()
    });
    assert!(trees.iter().all(|tree| *tree == trees[0]));
    assert_eq!(fingerprint(&repository.root, &[]), before);
}

#[test]
fn a_new_branch_needs_a_free_and_valid_name() {
    let repository = TestRepository::new();
    let source = Source::find(&repository.root).unwrap();
    assert!(source.check_new_branch("relay/fine").is_ok());
    assert!(
        source.check_new_branch("main").unwrap_err().to_string().starts_with("branch main exists already")
    );
    for bad in [
        "", "-x", "a..b", "a b", "a~1", "a/", "/a", "a//b", ".a", "a.lock", "HEAD", "@", "a@{1}", "a\n", "a.",
    ] {
        let refused = source.check_new_branch(bad).unwrap_err().to_string();
        assert!(refused.contains("can't be the name of a branch"), "{bad}: {refused}");
        assert!(git_fails(&repository.root, &["check-ref-format", "--branch", bad]) || bad == "@", "{bad}");
    }
}
