//! The cache of repositories: a second job in a repository fetches nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::record::State;
use relay_tests::harness::repository::{git, prepared_clone};
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
    prepared_clone(&site);
    let before = file_sizes(&caches);
    assert!(!before.is_empty());
    let line = format!(
        "cd {}; find . -type f | while read -r file; do chmod u+w $file; echo x >> $file; rm -f $file; done; \
         touch new; find . -type d | while read -r folder; do touch $folder/new; done; true",
        caches.display()
    );
    let second = step_titles(&site, &site.launch_shell(&line, &["--branch"]));
    assert_eq!(second[0], format!("{checkout}2"), "nothing was fetched: {second:?}");
    prepared_clone(&site);
    assert_eq!(file_sizes(&caches), before);
}

#[test]
#[ignore = "needs the real Codex"]
fn the_next_place_is_prepared_and_starts_from_its_own_base() {
    let site = Site::new(Engine::Local);
    site.configure_in_sandbox("");
    let root = site.workspace();
    git(&root, &["init", "-q", "-b", "main"]);
    for (name, content) in [("changed", "old"), ("removed", "old"), ("same", "same")] {
        fs::write(root.join(name), content).unwrap();
    }
    git(&root, &["add", "."]);
    git(&root, &["commit", "-qm", "base"]);
    site.relay(&["up"]);
    site.ended(&site.launch_shell("true", &["--branch"]));
    let prepared = fs::metadata(prepared_clone(&site)).unwrap().ino();

    git(&root, &["rm", "-q", "removed"]);
    fs::write(root.join("changed"), "new").unwrap();
    git(&root, &["commit", "-qam", "second"]);
    fs::write(root.join("untracked"), "by the user").unwrap();
    let look = "stat -c %i .; git status --porcelain --ignored; git branch --format='%(refname:short)'; ls; \
                cat changed untracked; git fsck --strict --no-dangling; git diff --stat HEAD; echo result >> same";
    let job = site.launch_shell(look, &["--branch"]);
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None), "{}", site.log(&job));
    site.relay(&["wait", &job]);
    let log = site.log(&job);
    let seen: Vec<&str> = log.lines().skip_while(|line| !line.starts_with(&prepared.to_string())).collect();
    let inode = prepared.to_string();
    let expected = [&inode, "relay/demo-2", "README", "changed", "same", "untracked", "newby the user"];
    assert_eq!(seen, expected, "{log}");
    let files = git(&root, &["diff", "--name-only", "main", "relay/demo-2"]);
    assert_eq!(files, "same\nuntracked");
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
