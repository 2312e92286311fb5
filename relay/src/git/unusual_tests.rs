//! Tests of jobs that start from unusual repositories: they work, or are refused with a message of one line.

use std::fs;
use std::path::Path;

use common::result::ResultState;

use super::base::StartCommit;
use super::publish::publish;
use super::source::Source;
use super::test_repository::{TestRepository, files, git};
use crate::exit::Failure;

fn refusal(folder: &Path, reference: Option<&str>, skips_uncommitted: bool) -> String {
    let start =
        Source::find(folder).and_then(|source| StartCommit::prepare(&source, reference, skips_uncommitted));
    let refused = Failure::from(start.unwrap_err());
    assert_eq!((refused.code as u8, refused.message.lines().count()), (2, 1), "{refused}");
    refused.message
}

/// Clones a repository into a folder beside it, through git's protocol.
fn clone_repository(server: &TestRepository, name: &str, flags: &[&str]) -> std::path::PathBuf {
    let (url, folder) = (format!("file://{}", server.root.display()), server.sibling_path(name));
    git(&server.root, &[&["clone", "-q"][..], flags, &[&url, folder.to_str().unwrap()]].concat());
    folder
}

#[test]
fn a_partial_clone_works_or_is_refused_with_the_fetch_that_it_needs() {
    let server = TestRepository::new();
    server.git(&["config", "uploadpack.allowFilter", "true"]);
    server.write("a.txt", "second\n");
    server.git(&["commit", "-qam", "second"]);
    let folder = clone_repository(&server, "partial", &["--filter=blob:none"]);
    fs::write(folder.join("new.txt"), "new\n").unwrap();
    let source = Source::find(&folder).unwrap();
    assert!(StartCommit::prepare(&source, None, false).unwrap().pack.is_some());
    let refused = refusal(&folder, Some("HEAD~1"), false);
    assert!(
        refused.contains("is a partial clone without all files of ") && refused.contains("--refetch"),
        "{refused}"
    );
    let empty = clone_repository(&server, "empty", &["--filter=blob:none", "--no-checkout"]);
    assert!(refusal(&empty, None, true).contains("is a partial clone without all files of "));
}

#[test]
fn a_commit_that_a_shallow_clone_lacks_is_refused_with_the_reason() {
    let server = TestRepository::new();
    let first = server.git(&["rev-parse", "HEAD"]);
    server.write("a.txt", "second\n");
    server.git(&["commit", "-qam", "second"]);
    let folder = clone_repository(&server, "shallow", &["--depth", "1"]);
    for base in ["HEAD~1", &first] {
        let refused = refusal(&folder, Some(base), false);
        assert!(refused.contains("(the clone is shallow: fetch it first)"), "{refused}");
    }
}

#[test]
fn a_clone_whose_shared_objects_are_gone_is_refused() {
    let server = TestRepository::new();
    let folder = clone_repository(&server, "shared", &[]);
    let shared = server.sibling_path("borrowed");
    git(&server.root, &["clone", "-q", "-s", folder.to_str().unwrap(), shared.to_str().unwrap()]);
    fs::remove_dir_all(&folder).unwrap();
    let refused = refusal(&shared, None, false);
    assert!(refused.contains("leads to no commit") && refused.contains("git fsck"), "{refused}");
}

#[test]
fn refs_in_a_table_work_like_refs_in_files() {
    let repository = TestRepository::without_commits();
    fs::remove_dir_all(repository.root.join(".git")).unwrap();
    git(&repository.root, &["init", "-q", "--ref-format=reftable"]);
    assert!(refusal(&repository.root, None, false).contains("has no commit yet"));
    repository.write("a.txt", "one\n");
    repository.git(&["add", "."]);
    repository.git(&["commit", "-qm", "first"]);
    repository.write("a.txt", "changed\n");
    let job = repository.start("table#1");
    assert_eq!(files(&job.clone), files(&repository.root));
    job.write("made.txt", "made\n");
    let commit = job.commit_and_push("made");
    let result = publish(&job.repository);
    assert_eq!((result.state, result.note.as_deref()), (ResultState::Open, None));
    assert_eq!(repository.git(&["rev-parse", "relay/table-1"]), commit);
    let source = Source::find(&repository.root).unwrap();
    assert!(source.check_new_branch("relay/table-1").unwrap_err().to_string().contains("exists already"));
}

