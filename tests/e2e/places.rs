//! Jobs with a clone of their own (`--branch`), and their results.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::record::State;
use common::result::{JobResult, ResultState};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, until};

/// Runs a git command that must succeed; returns its stdout.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let settings = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "safe.directory=*"];
    let output = Command::new("git").current_dir(folder).args(settings).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Makes the workspace a repository with one commit, an uncommitted change and an untracked file.
pub(crate) fn make_repository(site: &Site) -> PathBuf {
    let root = site.workspace();
    git(&root, &["init", "-q", "-b", "main"]);
    site.write("workspace-projects/demo/file", "one\n");
    site.write("workspace-projects/demo/kept", "kept\n");
    git(&root, &["add", "."]);
    git(&root, &["commit", "-qm", "first"]);
    site.write("workspace-projects/demo/file", "one\nmine\n");
    site.write("workspace-projects/demo/untracked", "new\n");
    root
}

/// Returns the content of every file below a folder, except git's objects, refs and logs, which a result changes.
fn file_contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_growing =
                ["objects", "refs", "logs"].iter().any(|name| path.ends_with(format!(".git/{name}")));
            match fs::symlink_metadata(&path).unwrap() {
                _ if is_growing => {}
                meta if meta.is_dir() => folders.push(path),
                _ => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    found
}

/// Waits until the result of a job has a state.
pub(crate) fn result_when(site: &Site, job: &str, state: ResultState) -> JobResult {
    until("the result", || site.record(job).result.filter(|result| result.state == state))
}

/// Runs a job in a clone that edits a file and commits, and checks its result, `relay diff`, `apply` and `discard`.
fn check_result_comes_back(site: &Site) {
    let root = make_repository(site);
    let before = file_contents(&root);
    let line = "cat file untracked; echo theirs >> file; echo seen; \
                until git log --format=%s | grep -q theirs; do sleep 1; git commit -qam theirs; done; echo x > left";
    let job = site.launch_shell(line, &["--branch"]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    assert!(site.log(&job).contains("one\nmine\nnew\nseen"), "{}", site.log(&job));
    let result = result_when(site, &job, ResultState::Open);
    assert_eq!((&*result.branch, result.commits, result.files), ("relay/demo-1", 2, 2));
    assert_eq!(file_contents(&root), before, "the caller's checkout stays as it was");
    let subjects = git(&root, &["log", "--format=%s", "relay/demo-1"]);
    assert_eq!(subjects, "relay: uncommitted changes\ntheirs\nrelay: uncommitted files\nfirst");
    assert!(site.relay(&["diff", &job]).contains("\n+theirs\n"));

    assert!(site.relay(&["apply", &job]).contains("2 files changed"));
    assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "one\nmine\ntheirs\n");
    assert_eq!(git(&root, &["diff", "--cached", "--name-only"]), "", "nothing is staged");
    result_when(site, &job, ResultState::Applied);
    site.relay(&["discard", &job]);
    result_when(site, &job, ResultState::Discarded);
    assert_eq!(git(&root, &["branch", "--list", "relay/*"]), "");
}

#[test]
fn a_job_with_a_branch_hands_back_its_commits_and_does_not_change_the_checkout() {
    check_result_comes_back(&Site::up(Engine::Local));
}

#[test]
#[ignore = "needs Docker"]
fn a_job_with_a_branch_hands_back_its_commits_from_a_container() {
    let site = Site::up(Engine::Docker);
    check_result_comes_back(&site);
    // The next job works on the repository of the project's root, which is not mounted in the container.
    git(site.root(), &["init", "-q", "-b", "main"]);
    git(site.root(), &["add", "platform/relay.toml"]);
    git(site.root(), &["commit", "-qm", "first"]);
    let launch =
        ["launch", "-q", "-n", "own", "--branch", "--runner", "shell", "ls platform; echo new > new"];
    let job = site.relay(&launch).trim().to_owned();
    let result = result_when(&site, &job, ResultState::Open);
    assert_eq!(git(site.root(), &["show", &format!("{}:new", result.branch)]), "new", "{}", site.log(&job));
    let refused = site.refused(2, &["launch", "--in-place", "--runner", "shell", "true"]);
    assert!(refused.contains("use --branch"), "{refused}");
}

#[test]
fn ten_jobs_at_once_on_one_repository_each_hand_back_their_own_change() {
    let site = Site::new(Engine::Local);
    site.configure("max_jobs = 10\n");
    site.relay(&["up", "--yes"]);
    let root = make_repository(&site);
    let before = file_contents(&root);
    let jobs: Vec<String> = (0..10)
        .map(|n| {
            site.launch_shell(&format!("echo job {n} > file; git commit -qam 'change {n}'"), &["--branch"])
        })
        .collect();
    for (n, job) in jobs.iter().enumerate() {
        let result = result_when(&site, job, ResultState::Open);
        assert_eq!((result.commits, result.files), (1, 1), "{job}");
        assert_eq!(git(&root, &["show", &format!("{}:file", result.branch)]), format!("job {n}"));
    }
    assert_eq!(git(&root, &["branch", "--list", "relay/*"]).lines().count(), 10);
    assert_eq!(file_contents(&root), before);
    // The second result changes the same line: the conflict is marked and listed.
    site.relay(&["apply", &jobs[0]]);
    let second = site.run(&["apply", &jobs[1]]);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(fs::read_to_string(root.join("file")).unwrap().contains("<<<<<<<"));
    let output_text =
        String::from_utf8_lossy(&second.stdout).into_owned() + &String::from_utf8_lossy(&second.stderr);
    assert!(output_text.contains("file"), "{output_text}");
}

#[test]
fn an_edit_of_a_worker_is_in_the_diff_while_the_worker_runs() {
    let site = Site::up(Engine::Local);
    make_repository(&site);
    let job = site.launch_running("echo edit >> kept; echo edited; sleep 1000", &["--branch"]);
    until("the edit is in the diff", || {
        let shown = site.run(&["diff", &job]);
        String::from_utf8_lossy(&shown.stdout).contains("\n+edit\n").then_some(())
    });
    site.relay(&["cancel", &job]);
    assert_eq!(site.ended(&job).state, State::Cancelled);
    assert_eq!(
        result_when(&site, &job, ResultState::Open).files,
        1,
        "a cancelled job hands back what it has"
    );
}

#[test]
fn a_branch_that_can_not_be_created_is_refused_before_anything_is_written() {
    let site = Site::up(Engine::Local);
    let workspace = site.workspace();
    let launch = |flags: &[&str]| {
        let path = workspace.to_str().unwrap();
        let line = [&["launch", "-w", path, "--runner", "shell"][..], flags, &["true"]].concat();
        site.refused(2, &line)
    };
    make_repository(&site);
    assert!(launch(&["--branch=a..b"]).contains("a..b"));
    assert!(launch(&["--branch=main"]).contains("main"));
    assert!(launch(&["--branch", "--base", "nothing"]).contains("nothing"));
    assert!(launch(&["--base", "main"]).contains("--branch"));
    assert_eq!(site.relay(&["status", "--json", "-a"]).trim(), "");
}
