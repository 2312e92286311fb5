//! A registry that was removed gives the ids of its jobs again. The state that relay keeps elsewhere stays.

use std::fs;

use common::record::State;
use common::result::ResultState;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site};

use crate::places::{git, make_repository, result_when};

/// Runs a job in a clone, which commits, has a check and leaves output. Returns its id.
fn run_job(site: &Site, text: &str) -> String {
    let line = format!(
        "echo {text} > made; echo {text} > $RELAY_OUTPUT/{text}; git add made; git commit -qm {text}"
    );
    let job = site.launch_shell(&line, &["--branch", "--check", "true"]);
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None), "{}", site.log(&job));
    result_when(site, &job, ResultState::Open);
    job
}

/// Checks that the commands show the change, the output and the receipt of this job alone.
fn check_shows_only(site: &Site, job: &str, text: &str) {
    let diff = site.relay(&["diff", job]);
    let added: Vec<&str> = diff.lines().filter(|line| line.starts_with('+')).collect();
    assert_eq!(added, ["+++ b/made", &format!("+{text}")], "{diff}");
    let output = site.relay(&["output", job]);
    assert_eq!(output.split_whitespace().last(), Some(text), "{output}");
    assert_eq!(output.lines().count(), 1, "{output}");
    let verified = site.relay(&["verify", job]);
    assert!(verified.contains(&format!("{job} is verified")), "{verified}");
}

#[test]
fn a_job_uses_nothing_of_one_with_its_id_whose_registry_was_removed() {
    let site = Site::up(Engine::Local);
    let root = make_repository(&site);
    let first = run_job(&site, "first");
    // The relay starts before the launch, and then because of the launch.
    for (text, starts_first) in [("second", true), ("third", false)] {
        site.relay(&["down"]);
        fs::remove_dir_all(site.registry()).unwrap();
        git(&root, &["commit", "-q", "--allow-empty", "-am", text]);
        if starts_first {
            site.relay(&["up"]);
        }
        let job = run_job(&site, text);
        assert_eq!(job, first);
        check_shows_only(&site, &job, text);
        let log = site.daemon_log();
        assert!(log.contains("jobs that the registry does not have (demo#1"), "{log}");
    }
    let leftovers = fs::read_dir(site.state().join("leftovers")).unwrap();
    let folders: Vec<_> = leftovers.map(|day| day.unwrap().path()).collect();
    let files = folders.iter().flat_map(|day| fs::read_dir(day).unwrap());
    let names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    for ending in [".git", ".tar", ".json"] {
        let count = names.iter().filter(|name| name.starts_with("demo.1-") && name.ends_with(ending)).count();
        assert_eq!(count, 2, "{ending}: {names:?}");
    }
}

#[test]
fn a_restored_registry_finds_the_state_of_its_jobs_again() {
    let site = Site::up(Engine::Local);
    make_repository(&site);
    let job = run_job(&site, "first");
    site.relay(&["down"]);
    let backup = site.registry().with_extension("backup");
    fs::rename(site.registry(), &backup).unwrap();
    site.relay(&["up"]);
    assert!(site.state().join("leftovers").exists());
    site.relay(&["down"]);
    fs::remove_dir_all(site.registry()).unwrap();
    fs::rename(&backup, site.registry()).unwrap();
    site.relay(&["up"]);
    check_shows_only(&site, &job, "first");
}