#[test]
fn a_sparse_checkout_removes_nothing_from_the_clone() {
    for (mode, folder) in [(&["--no-cone"][..], "/sub/"), (&["--cone", "--sparse-index"], "sub")] {
        let repository = TestRepository::new();
        repository.write("other/c.txt", "three\n");
        repository.git(&["add", "."]);
        repository.git(&["commit", "-qm", "other"]);
        repository.git(&[&["sparse-checkout", "set"][..], mode, &[folder]].concat());
        assert!(!repository.root.join("other").exists());
        repository.write("sub/b.txt", "changed\n");
        let job = repository.start("sparse#1");
        assert_eq!(fs::read_to_string(job.clone.join("other/c.txt")).unwrap(), "three\n", "{mode:?}");
        assert_eq!(fs::read_to_string(job.clone.join("sub/b.txt")).unwrap(), "changed\n", "{mode:?}");
    }
}

#[test]
fn lfs_files_and_submodules_without_a_server_are_noted() {
    let (outer, inner) = (TestRepository::new(), TestRepository::new());
    outer.git(&["submodule", "--quiet", "add", inner.root.to_str().unwrap(), "mod"]);
    outer.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    outer.write("big.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    outer.git(&["add", "."]);
    outer.git(&["commit", "-qm", "pointers"]);
    drop(inner);
    let job = outer.start("away#1");
    assert_eq!(
        job.notes,
        [
            "submodules are empty in the worker's clone: fill them with --setup 'git submodule update --init'",
            "files in Git LFS are pointers in the worker's clone"
        ]
    );
    assert!(fs::read_to_string(job.clone.join("big.bin")).unwrap().starts_with("version https://git-lfs"));
    assert_eq!(fs::read_dir(job.clone.join("mod")).unwrap().count(), 0);
    outer.write("big.bin", "the content itself");
    let job = outer.start("away#2");
    assert!(job.notes[0].contains("stay as committed: big.bin"), "{:?}", job.notes);
}

#[test]
fn names_that_differ_in_case_alone_stay_two_files() {
    let repository = TestRepository::new();
    repository.write("README", "upper\n");
    repository.write("readme", "lower\n");
    repository.write("SUB/b.txt", "another folder\n");
    let job = repository.start("case#1");
    assert_eq!(files(&job.clone), files(&repository.root));
    job.write("ReadMe", "mixed\n");
    job.commit_and_push("a third");
    let result = publish(&job.repository);
    assert_eq!((result.files, result.note.as_deref()), (1, None));
}

#[test]
fn a_head_that_leads_nowhere_is_refused() {
    let repository = TestRepository::new();
    let head = repository.root.join(".git/HEAD");
    for (text, words) in [
        ("0123456789012345678901234567890123456789\n", "leads to no commit"),
        ("ref: refs/heads/unborn\n", "has no commit yet"),
    ] {
        fs::write(&head, text).unwrap();
        let refused = refusal(&repository.root, None, true);
        assert!(refused.contains(words), "{text}: {refused}");
    }
    let fails = || {
        let start =
            Source::find(&repository.root).and_then(|source| StartCommit::prepare(&source, None, true));
        start.is_err()
    };
    fs::write(&head, "rubbish\n").unwrap();
    assert!(fails());
    fs::write(&head, "ref: refs/heads/main\n").unwrap();
    fs::write(repository.root.join(".git/refs/heads/main"), "rubbish\n").unwrap();
    assert!(fails());
}
