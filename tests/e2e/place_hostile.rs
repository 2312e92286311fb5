//! Hostile workers that put traps into the repository of their place, which is their clone. Nothing of it runs on the
//! host or gets into the user's repository, and a warning names the problem.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::record::State;
use common::result::{JobResult, ResultState};
use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::repository::git;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, until, until_by};

/// Shell function that commits one more entry: `$1` is its mode, `$2` its name, and stdin its content.
const COMMIT_ENTRY: &str = r#"entry() {
    blob=$(git hash-object -w --stdin)
    tree=$( (git ls-tree HEAD; printf '%s blob %s\t%s\n' "$1" "$blob" "$2") | git mktree)
    git update-ref HEAD "$(git commit-tree -p HEAD -m bad "$tree")"
}
"#;

/// Creates a site whose workspace is a repository and that runs up to `max_jobs` jobs at once.
fn site(max_jobs: usize) -> Site {
    let site = Site::new(Engine::Local);
    site.configure(&format!("max_jobs = {max_jobs}\n"));
    let root = site.workspace();
    git(&root, &["init", "-q", "-b", "main"]);
    git(&root, &["add", "."]);
    git(&root, &["commit", "-qm", "base"]);
    site.relay(&["up", "--yes"]);
    site
}

fn warnings(site: &Site, job: &str) -> String {
    let events = site.events(job).into_iter().filter_map(|line| line.event);
    let messages = events.filter_map(|event| match event.body {
        EventBody::Warning { message } => Some(message),
        _ => None,
    });
    messages.collect::<Vec<_>>().join("\n")
}

fn wait_for_result(site: &Site, job: &str) -> JobResult {
    until("the result", || site.record(job).result)
}

