//! Limits and rights of the container of a job.

use common::event::FailureKind;
use common::record::State;
use relay_tests::harness::docker::docker;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Site, until};

use super::site;

#[test]
#[ignore = "needs Docker"]
fn a_container_has_limits_few_capabilities_and_no_way_to_more() {
    let site = site("cpus = 1.5\n");
    let look = "cat /proc/self/oom_score_adj /proc/1/oom_score_adj; until test -e go; do sleep 0.02; done";
    let job = site.launch_running(look, &[]);
    let name = site.box_of(&job);
    let format = "{{with .HostConfig}}{{.Memory}} {{.MemorySwap}} {{.PidsLimit}} {{.NanoCpus}} {{.CapDrop}} \
                  {{len .CapAdd}} {{.SecurityOpt}} {{.Privileged}}{{end}}";
    let limits = docker(&["inspect", "--format", format, &name]);
    let four_gib = 4_u64 << 30;
    assert_eq!(limits, format!("{four_gib} {four_gib} 512 1500000000 [ALL] 6 [no-new-privileges] false"));
    site.write("workspace-projects/demo/go", "");
    site.ended(&job);
    let log = site.log(&job);
    let scores: Vec<i32> = log.lines().map(|line| line.parse().unwrap()).collect();
    assert!(scores[0] > scores[1], "the kernel kills a worker before the agent: {scores:?}");
}

/// Line that a neighbour prints again and again, until the file `go` exists.
const NEIGHBOUR: &str = "until test -e go; do echo beat; sleep 0.1; done; sh -c 'echo done'";

/// A job that runs beside the bomb of another one.
struct Neighbour<'a> {
    site: &'a Site,
    job: String,
}

impl<'a> Neighbour<'a> {
    fn start(site: &'a Site) -> Self {
        let job = site.launch_running(NEIGHBOUR, &["-n", "neighbour"]);
        Self { site, job }
    }

    fn beats(&self) -> usize {
        self.site.log(&self.job).matches("beat").count()
    }

    /// Checks that the neighbour's work and its agent's messages go on, then ends the neighbour.
    fn check_and_end(self) {
        let before = self.beats();
        until("the neighbour goes on", || (self.beats() > before + 2).then_some(()));
        let record = self.site.record(&self.job);
        assert_eq!((record.state, record.warnings.count), (State::Running, 0), "{record:?}");
        self.site.write("workspace-projects/demo/go", "");
        assert_eq!(outcome(&self.site.ended(&self.job)), (State::Completed, None));
        self.site.wait_for_no_box();
    }
}

#[test]
#[ignore = "needs Docker"]
fn a_job_over_the_memory_of_its_container_ends_as_oom_killed_with_the_limit() {
    let site = site("memory = \"256MiB\"\n");
    let neighbour = Neighbour::start(&site);
    let job = site.launch_shell("exec python3 -c 'x = bytearray(1 << 30); print(len(x))'", &[]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::OomKilled)));
    let message = record.error.unwrap().message;
    assert!(message.contains("256 MiB"), "{message}");
    neighbour.check_and_end();
}

#[test]
#[ignore = "needs Docker"]
fn a_job_that_starts_too_many_processes_is_told_the_limit_of_its_own_container() {
    let site = site("pids = 64\n");
    let neighbour = Neighbour::start(&site);
    let bomb = "python3 -c 'import os, time\nfor n in range(100):\n  if os.fork() == 0: time.sleep(1000)'";
    let record = site.ended(&site.launch_shell(bomb, &[]));
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::Exited)), "{record:?}");
    let message = record.error.unwrap().message;
    assert!(
        message.ends_with("has reached the limit of 64 processes and threads ([platform] pids)"),
        "{message}"
    );
    let warning = record.warnings.newest.first().cloned().unwrap_or_default();
    assert!(warning.contains("limit of 64 processes"), "{warning}");
    neighbour.check_and_end();
}

#[test]
#[ignore = "needs Docker"]
fn a_fork_bomb_that_never_ends_is_ended_at_the_limit_of_its_job() {
    let site = site("pids = 64\n");
    let neighbour = Neighbour::start(&site);
    let bomb = "b() { b | b & }; b; sleep 1000";
    let job = site.launch_shell(&format!("exec bash -c '{bomb}'"), &["--timeout", "4s"]);
    let record = site.ended(&job);
    assert_eq!(record.state, State::Failed, "{record:?}");
    let message = record.error.unwrap().message;
    assert!(record.warnings.newest.iter().any(|text| text.contains("limit of 64 processes")), "{message}");
    neighbour.check_and_end();
}

#[test]
#[ignore = "needs Docker"]
fn a_job_that_fills_the_disk_of_its_container_ends_with_what_it_used_and_the_limit() {
    let site = site("disk = \"64MiB\"\n");
    let neighbour = Neighbour::start(&site);
    // A little at a time: without a limit this ends after a while with 600 MiB.
    let fill = "for n in $(seq 300); do head -c 2097152 /dev/zero >>~/fill; sleep 0.05; done; echo full";
    let job = site.launch_shell(fill, &[]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::DiskLimit)), "{record:?}");
    let message = record.error.unwrap().message;
    assert!(message.contains(" MiB of disk space") && message.contains("may use 64 MiB"), "{message}");
    assert!(!site.log(&job).contains("full"));
    neighbour.check_and_end();
}

#[test]
#[ignore = "needs Docker"]
fn files_of_the_mounted_workspace_do_not_count_as_disk_space_of_the_container() {
    let site = site("disk = \"64MiB\"\n");
    let write = "head -c 104857600 /dev/zero >large; sleep 3; rm large";
    let record = site.ended(&site.launch_shell(write, &[]));
    assert_eq!(outcome(&record), (State::Completed, None), "{record:?}");
    site.wait_for_no_box();
}
