//! Tests of notes about the content of results, and of results that are too large.

use super::content::check_size;
use super::publish::publish;
use super::test_repository::{TestRepository, git};

#[test]
fn submodules_lfs_pointers_and_the_deletion_of_all_files_are_noted() {
    let repository = TestRepository::new();
    let job = repository.start("demo#1");
    let sub = job.place.base().to_owned();
    git(&job.clone, &["update-index", "--add", "--cacheinfo", &format!("160000,{sub},vendor")]);
    job.write("big.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n");
    job.write("plain", "version\n");
    git(&job.clone, &["add", "big.bin", "plain"]);
    git(&job.clone, &["commit", "-qm", "x"]);
    job.push();
    assert_eq!(
        publish(&job.repository).note.as_deref(),
        Some(
            "the new commits of submodules are not part of the result: vendor; files of Git LFS are pointers, and \
             their content is not part of the result: big.bin"
        )
    );
    let job = repository.start("demo#2");
    git(&job.clone, &["rm", "-rqf", "."]);
    git(&job.clone, &["commit", "-qm", "x"]);
    job.push();
    assert_eq!(publish(&job.repository).note.as_deref(), Some("the worker deleted every file"));
}

#[test]
fn a_small_pack_with_very_large_files_is_refused_and_kept() {
    let repository = TestRepository::new();
    let job = repository.start("demo#1");
    job.write("zeros", &"0".repeat(5 << 20));
    let commit = job.commit_and_push("zeros");
    let parent = Some(job.place.parent());
    let refused = check_size(&job.repository, (parent, &commit), 1 << 20).unwrap_err().to_string();
    assert_eq!(refused, "the result has 5 MiB when unpacked, more than 1 MiB, and is kept by relay");
    check_size(&job.repository, (parent, &commit), 6 << 20).unwrap();
}
