//! A job's clone from beginning to end, on real repositories: launch, job repository, push, branch.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::result::{JobResult, ResultState};

use super::apply::{self, Change};
use super::base::StartCommit;
use super::diff::{self, DiffFormat};
use super::discard::{self, Discarded};
use super::merge;
use super::publish::publish;
use super::source::{Head, Source};
use super::test_repository::{TestJob, TestRepository, files, fingerprint, git, git_fails};

/// Parts of a repository that publishing may change.
const PUBLISHED: [&str; 2] = ["/objects", "refs/heads"];

fn refusal(folder: &Path) -> String {
    Source::find(folder).unwrap_err().to_string()
}

fn change(result: &JobResult) -> Change<'_> {
    Change { base: &result.base, commit: result.commit.as_deref().unwrap(), branch: &result.branch }
}

/// Launches a job for a folder, adds a commit in its place and publishes it. Checks that nothing else changes.
fn round_trip(workspace: &Path, state: &Path, git_dir: &Path, job: &str) -> JobResult {
    let root = Source::find(workspace).unwrap().root;
    let before = (fingerprint(&root, &[]), fingerprint(git_dir, &[]));
    let job = TestJob::start(workspace, state, job);
    assert_eq!((fingerprint(&root, &[]), fingerprint(git_dir, &[])), before, "a launch changes nothing");
    let tracked = git(&root, &["ls-files", "-co", "--exclude-standard", "--deduplicate"]);
    let mut expected = files(&root);
    expected.retain(|path, _| tracked.lines().any(|line| Path::new(line) == path));
    assert_eq!(files(&job.clone), expected, "the worker sees what the caller sees");
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
    let outside = |dir: &Path| fingerprint(dir, &PUBLISHED);
    let same = |before: &std::collections::BTreeMap<PathBuf, String>, dir: &Path| {
        let mut before = before.clone();
        before.retain(|path, _| PUBLISHED.iter().all(|part| !path.to_string_lossy().contains(part)));
        let mut after = outside(dir);
        after.retain(|path, _| PUBLISHED.iter().all(|part| !path.to_string_lossy().contains(part)));
        assert_eq!(after, before, "publishing adds objects and the branch alone");
    };
    same(&before.0, &root);
    same(&before.1, git_dir);
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
        let state = ordinary.beside("state");
        round_trip(&ordinary.root, &state, &ordinary.root.join(".git"), "demo#1");
        round_trip(&ordinary.root.join("sub"), &state, &ordinary.root.join(".git"), "demo#2");
        ordinary.git(&["checkout", "-q", "--detach"]);
        round_trip(&ordinary.root, &state, &ordinary.root.join(".git"), "demo#3");
    }
    let main = TestRepository::new();
    let tree = main.beside("tree");
    main.git(&["worktree", "add", "-q", tree.to_str().unwrap(), "-b", "other"]);
    make_dirty(&tree);
    round_trip(&tree, &main.beside("state"), &main.root.join(".git"), "tree#1");

    let (outer, inner) = (TestRepository::new(), TestRepository::new());
    outer.git(&["submodule", "--quiet", "add", inner.root.to_str().unwrap(), "mod"]);
    outer.git(&["commit", "-qm", "mod"]);
    make_dirty(&outer.root.join("mod"));
    let module = outer.root.join(".git/modules/mod");
    round_trip(&outer.root.join("mod"), &outer.beside("state"), &module, "mod#1");

    let shared = outer.beside("shared");
    git(&outer.root, &["clone", "-q", "-s", inner.root.to_str().unwrap(), shared.to_str().unwrap()]);
    make_dirty(&shared);
    round_trip(&shared, &outer.beside("state"), &shared.join(".git"), "shared#1");

    let shallow = inner.beside("shallow");
    inner.write("a.txt", "second\n");
    inner.git(&["commit", "-qam", "second"]);
    let url = format!("file://{}", inner.root.display());
    git(&outer.root, &["clone", "-q", "--depth", "1", &url, shallow.to_str().unwrap()]);
    make_dirty(&shallow);
    round_trip(&shallow, &inner.beside("state"), &shallow.join(".git"), "shallow#1");
}

