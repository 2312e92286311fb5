//! Tests of results of jobs, which are published, applied, merged and discarded.

use std::fs;
use std::path::Path;

use common::result::{JobResult, ResultState};

use super::apply;
use super::discard::{self, DiscardOutcome};
use super::merge;
use super::publish::publish;
use super::test_repository::{TestJob, TestRepository, change, files, fingerprint, git};

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
fn the_loss_of_the_repository_loses_no_result() {
    let repository = TestRepository::new();
    let job = repository.start("demo#1");
    job.write("x", "x\n");
    job.commit_and_push("x");
    fs::rename(repository.root.join(".git"), repository.sibling_path("away")).unwrap();
    let note = publish(&job.repository).note.unwrap();
    assert!(
        note.contains("is in no git repository") && note.ends_with("the result is kept by relay"),
        "{note}"
    );
    fs::rename(repository.sibling_path("away"), repository.root.join(".git")).unwrap();
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
fn apply_merges_into_the_work_tree_and_marks_conflicts() {
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
fn apply_and_merge_never_overwrite_an_ignored_file() {
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
fn merge_moves_the_branch_or_makes_a_commit_or_changes_nothing() {
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
    // Git may write new times of files into the index, but no other content.
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
fn discard_removes_a_moved_branch_only_with_force() {
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
    assert_eq!(run(true), Ok(DiscardOutcome::Removed));
    assert_eq!(run(false), Ok(DiscardOutcome::Absent));
    assert_eq!(repository.git(&["branch", "--list", "relay/*"]), "");
}
