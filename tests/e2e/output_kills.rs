//! Kills of agent and container while a job has files in its output folder: the next agent hands the files over.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::event::FailureKind;
use common::record::{JobRecord, State};
use relay_tests::harness::docker::docker;
use relay_tests::harness::repository::git;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, processes, until};

use crate::recovery::agent_pid;

/// Command line of a job that fills its output folder, also with entries that are not kept, and goes on.
const FILL: &str = "echo one > $RELAY_OUTPUT/a; mkdir $RELAY_OUTPUT/sub; printf 'two\\000' > $RELAY_OUTPUT/sub/b; \
                    ln -s /etc/passwd $RELAY_OUTPUT/link; mkfifo $RELAY_OUTPUT/pipe; echo written; sleep 1000";
/// Command line of a job whose output takes a second to hand over.
const FILL_MUCH: &str =
    "truncate -s 250M $RELAY_OUTPUT/big; echo one > $RELAY_OUTPUT/small; echo written; sleep 1000";
/// Number of agents that try to hand over what a job has left.
const MAX_RECOVERIES: usize = 5;

/// Launches a job, and waits until it has filled its output folder.
fn launch(site: &Site, line: &str, flags: &[&str]) -> String {
    let job = site.launch_running(line, flags);
    until("the output is written", || site.log(&job).contains("written").then_some(()));
    job
}

/// Checks that the output of a job with the command line [`FILL`] was handed over, with a warning about the rest.
fn check_handed_over(site: &Site, job: &str) -> JobRecord {
    let record = site.ended(job);
    assert_eq!(record.state, State::Failed, "{record:#?}");
    let warning = "output that is not kept: link is a symbolic link; pipe is no regular file";
    assert_eq!(record.warnings.newest, [warning]);
    let status = site.relay(&["status", job]);
    assert!(status.contains(warning), "{status}");
    assert_eq!(site.relay(&["output", job]), "           4  a\n           4  sub/b\n");
    assert_eq!(site.relay(&["output", job, "sub/b"]), "two\0");
    record
}

/// Waits until nothing is left in the folder of all output folders.
fn wait_until_removed(outputs: &Path) {
    until("the output folders are removed", || (fs::read_dir(outputs).unwrap().count() == 0).then_some(()));
}

fn outputs(site: &Site) -> PathBuf {
    site.state().join("agent.outputs")
}

/// Waits for a collector that is not in `seen`, and kills its agent.
fn kill_agent_while_it_collects(site: &Site, seen: &mut BTreeSet<u32>) {
    let collector = until("the next agent collects the output", || {
        let inside = processes::inside(&outputs(site)).into_iter();
        inside
            .filter(|process| process.command.ends_with(" collect-output") && !seen.contains(&process.pid))
            .map(|process| process.pid)
            .next()
    });
    seen.insert(collector);
    processes::kill(agent_pid(site));
}

#[test]
fn the_next_agent_hands_over_the_output_of_jobs_with_and_without_a_clone() {
    let site = Site::up(Engine::Local);
    let root = site.workspace();
    git(&root, &["init", "-q", "-b", "main"]);
    git(&root, &["add", "."]);
    git(&root, &["commit", "-qm", "base"]);
    let with_clone = launch(&site, &format!("echo more >> README; {FILL}"), &["--branch"]);
    let in_place = launch(&site, FILL, &["--in-place"]);
    processes::kill(agent_pid(&site));
    for job in [&with_clone, &in_place] {
        let record = check_handed_over(&site, job);
        assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::AgentLost)));
    }
    let result = until("the result is recorded", || site.record(&with_clone).result);
    assert_eq!(git(&root, &["log", "-1", "--format=%s", &result.branch]), "relay: uncommitted changes");
    wait_until_removed(&outputs(&site));
}

#[test]
fn the_output_of_a_killed_job_is_whole_also_if_an_agent_is_killed_while_it_hands_it_over() {
    let site = Site::up(Engine::Local);
    let job = launch(&site, FILL_MUCH, &["--in-place"]);
    processes::kill(agent_pid(&site));
    kill_agent_while_it_collects(&site, &mut BTreeSet::new());
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::AgentLost)));
    assert_eq!(record.warnings.count, 0, "{record:#?}");
    assert_eq!(site.relay(&["output", &job]), "   262144000  big\n           4  small\n");
    wait_until_removed(&outputs(&site));
    assert_eq!(fs::read_dir(site.state().join("outputs")).unwrap().count(), 1, "one archive, no part of one");
}

#[test]
fn an_output_whose_hand_over_ends_each_agent_is_kept_and_the_job_ends() {
    let site = Site::up(Engine::Local);
    let job = launch(&site, FILL_MUCH, &["--in-place"]);
    processes::kill(agent_pid(&site));
    let mut seen = BTreeSet::new();
    for _ in 0..MAX_RECOVERIES {
        kill_agent_while_it_collects(&site, &mut seen);
    }
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::AgentLost)));
    let folder = outputs(&site).join("demo.1");
    let warning = format!(
        "the output could not be handed over: the agent has ended 5 times meanwhile; it is in {} on the agent's machine",
        folder.display()
    );
    assert_eq!(record.warnings.newest, [warning]);
    assert_eq!(site.relay(&["output", &job]), "");
    assert_eq!(fs::read(folder.join("small")).unwrap(), b"one\n");
}

#[test]
fn an_output_that_the_relay_can_not_store_is_kept_and_the_job_ends_with_the_reason() {
    let site = Site::up(Engine::Local);
    fs::write(site.state().join("outputs"), "in the way").unwrap();
    let job = launch(&site, FILL, &["--in-place"]);
    processes::kill(agent_pid(&site));
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::AgentLost)));
    let folder = outputs(&site).join("demo.1");
    let [warning] = &record.warnings.newest[..] else { panic!("{record:#?}") };
    assert!(
        warning.starts_with("the output could not be handed over: the output can't be stored: "),
        "{warning}"
    );
    assert!(warning.contains(&folder.display().to_string()), "{warning}");
    assert_eq!(fs::read(folder.join("a")).unwrap(), b"one\n");
}

#[test]
#[ignore = "needs the real Codex"]
fn the_output_of_a_job_whose_agent_was_killed_is_read_in_the_sandbox() {
    let site = Site::new(Engine::Local);
    site.configure_in_sandbox("");
    site.relay(&["up"]);
    // The agent does not follow what looks like a link to a repository.
    let job =
        launch(&site, &format!("echo 'gitdir: /nowhere' > $RELAY_OUTPUT/.git; {FILL}"), &["--in-place"]);
    processes::kill(agent_pid(&site));
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::AgentLost)));
    let listed = site.relay(&["output", &job]);
    assert_eq!(listed, "          17  .git\n           4  a\n           4  sub/b\n", "{record:#?}");
    let mut agents = fs::read_dir(site.home().join(".local/share/relay/outputs")).unwrap();
    wait_until_removed(&agents.next().unwrap().unwrap().path());
}

#[test]
#[ignore = "needs Docker"]
fn the_output_of_jobs_survives_the_death_of_their_container() {
    let site = Site::up(Engine::Docker);
    let job = launch(&site, FILL, &["--in-place"]);
    docker(&["kill", &site.container()]);
    let record = check_handed_over(&site, &job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::ContainerExited)));
    let left = docker(&["exec", &site.container(), "ls", "-A", "/var/lib/worker-agent.outputs"]);
    assert_eq!(left, "");
}
