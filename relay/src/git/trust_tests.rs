//! Tests of protection from repositories that name programs, and from workers that push or fetch other refs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::apply;
use super::diff::{self, DiffFormat};
use super::discard::{self, DiscardOutcome};
use super::merge;
use super::publish::publish;
use super::test_repository::{TestRepository, change, git, git_fails};

#[test]
fn nothing_that_a_repository_configures_is_run() {
    let repository = TestRepository::new();
    let (marker, script) = (repository.sibling_path("marker"), repository.sibling_path("script"));
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
    let shown =
        diff::format_diff(&job.repository, &repository.root, commits, DiffFormat::default(), &[]).unwrap().1;
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
        DiscardOutcome::Removed
    );
    assert!(!marker.exists(), "{}", fs::read_to_string(&marker).unwrap_or_default());
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