/// Returns the size of everything below a folder, in bytes.
fn size_of_files(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size_of_files(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[test]
fn objects_that_git_s_checks_refuse_are_named_and_earlier_commits_are_kept() {
    // Command that adds a bad entry, and git's name of the problem.
    let cases = [
        ("echo x | entry 100644 .git", "hasDotgit"),
        ("echo x | entry 100644 .GIT", "hasDotgit"),
        ("echo x | entry 100644 git~1", "hasDotgit"),
        ("echo x | entry 100644 $(printf '.g\\342\\200\\214it')", "hasDotgit"),
        ("echo x | entry 100644 ..", "hasDotdot"),
        ("printf '/etc/passwd' | entry 120000 .gitmodules", "gitmodulesSymlink"),
        (
            "printf '[submodule \"a\"]\\n\\tpath = a\\n\\turl = -u./evil\\n' | entry 100644 .gitmodules",
            "gitmodulesUrl",
        ),
        (
            "printf '[submodule \"../a\"]\\n\\tpath = a\\n\\turl = x\\n' | entry 100644 .gitmodules",
            "gitmodulesName",
        ),
    ];
    let site = site(cases.len());
    let go = site.root().join("go");
    let job = |bad: &str| {
        let wait = format!("until test -e {}; do sleep 0.05; done", go.display());
        let good = "echo good >> README; git commit -qam good";
        site.launch_shell(&format!("{COMMIT_ENTRY}{good}; echo ready; {wait}; {bad}"), &["--branch"])
    };
    let jobs: Vec<String> = cases.iter().map(|(bad, _)| job(bad)).collect();
    for job in &jobs {
        until("the good commit is handed over", || {
            let shown = site.run(&["diff", job]);
            String::from_utf8_lossy(&shown.stdout).contains("\n+good\n").then_some(())
        });
        // The diff may have come from a snapshot of the edit, before the commit.
        until("the commit has arrived", || {
            let repository = site.job_state(job, "repositories", "git");
            repository.join("refs/heads/result").exists().then_some(())
        });
    }
    fs::write(&go, "").unwrap();
    for (job, (bad, named)) in jobs.iter().zip(cases) {
        let record = site.ended(job);
        assert_eq!(outcome(&record), (State::Completed, None), "{bad}: {}", site.log(job));
        let warned = warnings(&site, job);
        assert!(warned.contains("could not be handed over") && warned.contains(named), "{bad}: {warned}");
        let result = wait_for_result(&site, job);
        assert_eq!((result.state, result.commits, &result.note), (ResultState::Open, 1, &None), "{bad}");
        let log = git(&site.workspace(), &["log", "--format=%s", &result.branch]);
        assert_eq!(log, "good\nbase", "{bad}");
    }
    git(&site.workspace(), &["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn traps_in_the_repository_delay_no_job_and_change_nothing_outside() {
    let refs = times(10_000, 1_000_000);
    let outside = tempfile::tempdir().unwrap();
    let other = outside.path().join("other");
    fs::create_dir(&other).unwrap();
    git(&other, &["init", "-q", "-b", "main"]);
    git(&other, &["commit", "-q", "--allow-empty", "-m", "theirs"]);
    let before = git(&other, &["for-each-ref"]);
    let edit = "echo more >> README";
    let foreign = other.display();
    // Command line of each job, number of commits in its result, and part of its warnings.
    let cases = [
        (
            format!(
                "{edit}; mkfifo .git/fifo .gitignore; printf '[include]\\n\\tpath = fifo\\n' >> .git/config; \
                 ln -s ../fifo .git/info/exclude; rm -f .git/packed-refs; ln -s fifo .git/packed-refs"
            ),
            1,
            "",
        ),
        (
            format!(
                "{edit}; git commit -qam mine; id=$(git rev-parse HEAD); \
                 (echo '# pack-refs with: peeled fully-peeled sorted'; \
                 awk -v id=$id 'BEGIN {{ for (n = 0; n < {refs}; n++) printf \"%s refs/tags/t%07d\\n\", id, n }}') \
                 > .git/packed-refs"
            ),
            1,
            "",
        ),
        (format!("{edit}; rm -rf .git; ln -s {foreign}/.git .git"), 0, "no repository of its own"),
        (format!("{edit}; rm -rf .git; echo 'gitdir: {foreign}/.git' > .git"), 0, "no repository of its own"),
        (format!("{edit}; echo {foreign}/.git > .git/commondir"), 0, "no repository of its own"),
        (format!("{edit}; rm -rf .git; mkfifo .git"), 0, "no repository of its own"),
    ];
    let site = site(cases.len());
    let started = Instant::now();
    let jobs: Vec<String> = cases.iter().map(|(line, _, _)| site.launch_shell(line, &["--branch"])).collect();
    for (job, (line, commits, told)) in jobs.iter().zip(&cases) {
        let record = until_by(started + Duration::from_secs(times(240, 900)), "the job ends", || {
            let record = site.record(job);
            record.state.is_final().then_some(record)
        });
        assert_eq!(outcome(&record), (State::Completed, None), "{line}: {}", site.log(job));
        assert_eq!(wait_for_result(&site, job).commits, *commits, "{line}: {}", warnings(&site, job));
        let warned = warnings(&site, job);
        assert!(warned.contains(told) && (warned.is_empty() == told.is_empty()), "{line}: {warned}");
    }
    figure(&format!(
        "hostile places, one with {refs} refs: all ended within {} s",
        started.elapsed().as_secs()
    ));
    assert_eq!(git(&other, &["for-each-ref"]), before);
    assert_eq!(git(&other, &["status", "--porcelain"]), "");
    let branches = git(&site.workspace(), &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(branches.lines().count(), 3, "main and two results: {branches}");
}

/// Runs only in nightly runs, because creating gigabytes takes minutes. Unit tests check the limits with small sizes.
#[test]
fn gigabytes_of_objects_are_not_stored_on_the_host() {
    if !times(false, true) {
        return;
    }
    let site = site(2);
    let random = "head -c 3000000000 /dev/urandom > big; git add big; git commit -qm big";
    let zeros = "truncate -s 10G zeros; git add zeros; git commit -qm zeros";
    let jobs = [random, zeros].map(|line| {
        let limits = ["--branch", "--step-timeout", "command=30m"];
        site.launch_shell(line, &limits)
    });
    let stored = site.state().join("repositories");
    let (mut peak, give_up) = (0, Instant::now() + Duration::from_secs(1800));
    for job in &jobs {
        until_by(give_up, "the job has its result", || {
            peak = peak.max(size_of_files(&stored));
            let record = site.record(job);
            record.result.filter(|_| record.state.is_final()).map(drop)
        });
    }
    let warned = warnings(&site, &jobs[0]);
    assert!(warned.contains("larger than the relay accepts"), "{warned}");
    let note = wait_for_result(&site, &jobs[1]).note.unwrap();
    assert!(note.contains("when unpacked"), "{note}");
    let before = size_of_files(&site.workspace().join(".git"));
    assert!(before < 10 << 20, "{before}");
    figure(&format!("3 GB and 10 GB of objects: the host stored at most {} MiB", peak >> 20));
    assert!(peak < 5 << 30, "{peak}");
}
