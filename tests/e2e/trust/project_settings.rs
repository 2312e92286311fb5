//! Settings that decide which programs run outside of a sandbox: no job may write them.

use std::fs;

use common::event::EventBody;
use common::record::State;
use relay_tests::harness::model::Model;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Site, until};

use super::confine::{run_as_user, site};

#[test]
#[ignore = "needs the real Codex"]
fn jobs_in_a_worktree_or_submodule_can_not_write_the_repository_s_settings() {
    let (_model, site) = site();
    site.write("origin/file", "a\n");
    run_as_user(
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
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(stdout.contains("committed"), "{folder}: {stdout}");
        let after =
            settings.map(|path| fs::read(site.root().join(path)).ok().filter(|text| !text.is_empty()));
        let before = before.clone().map(|text| text.filter(|text| !text.is_empty()));
        assert_eq!(after, before, "{folder}: {stdout}");
    }
}

/// Creates a site whose project is a repository without the [`MISSING_SETTINGS`], and starts its relay.
fn site_with_repository() -> (Model, Site) {
    let (model, site) = site();
    site.write("file", "a\n");
    run_as_user(
        site.root(),
        "git init -q -b main .; git add file; C commit -qm x; git config extensions.worktreeConfig true",
    );
    site.relay(&["up"]);
    (model, site)
}

/// Files and folders, missing at first, from which programs outside of a sandbox read settings.
const MISSING_SETTINGS: [&str; 7] =
    [".codex", ".agents", ".claude", ".mcp.json", ".vscode", ".git/config.worktree", ".git/commondir"];

/// Launches a shell job in the project's root, and waits until its command has begun.
fn begin_job(site: &Site, line: &str) -> String {
    let line = format!("echo begun; {line}");
    let job =
        site.relay(&["launch", "-q", "--share", "--runner", "shell", "-w", ".", &line]).trim().to_owned();
    until("the job has begun", || site.log(&job).contains("begun").then_some(()));
    job
}

/// Launches a job that tries to write the [`MISSING_SETTINGS`] again and again, and prints those that it could write.
fn launch_writer(site: &Site) -> String {
    let tries = MISSING_SETTINGS
        .map(|path| format!("(echo evil >{path} || echo evil >{path}/x) 2>/dev/null && echo wrote {path}"));
    let line = format!(
        "until test -e workspace-projects/stop; do {}; sleep 0.01; done; echo over",
        tries.join("; ")
    );
    begin_job(site, &line)
}

fn check_wrote_nothing(site: &Site, job: &str) {
    site.ended(job);
    let log = site.log(job);
    assert!(log.contains("over") && !log.contains("wrote"), "{job}: {log}");
}

#[test]
#[ignore = "needs the real Codex"]
fn missing_settings_stay_missing_while_sandboxes_of_other_jobs_end() {
    let (_model, site) = site_with_repository();
    let missing =
        || MISSING_SETTINGS.iter().filter(|path| site.root().join(path).exists()).collect::<Vec<_>>();
    let before = missing();
    // Each job begins while the one before it is running, and the first one ends first.
    let first = begin_job(&site, "until test -e workspace-projects/go; do sleep 0.01; done");
    let second = launch_writer(&site);
    site.write("workspace-projects/go", "");
    site.ended(&first);
    let third = launch_writer(&site);
    // In a sandbox placeholders have these names; `git status` must not show them.
    let output = site.run(&["run", "--share", "-w", ".", "--", "git add -A && git status --porcelain"]);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    for path in MISSING_SETTINGS.iter().filter(|path| !path.starts_with(".git/")) {
        assert!(output.status.success() && !stdout.contains(&format!("  {path}")), "{stdout}");
    }
    site.write("workspace-projects/stop", "");
    for job in [&second, &third] {
        check_wrote_nothing(&site, job);
    }
    assert_eq!(missing(), before);
}

#[test]
#[ignore = "needs the real Codex"]
fn settings_that_a_person_replaces_during_a_job_are_named_in_a_warning() {
    let (_model, site) = site_with_repository();
    let job = launch_writer(&site);
    run_as_user(site.root(), "git config user.nickname x");
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
fn a_worker_can_not_redirect_the_project_s_repository_to_other_settings() {
    let (_model, site) = site_with_repository();
    let line = "mkdir -p workspace-projects/evil && cp -r .git/. workspace-projects/evil && \
                git config -f workspace-projects/evil/config core.fsmonitor 'touch workspace-projects/ran; false' && \
                echo ../workspace-projects/evil >.git/commondir; mv .git .old; rm -rf .git/hooks; echo tried";
    let output = site.run(&["run", "-w", ".", "--", line]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("tried"));
    run_as_user(site.root(), "git status --porcelain; git log -1 --oneline");
    assert!(!site.root().join("workspace-projects/ran").exists());
}
