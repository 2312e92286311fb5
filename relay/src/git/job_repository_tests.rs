//! Tests of the removal of leftovers of a killed daemon.

use std::fs;

use super::job_repository::remove_unfinished_repositories;
use super::test_repository::{TestRepository, git};

#[test]
fn unfinished_pushes_and_repositories_are_removed_and_everything_else_stays() {
    let repository = TestRepository::new();
    let job = repository.start("demo#1");
    job.write("x", "x\n");
    let commit = job.commit_and_push("x");
    let (state, objects) = (repository.sibling_path("state"), job.repository.path().join("objects"));
    let unfinished = [
        objects.join("tmp_objdir-incoming-1/pack"),
        objects.join("pack/tmp_pack_1"),
        state.join(".new-1/objects"),
    ];
    for folder in &unfinished {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(objects.join("pack/tmp_idx_1"), "x").unwrap();
    remove_unfinished_repositories(&state);
    job.repository.remove_unfinished_pushes();
    for path in [&unfinished[0], &unfinished[1], &unfinished[2], &objects.join("pack/tmp_idx_1")] {
        assert!(!path.exists(), "{}", path.display());
    }
    assert!(!state.join(".new-1").exists() && !objects.join("tmp_objdir-incoming-1").exists());
    assert_eq!(git(job.repository.path(), &["rev-parse", "refs/heads/result"]), commit);
    git(job.repository.path(), &["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn a_result_whose_objects_are_missing_is_sent_again_by_the_next_push() {
    let repository = TestRepository::new();
    let job = repository.start("demo#1");
    job.write("x", "x\n");
    let commit = job.commit_and_push("x");
    let result = || job.repository.result_commit().unwrap();
    job.repository.remove_broken_refs().unwrap();
    assert_eq!(result(), Some(commit.clone()), "a whole result stays");
    for pack in fs::read_dir(job.repository.path().join("objects/pack")).unwrap() {
        fs::remove_file(pack.unwrap().path()).unwrap();
    }
    assert_eq!(result(), Some(commit.clone()), "the ref has outlived its objects");
    job.repository.remove_broken_refs().unwrap();
    assert_eq!(result(), None);
    job.push();
    assert_eq!(result(), Some(commit));
    git(job.repository.path(), &["fsck", "--strict", "--no-dangling"]);
}
