//! Limits and rights of the container of a job.

use common::event::FailureKind;
use common::record::State;
use relay_tests::harness::docker::docker;
use relay_tests::harness::site::outcome;

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

#[test]
#[ignore = "needs Docker"]
fn a_job_over_the_memory_of_its_container_ends_as_oom_killed_with_the_limit() {
    let site = site("memory = \"256MiB\"\n");
    let neighbour = site.launch_running("until test -e go; do sleep 0.02; done", &[]);
    let job = site.launch_shell("exec python3 -c 'x = bytearray(1 << 30); print(len(x))'", &[]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::OomKilled)));
    let message = record.error.unwrap().message;
    assert!(message.contains("256 MiB"), "{message}");
    site.write("workspace-projects/demo/go", "");
    assert_eq!(outcome(&site.ended(&neighbour)), (State::Completed, None));
    site.wait_for_no_box();
}

#[test]
#[ignore = "needs Docker"]
fn a_fork_bomb_meets_the_limit_of_its_own_container() {
    let site = site("pids = 64\n");
    let neighbour = site.launch_running("until test -e go; do sleep 0.02; done; sh -c 'true'", &[]);
    let bomb = "python3 -c 'import os, time\nfor n in range(100):\n  if os.fork() == 0: time.sleep(1000)'";
    let job = site.launch_shell(bomb, &[]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::Exited)), "{}", site.log(&job));
    assert!(site.log(&job).contains("Resource temporarily unavailable"), "{}", site.log(&job));
    site.write("workspace-projects/demo/go", "");
    assert_eq!(outcome(&site.ended(&neighbour)), (State::Completed, None));
}