#[test]
fn a_repository_without_a_commit_hands_over_its_files() {
    let empty = TestRepository::empty();
    let find = || Source::find(&empty.root).unwrap();
    assert_eq!(find().head().unwrap(), Head::Unborn);
    for clean in [true, false] {
        let refused = StartCommit::prepare(&find(), None, clean).unwrap_err().to_string();
        assert!(refused.contains("has no commit yet"), "{refused}");
    }
    empty.write("a.txt", "one\n");
    let result = round_trip(&empty.root, &empty.beside("state"), &empty.root.join(".git"), "demo#1");
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
fn odd_names_come_through() {
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
fn nothing_that_a_repository_configures_is_run() {
    let repository = TestRepository::new();
    let (marker, script) = (repository.beside("marker"), repository.beside("script"));
    fs::write(&script, format!("#!/bin/sh\necho \"$0 $*\" >>'{}'\ncat\n", marker.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    repository.write(".gitattributes", "*.txt filter=evil diff=evil merge=evil\n");
    repository.git(&["add", "."]);
    repository.git(&["commit", "-qm", "attributes"]);
    let script = script.to_str().unwrap();
    let included = repository.root.join(".git/more");
    fs::write(&included, format!("[core]\n\tfsmonitor = {script}\n\teditor = {script}\n")).unwrap();
    for hook in [
        "pre-commit",
        "post-commit",
        "post-checkout",
        "post-index-change",
        "reference-transaction",
        "pre-receive",
        "update",
        "post-receive",
        "post-update",
        "pre-push",
        "post-merge",
        "pre-auto-gc",
        "proc-receive",
    ] {
        fs::create_dir_all(repository.root.join(".git/hooks")).unwrap();
        fs::copy(script, repository.root.join(".git/hooks").join(hook)).unwrap();
    }
    for (key, value) in [
        ("filter.evil.clean", script),
        ("filter.evil.smudge", script),
        ("filter.evil.required", "true"),
        ("diff.evil.textconv", script),
        ("diff.evil.command", script),
        ("diff.external", script),
        ("merge.evil.driver", script),
        ("core.fsmonitor", script),
        ("core.pager", script),
        ("core.sshCommand", script),
        ("core.alternateRefsCommand", script),
        ("core.askPass", script),
        ("credential.helper", script),
        ("gpg.program", script),
        ("commit.gpgSign", "true"),
        ("uploadpack.packObjectsHook", script),
        ("include.path", "more"),
        ("protocol.ext.allow", "always"),
    ] {
        repository.git(&["config", "--file", ".git/config", key, value]);
    }
    repository.write("new.md", "new\n");
    repository.write("a.txt", "changed under a filter\n");
    let job = repository.start("evil#1");
    assert_eq!(job.notes, ["changed files with a filter (such as Git LFS) stay as committed: a.txt"]);
    assert_eq!(fs::read_to_string(job.clone.join("a.txt")).unwrap(), "one\n");
    job.write("new.md", "newer\n");
    job.write("sub/b.txt", "from the worker\n");
    job.commit_and_push("change");
    let result = publish(&job.repository);
    assert_eq!((result.note.as_deref(), result.commits), (None, 1));
    let commits = (&*result.base, result.commit.as_deref().unwrap());
    let shown = diff::show(&job.repository, &repository.root, commits, DiffFormat::default(), &[]).unwrap().1;
    assert!(String::from_utf8(shown).unwrap().contains("+from the worker"));
    let applied = apply::apply(&repository.root, &job.repository, change(&result)).unwrap();
    assert_eq!((applied.files.len(), applied.conflicts.len()), (2, 0));
    fs::write(repository.root.join("a.txt"), "one\n").unwrap();
    fs::write(repository.root.join("sub/b.txt"), "two\n").unwrap();
    fs::remove_file(repository.root.join("new.md")).unwrap();
    merge::merge(&repository.root, &job.repository, change(&result)).unwrap();
    assert_eq!(fs::read_to_string(repository.root.join("sub/b.txt")).unwrap(), "from the worker\n");
    assert_eq!(
        discard::discard(&repository.root, &result.branch, commits.1, false).unwrap(),
        Discarded::Removed
    );
    assert!(!marker.exists(), "{}", fs::read_to_string(&marker).unwrap_or_default());
}

#[test]
fn a_folder_without_a_usable_repository_is_refused_with_the_way_on() {
    let repository = TestRepository::new();
    let outside = tempfile::tempdir().unwrap();
    assert!(refusal(outside.path()).contains("is in no git repository: run `git init`"));
    let bare = repository.beside("bare.git");
    git(&repository.root, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    assert!(refusal(&bare).contains("is a bare repository"));
    repository.git(&["config", "core.bare", "true"]);
    assert!(refusal(&repository.root).contains("is bare (core.bare)"));
    repository.git(&["config", "core.bare", "false"]);
    let planted = repository.beside("planted");
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
fn a_pipe_in_the_way_is_named_and_a_nested_repository_is_left_out() {
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
fn only_the_base_can_be_fetched_and_only_the_result_pushed() {
    let repository = TestRepository::new();
    repository.git(&["checkout", "-qb", "secret"]);
    repository.write("secret.txt", "secret\n");
    repository.git(&["add", "."]);
    repository.git(&["commit", "-qm", "secret"]);
    let secret = repository.git(&["rev-parse", "HEAD"]);
    repository.git(&["checkout", "-q", "main"]);
    let job = repository.start("demo#1");
    let url = format!("file://{}", job.repository.path().display());
    let fetched = git(&job.clone, &["ls-remote", &url]);
    assert!(fetched.contains("refs/heads/base") && !fetched.contains(&secret), "{fetched}");
    assert!(git_fails(&job.clone, &["-c", "protocol.version=0", "fetch", "-q", "origin", &secret]));
    job.write("x", "x\n");
    git(&job.clone, &["add", "."]);
    git(&job.clone, &["commit", "-qm", "x"]);
    for target in ["refs/heads/base", "refs/heads/other", "refs/tags/t"] {
        assert!(git_fails(&job.clone, &["push", "-q", "origin", &format!("+HEAD:{target}")]), "{target}");
    }
    job.push();
    assert!(git_fails(&job.clone, &["push", "-q", "origin", ":refs/heads/result"]));
    // A tree with an entry `.git` is refused by the checks of a push.
    let blob = git(&job.clone, &["hash-object", "-w", "x"]);
    let entry = job.clone.join("entry");
    fs::write(&entry, format!("100644 blob {blob}\t.git\n")).unwrap();
    let script = format!("git mktree <{} 2>/dev/null || true", entry.display());
    let output =
        std::process::Command::new("sh").args(["-c", &script]).current_dir(&job.clone).output().unwrap();
    let tree = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let commit = git(&job.clone, &["commit-tree", &tree, "-p", "HEAD", "-m", "evil"]);
    assert!(git_fails(&job.clone, &["push", "-q", "origin", &format!("+{commit}:refs/heads/result")]));
}

#[test]
fn a_job_that_changes_nothing_has_no_result() {
    let repository = TestRepository::new();
    let job = repository.start("demo#1");
    assert_eq!(publish(&job.repository).state, ResultState::None);
    job.push();
    let result = publish(&job.repository);
    assert_eq!((result.state, result.commit), (ResultState::None, None));
    assert_eq!(repository.git(&["branch", "--list", "relay/*"]), "");
}

#[test]
fn a_branch_that_is_taken_is_never_moved() {
    let repository = TestRepository::new();
    repository.git(&["branch", "relay/demo-1"]);
    let job = repository.start("demo#1");
    job.write("x", "x\n");
    let commit = job.commit_and_push("x");
    let result = publish(&job.repository);
    assert_eq!(result.branch, "relay/demo-1-2");
    assert_eq!(result.note.as_deref(), Some("branch relay/demo-1 existed already"));
    assert_eq!(repository.git(&["rev-parse", "relay/demo-1-2"]), commit);
    assert_eq!(publish(&job.repository).branch, "relay/demo-1-2", "again, after a crash");
    assert_eq!(repository.git(&["rev-parse", "relay/demo-1"]), repository.git(&["rev-parse", "main"]));
    repository.git(&["branch", "-D", "relay/demo-1", "relay/demo-1-2"]);
    repository.git(&["branch", "relay"]);
    let result = publish(&job.repository);
    let note = result.note.unwrap();
    assert!(
        note.starts_with("branch relay/demo-1 can't be created in ") && note.ends_with("is kept by relay")
    );
    assert_eq!((result.state, result.commits), (ResultState::Open, 1));
}

#[test]
fn a_repository_that_is_gone_or_another_one_loses_no_result() {
    let repository = TestRepository::new();
    let job = repository.start("demo#1");
    job.write("x", "x\n");
    job.commit_and_push("x");
    fs::rename(repository.root.join(".git"), repository.beside("away")).unwrap();
    let note = publish(&job.repository).note.unwrap();
    assert!(
        note.contains("is in no git repository") && note.ends_with("the result is kept by relay"),
        "{note}"
    );
    fs::rename(repository.beside("away"), repository.root.join(".git")).unwrap();
    assert_eq!(publish(&job.repository).note, None);
}

#[test]
fn rewritten_history_and_a_removal_of_everything_are_results_too() {
    let repository = TestRepository::new();
    let job = repository.start("demo#1");
    git(&job.clone, &["checkout", "-q", "--orphan", "fresh"]);
    git(&job.clone, &["rm", "-rqf", "."]);
    git(&job.clone, &["commit", "-q", "--allow-empty", "-m", "nothing is left"]);
    job.push();
    let result = publish(&job.repository);
    assert_eq!((result.commits, result.files, result.insertions, result.deletions), (1, 2, 0, 2));
    let note = "the worker rewrote the history below its first commit; the worker deleted every file";
    assert_eq!(result.note.as_deref(), Some(note));
    let applied = apply::apply(&repository.root, &job.repository, change(&result)).unwrap();
    assert_eq!(applied.files.len(), 2);
    assert!(files(&repository.root).is_empty());
}

#[test]
fn apply_merges_with_the_files_that_are_there_and_marks_conflicts() {
    let repository = TestRepository::new();
    let (one, two) = (repository.start("one#1"), repository.start("two#1"));
    one.write("a.txt", "from one\n");
    one.write("one.txt", "new\n");
    one.commit_and_push("one");
    two.write("a.txt", "from two\n");
    two.commit_and_push("two");
    let (first, second) = (publish(&one.repository), publish(&two.repository));
    repository.write("mine.txt", "mine\n");
    let index = fs::read(repository.root.join(".git/index")).unwrap();
    let applied = apply::apply(&repository.root, &one.repository, change(&first)).unwrap();
    assert_eq!((applied.files.len(), applied.conflicts.len()), (2, 0));
    assert_eq!(fs::read_to_string(repository.root.join("a.txt")).unwrap(), "from one\n");
    let again = apply::apply(&repository.root, &one.repository, change(&first)).unwrap();
    assert_eq!((again.files.len(), again.conflicts.len()), (0, 0), "twice changes nothing");
    let applied = apply::apply(&repository.root, &two.repository, change(&second)).unwrap();
    assert_eq!(applied.conflicts, [Path::new("a.txt")]);
    assert_eq!(
        fs::read_to_string(repository.root.join("a.txt")).unwrap(),
        "<<<<<<< work-tree\nfrom one\n=======\nfrom two\n>>>>>>> relay/two-1\n"
    );
    assert_eq!(fs::read(repository.root.join(".git/index")).unwrap(), index);
    assert_eq!(fs::read_to_string(repository.root.join("mine.txt")).unwrap(), "mine\n");
}

#[test]
fn an_ignored_file_in_the_way_stops_apply_before_it_changes_anything() {
    let repository = TestRepository::new();
    repository.write(".gitignore", "local.txt\n");
    repository.git(&["add", "."]);
    repository.git(&["commit", "-qm", "ignore"]);
    let job = repository.start("demo#1");
    job.write("a.txt", "changed\n");
    job.write("local.txt", "from the worker\n");
    git(&job.clone, &["add", "-f", "local.txt"]);
    job.commit_and_push("x");
    let result = publish(&job.repository);
    repository.write("local.txt", "precious\n");
    let before = fingerprint(&repository.root, &[]);
    let refused = apply::apply(&repository.root, &job.repository, change(&result)).unwrap_err().to_string();
    assert_eq!(refused, "local.txt is in the way, and nothing was changed: commit, stash or move it first");
    assert_eq!(fingerprint(&repository.root, &[]), before);
    let refused = merge::merge(&repository.root, &job.repository, change(&result)).unwrap_err().to_string();
    assert_eq!(refused, "local.txt is in the way, and nothing was changed: commit, stash or move it first");
    fs::remove_file(repository.root.join("local.txt")).unwrap();
    repository.write("local.txt/deep/file", "precious\n");
    let refused = apply::apply(&repository.root, &job.repository, change(&result)).unwrap_err().to_string();
    assert!(refused.starts_with("local.txt/deep/file is in the way"), "{refused}");
}

#[test]
fn merge_moves_the_branch_or_makes_a_merge_commit_and_refuses_what_is_in_the_way() {
    let repository = TestRepository::new();
    let (one, two, three) =
        (repository.start("one#1"), repository.start("two#1"), repository.start("three#1"));
    one.write("one.txt", "one\n");
    let first = one.commit_and_push("one");
    two.write("a.txt", "from two\n");
    two.commit_and_push("two");
    three.write("a.txt", "from three\n");
    three.commit_and_push("three");
    let results = [&one, &two, &three].map(|job| publish(&job.repository));
    let run =
        |job: &TestJob, result: &JobResult| merge::merge(&repository.root, &job.repository, change(result));
    let merged = run(&one, &results[0]).unwrap();
    assert_eq!(
        (merged.commit.as_str(), merged.branch.as_deref(), merged.is_repeat),
        (&*first, Some("main"), false)
    );
    assert!(run(&one, &results[0]).unwrap().is_repeat);
    assert_eq!(repository.git(&["status", "--porcelain"]), "");
    repository.write("a.txt", "mine\n");
    // The index may get new times of files, never other content.
    let state =
        || (fingerprint(&repository.root, &["/objects", ".git/index"]), repository.git(&["ls-files", "-s"]));
    let before = state();
    let refused = run(&two, &results[1]).unwrap_err().to_string();
    assert!(refused.contains("uncommitted files are in the way of relay/two-1"), "{refused}");
    assert_eq!(state(), before);
    repository.git(&["checkout", "-q", "a.txt"]);
    let merged = run(&two, &results[1]).unwrap();
    assert_eq!(repository.git(&["rev-list", "--parents", "-1", "HEAD"]).split(' ').count(), 3);
    assert_eq!(repository.git(&["rev-parse", "main"]), merged.commit);
    assert_eq!(repository.git(&["status", "--porcelain"]), "");
    assert_eq!(fs::read_to_string(repository.root.join("a.txt")).unwrap(), "from two\n");
    let refused = run(&three, &results[2]).unwrap_err().to_string();
    assert!(
        refused.starts_with("relay/three-1 conflicts with HEAD in a.txt: nothing was changed"),
        "{refused}"
    );
    fs::write(repository.root.join(".git/MERGE_HEAD"), "x").unwrap();
    let refused = run(&three, &results[2]).unwrap_err().to_string();
    assert!(refused.starts_with("a merge is in progress in "), "{refused}");
}

#[test]
fn discard_removes_the_branch_only_where_relay_left_it() {
    let repository = TestRepository::new();
    let job = repository.start("demo#1");
    job.write("x", "x\n");
    let commit = job.commit_and_push("x");
    let branch = publish(&job.repository).branch;
    let run = |force| discard::discard(&repository.root, &branch, &commit, force).map_err(|e| e.to_string());
    repository.git(&["checkout", "-q", &branch]);
    assert!(run(false).unwrap_err().contains("is checked out in "));
    repository.git(&["commit", "-q", "--allow-empty", "-m", "mine"]);
    repository.git(&["checkout", "-q", "main"]);
    assert!(run(false).unwrap_err().contains("--force removes it all the same"));
    assert_eq!(run(true), Ok(Discarded::Removed));
    assert_eq!(run(false), Ok(Discarded::Absent));
    assert_eq!(repository.git(&["branch", "--list", "relay/*"]), "");
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
