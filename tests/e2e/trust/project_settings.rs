//! Settings of the project and its repository that select what programs outside of a sandbox run.

use std::fs;

use common::event::EventBody;
use common::record::State;
use relay_tests::harness::model::Model;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Site, until};

use super::confine::{as_person, site};

#[test]
#[ignore = "needs the real Codex"]
fn a_worktree_or_submodule_of_the_project_leaves_its_repositorys_settings_alone() {
    let (_model, site) = site();
    site.write("origin/file", "a\n");
    as_person(
        site.root(),
        "git init -q -b main origin; (cd origin; git add .; C commit -qm x); git init -q -b main .; \
         C -c protocol.file.allow=always submodule --quiet add ./origin mod; C commit -qm y; \
         git config extensions.worktreeConfig true; git worktree add -q workspace-projects/tree; \
         git worktree add -q workspace-projects/other",
    );
    site.relay(&["up"]);
    let settings = [
        ".git/config",
        ".git/config.worktree",
        ".git/hooks/pre-commit",
        ".git/modules/mod/config",
        ".git/modules/mod/hooks/pre-commit",
        ".git/worktrees/other/commondir",
        ".git/worktrees/other/config.worktree",
    ];
    let before = settings.map(|path| fs::read(site.root().join(path)).ok());
    let root = site.root().canonicalize().unwrap();
    let evil: Vec<String> =
        settings.iter().map(|path| format!("echo evil >> {}/{path}", root.display())).collect();
    let line = format!(
        "{}; echo new > new && git add new && git -c user.name=w -c user.email=w@e commit -qm job && echo committed",
        evil.join("; ")
    );
    for folder in ["workspace-projects/tree", "mod", "."] {
        let output = site.run(&["run", "-w", folder, "--", &line]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("committed"), "{folder}: {said}");
        let after =
            settings.map(|path| fs::read(site.root().join(path)).ok().filter(|text| !text.is_empty()));
        let before = before.clone().map(|text| text.filter(|text| !text.is_empty()));
        assert_eq!(after, before, "{folder}: {said}");
    }
}

/// Creates a site whose project is a repository in which settings are missing, with its relay up.
fn repository() -> (Model, Site) {
    let (model, site) = site();
    site.write("file", "a\n");
    as_person(
        site.root(),
        "git init -q -b main .; git add file; C commit -qm x; git config extensions.worktreeConfig true",
    );
    site.relay(&["up"]);
    (model, site)
}

/// Names in the project's root and its repository from which programs outside of a sandbox read settings.
const MISSING: [&str; 7] =
    [".codex", ".agents", ".claude", ".mcp.json", ".vscode", ".git/config.worktree", ".git/commondir"];

/// Launches a shell job in the project's root that prints `begun` first, and waits for that.
fn begin(site: &Site, line: &str) -> String {
    let line = format!("echo begun; {line}");
    let job =
        site.relay(&["launch", "-q", "--share", "--runner", "shell", "-w", ".", &line]).trim().to_owned();
    until("it has begun", || site.log(&job).contains("begun").then_some(()));
    job
}

/// Begins a job that tries to write each of [`MISSING`] until the file `stop` exists, and prints the names that it
/// could write.
fn writer(site: &Site) -> String {
    let tries = MISSING
        .map(|path| format!("(echo evil >{path} || echo evil >{path}/x) 2>/dev/null && echo wrote {path}"));
    let line = format!(
        "until test -e workspace-projects/stop; do {}; sleep 0.01; done; echo over",
        tries.join("; ")
    );
    begin(site, &line)
}

fn left_alone(site: &Site, job: &str) {
    site.ended(job);
    let log = site.log(job);
    assert!(log.contains("over") && !log.contains("wrote"), "{job}: {log}");
}

#[test]
#[ignore = "needs the real Codex"]
fn settings_that_are_missing_stay_so_when_another_job_s_sandbox_ends() {
    let (_model, site) = repository();
    let missing = || MISSING.iter().filter(|path| site.root().join(path).exists()).collect::<Vec<_>>();
    let before = missing();
    // Each job begins while the one before it runs, and the earlier one ends first.
    let first = begin(&site, "until test -e workspace-projects/go; do sleep 0.01; done");
    let second = writer(&site);
    site.write("workspace-projects/go", "");
    site.ended(&first);
    let third = writer(&site);
    // Entries that a job sees under these names must not show up in git's status.
    let output = site.run(&["run", "--share", "-w", ".", "--", "git add -A && git status --porcelain"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for path in MISSING.iter().filter(|path| !path.starts_with(".git/")) {
        assert!(output.status.success() && !said.contains(&format!("  {path}")), "{said}");
    }
    site.write("workspace-projects/stop", "");
    for job in [&second, &third] {
        left_alone(&site, job);
    }
    assert_eq!(missing(), before);
}

#[test]
#[ignore = "needs the real Codex"]
fn settings_that_a_person_replaces_under_a_job_are_told_at_its_end() {
    let (_model, site) = repository();
    let job = writer(&site);
    as_person(site.root(), "git config user.nickname x");
    site.write("workspace-projects/stop", "");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None));
    let warned = site.events(&job).iter().any(|line| {
        matches!(line.event.as_ref().map(|event| &event.body),
            Some(EventBody::Warning { message }) if message.contains(".git/config was replaced"))
    });
    assert!(warned, "{}", site.log(&job));
    // Without such a change there is no warning.
    let quiet = site.relay(&["run", "-w", ".", "--", "echo quiet"]);
    assert!(quiet.contains("quiet") && !quiet.contains("warning"), "{quiet}");
}

#[test]
#[ignore = "needs the real Codex"]
fn a_worker_can_not_lead_the_repository_of_the_project_to_other_settings() {
    let (_model, site) = repository();
    let line = "mkdir -p workspace-projects/evil && cp -r .git/. workspace-projects/evil && \
                git config -f workspace-projects/evil/config core.fsmonitor 'touch workspace-projects/ran; false' && \
                echo ../workspace-projects/evil >.git/commondir; mv .git .old; rm -rf .git/hooks; echo tried";
    let output = site.run(&["run", "-w", ".", "--", line]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("tried"));
    as_person(site.root(), "git status --porcelain; git log -1 --oneline");
    assert!(!site.root().join("workspace-projects/ran").exists());
}
