//! Workers that do their worst to the repository of their place: nothing of it runs or lands on the host, and the job
//! ends with a line that says so.

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

/// Makes a commit whose tree has one more entry, and the worker's branch points to it. `$1` is the mode, `$2` the name,
/// and stdin the content.
const COMMIT_ENTRY: &str = r#"entry() {
    blob=$(git hash-object -w --stdin)
    tree=$( (git ls-tree HEAD; printf '%s blob %s\t%s\n' "$1" "$blob" "$2") | git mktree)
    git update-ref HEAD "$(git commit-tree -p HEAD -m bad "$tree")"
}
"#;

/// A site whose workspace is a repository, and that runs this many jobs at once.
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

fn result(site: &Site, job: &str) -> JobResult {
    until("the result", || site.record(job).result)
}

/// Returns the size of everything below a folder, in bytes.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[test]
fn objects_that_the_checks_refuse_are_named_and_earlier_commits_are_kept() {
    // File that each job adds, and git's name for it.
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
        // The snapshot of the edit may have come before the commit.
        until("the commit is there", || {
            let repository = site.state().join(format!("repositories/{}.git", job.replace('#', ".")));
            repository.join("refs/heads/result").exists().then_some(())
        });
    }
    fs::write(&go, "").unwrap();
    for (job, (bad, named)) in jobs.iter().zip(cases) {
        let record = site.ended(job);
        assert_eq!(outcome(&record), (State::Completed, None), "{bad}: {}", site.log(job));
        let told = warnings(&site, job);
        assert!(told.contains("could not be handed over") && told.contains(named), "{bad}: {told}");
        let result = result(&site, job);
        assert_eq!((result.state, result.commits, &result.note), (ResultState::Open, 1, &None), "{bad}");
        let log = git(&site.workspace(), &["log", "--format=%s", &result.branch]);
        assert_eq!(log, "good\nbase", "{bad}");
    }
    git(&site.workspace(), &["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn traps_in_the_repository_delay_no_end_and_change_nothing_outside() {
    let refs = times(10_000, 1_000_000);
    let outside = tempfile::tempdir().unwrap();
    let other = outside.path().join("other");
    fs::create_dir(&other).unwrap();
    git(&other, &["init", "-q", "-b", "main"]);
    git(&other, &["commit", "-q", "--allow-empty", "-m", "theirs"]);
    let before = git(&other, &["for-each-ref"]);
    let edit = "echo more >> README";
    let foreign = other.display();
    // Actions of each job, the number of commits that come back, and the warnings.
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
    let begun = Instant::now();
    let jobs: Vec<String> = cases.iter().map(|(line, _, _)| site.launch_shell(line, &["--branch"])).collect();
    for (job, (line, commits, told)) in jobs.iter().zip(&cases) {
        let record = until_by(begun + Duration::from_secs(times(90, 900)), "the job ends", || {
            let record = site.record(job);
            record.state.is_final().then_some(record)
        });
        assert_eq!(outcome(&record), (State::Completed, None), "{line}: {}", site.log(job));
        assert_eq!(result(&site, job).commits, *commits, "{line}: {}", warnings(&site, job));
        let warned = warnings(&site, job);
        assert!(warned.contains(told) && (warned.is_empty() == told.is_empty()), "{line}: {warned}");
    }
    figure(&format!(
        "hostile places, one with {refs} refs: all ended within {} s",
        begun.elapsed().as_secs()
    ));
    assert_eq!(git(&other, &["for-each-ref"]), before);
    assert_eq!(git(&other, &["status", "--porcelain"]), "");
    let branches = git(&site.workspace(), &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(branches.lines().count(), 3, "main and two results: {branches}");
}

/// Creating gigabytes takes minutes. The limits themselves are also tested with small ones, beside the code.
#[test]
fn gigabytes_of_objects_stay_out_of_the_host() {
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
    let (mut most, give_up) = (0, Instant::now() + Duration::from_secs(1800));
    for job in &jobs {
        until_by(give_up, "the job has its result", || {
            most = most.max(size(&stored));
            let record = site.record(job);
            record.result.filter(|_| record.state.is_final()).map(drop)
        });
    }
    let told = warnings(&site, &jobs[0]);
    assert!(told.contains("larger than the relay accepts"), "{told}");
    let note = result(&site, &jobs[1]).note.unwrap();
    assert!(note.contains("when unpacked"), "{note}");
    let before = size(&site.workspace().join(".git"));
    assert!(before < 10 << 20, "{before}");
    figure(&format!("3 GB and 10 GB of objects: the host stored at most {} MiB", most >> 20));
    assert!(most < 5 << 30, "{most}");
}
