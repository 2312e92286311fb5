//! The cache of repositories: a second job in a repository fetches nothing.

use std::fs;
use std::path::{Path, PathBuf};

use common::record::State;
use relay_tests::harness::repository::git;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};

/// Waits until a job has completed; returns the titles of its steps.
fn step_titles(site: &Site, job: &str) -> Vec<String> {
    let record = site.ended(job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(job));
    record.steps.into_iter().map(|step| step.title).collect()
}

/// Returns paths and sizes of the files below a folder.
fn file_sizes(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match fs::symlink_metadata(&path).unwrap() {
            meta if meta.is_dir() => found.extend(file_sizes(&path)),
            meta => found.push((path, meta.len())),
        }
    }
    found.sort();
    found
}

#[test]
#[ignore = "needs the real Codex"]
fn a_sandboxed_worker_reads_the_cache_of_its_repository_and_can_not_change_it() {
    let site = Site::new(Engine::Local);
    site.configure_in_sandbox("");
    let root = site.workspace();
    git(&root, &["init", "-q", "-b", "main"]);
    git(&root, &["add", "."]);
    git(&root, &["commit", "-qm", "base"]);
    site.relay(&["up"]);
    let base = git(&root, &["rev-parse", "--short=12", "HEAD"]);
    let (fetch, checkout) = (format!("git fetch {base}"), format!("git checkout {base} as relay/demo-"));
    let first = step_titles(&site, &site.launch_shell("true", &["--branch"]));
    assert_eq!(first[..2], [fetch.clone(), format!("{checkout}1")], "{first:?}");
    let caches = site.home().join(".local/share/relay/repositories");
    let before = file_sizes(&caches);
    assert!(!before.is_empty());
    let line = format!(
        "cd {}; find . -type f | while read -r file; do chmod u+w $file; echo x >> $file; rm -f $file; done; \
         touch new; find . -type d | while read -r folder; do touch $folder/new; done; true",
        caches.display()
    );
    let second = step_titles(&site, &site.launch_shell(&line, &["--branch"]));
    assert_eq!(second[0], format!("{checkout}2"), "nothing was fetched: {second:?}");
    assert_eq!(file_sizes(&caches), before);
}

#[test]
fn without_a_sandbox_there_is_no_cache_that_a_worker_could_change() {
    let site = Site::up(Engine::Local);
    let root = site.workspace();
    git(&root, &["init", "-q", "-b", "main"]);
    git(&root, &["add", "."]);
    git(&root, &["commit", "-qm", "base"]);
    for _ in 0..2 {
        let titles = step_titles(&site, &site.launch_shell("true", &["--branch"]));
        assert!(titles[0].starts_with("git fetch ") && titles[0].contains(" as relay/"), "{titles:?}");
    }
    assert!(!site.state().join("agent.repositories").exists());
    assert!(!site.home().join(".local/share/relay/repositories").exists());
}
