//! Jobs in a container of the real Docker engine.

use std::process::Command;
use std::time::{Duration, Instant};

use common::event::{FailureKind, Isolation};
use common::record::{JobRecord, State};
use relay_tests::harness::docker::{docker, docker_may_fail, gateway, pause};
use relay_tests::harness::figures::{figure, ms};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, programs, until};

use crate::codex;

/// Creates a site whose workers run in a container, and starts its relay.
fn site() -> Site {
    let site = Site::new(Engine::Docker);
    site.relay(&["up"]);
    site
}

#[test]
#[ignore = "needs Docker"]
fn a_shell_job_runs_in_the_container_and_its_files_are_on_the_host() {
    let site = site();
    let job = site
        .launch_shell("cat /etc/hostname; touch made; git --version; node --version; python3 --version", &[]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    assert_eq!(record.engine, "docker");
    let id = docker(&["inspect", "--format", "{{.Config.Hostname}}", &site.container()]);
    assert!(site.log(&job).starts_with(&id), "{}", site.log(&job));
    assert!(site.workspace().join("made").exists());
}

#[test]
#[ignore = "needs Docker"]
fn a_workspace_outside_of_the_mounted_folder_is_refused_with_the_folders_name() {
    let site = Site::new(Engine::Docker);
    let stderr = site.refused(2, &["launch", "-w", ".", "--runner", "shell", "true"]);
    assert!(stderr.contains("workspace-projects"), "{stderr}");
}

#[test]
#[ignore = "needs Docker"]
fn an_image_that_is_missing_is_named_with_the_command_that_builds_it() {
    let site = Site::new(Engine::Docker);
    site.write("platform/relay.toml", "[platform]\nengine = \"docker\"\nimage = \"relay-test-missing:1\"\n");
    let stderr = site.refused(5, &["up"]);
    assert!(stderr.contains("relay-test-missing:1") && stderr.contains("relay up --build"), "{stderr}");
    site.relay(&["down"]);
    site.configure("");
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn a_thread_can_be_resumed_in_the_next_container() {
    let (_model, site) = codex::site(Engine::Docker, &gateway());
    let first = site.ended(&codex::launch(&site, "[script:quick] Be quick."));
    assert_eq!(outcome(&first), (State::Completed, None), "{}", site.log("demo#1"));
    site.relay(&["down"]);
    docker_may_fail(&["rm", "-f", &site.container()]);
    let job = site.relay(&["resume", "-q", "demo", "[script:quick] Once more."]);
    let second = site.ended(job.trim());
    assert_eq!(outcome(&second), (State::Completed, None), "{}", site.log("demo#2"));
    assert_eq!((first.thread_id.is_some(), &first.thread_id), (true, &second.thread_id));
    let tokens = |record: &JobRecord| record.usage.map(|usage| usage.input_tokens);
    assert_eq!((tokens(&first), tokens(&second)), (Some(200), Some(400)));
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn a_whole_codex_task_is_recorded_step_by_step() {
    let (_model, site) = codex::site(Engine::Docker, &gateway());
    codex::create_sample_repository(&site);
    codex::check_whole_task(&site);
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn the_running_step_is_shown_while_it_runs() {
    let (_model, site) = codex::site(Engine::Docker, &gateway());
    codex::create_sample_repository(&site);
    codex::check_current_step_is_shown(&site);
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn threads_and_logs_of_three_workers_at_once_in_a_container_are_separate() {
    let (_model, site) = codex::site(Engine::Docker, &gateway());
    codex::check_three_jobs_at_once(&site);
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn a_cancel_ends_a_worker_and_processes_that_moved_to_other_sessions() {
    let (_model, site) = codex::site(Engine::Docker, &gateway());
    let job = codex::launch(&site, "[script:sleep] Sleep.");
    until("the command runs", || site.workspace().join("escaped").exists().then_some(()));
    site.relay(&["cancel", "--grace", "3s", &job]);
    assert_eq!(outcome(&site.record(&job)), (State::Cancelled, None));
    let left = docker(&["top", &site.container(), "-eo", "pid,args"]);
    assert!(!left.contains("sleep") && !left.contains("codex"), "{left}");
}

#[test]
#[ignore = "needs Docker"]
fn a_worker_goes_on_while_its_relay_is_killed_and_started_again() {
    let site = site();
    let job = site.launch_shell("until test -e go; do sleep 0.02; done; echo done", &[]);
    site.record_when(&job, "runs", |record| record.state == State::Running);
    let pid = site.daemon_pid().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    site.write("workspace-projects/demo/go", "");
    site.relay(&["up"]);
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    assert_eq!(site.log(&job), "done\n");
}

#[test]
#[ignore = "needs Docker"]
fn p16_outcomes_are_recorded_before_docker_stop_kills_the_container() {
    let site = site();
    let lines = ["sleep 1000", "trap '' TERM; sleep 1000; sleep 1000"];
    let jobs = lines.map(|line| site.launch_shell(line, &[]));
    for job in &jobs {
        site.record_when(job, "runs", |record| record.state == State::Running);
    }
    let started = Instant::now();
    // By default Docker kills after 10 s. A slow machine gets more, so that only the agent's own limits end the stop.
    docker(&["stop", "--time", "60", &site.container()]);
    let took = started.elapsed();
    for job in &jobs {
        assert_eq!(outcome(&site.ended(job)), (State::Failed, Some(FailureKind::AgentLost)));
    }
    assert!(took < Duration::from_secs(40), "{took:?}");
    figure(&format!(
        "docker stop with a job that ignores TERM (fault P16): {}, both outcomes recorded",
        ms(took)
    ));
}

#[test]
#[ignore = "needs Docker"]
fn p12_a_worker_that_the_kernel_kills_for_its_memory_ends_as_oom_killed() {
    let site = site();
    docker(&["update", "--memory", "300m", "--memory-swap", "300m", &site.container()]);
    let record =
        site.ended(&site.launch_shell("exec python3 -c 'x = bytearray(1 << 30); print(len(x))'", &[]));
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::OomKilled)));
    assert_eq!(record.exit_code, Some(137));
    let message = record.error.unwrap().message;
    assert!(message.contains("300 MiB"), "{message}");
    // A shell that ran the killed process ends the same way. A kill by another process is not reported as a lack of
    // memory.
    let below = site.launch_shell("python3 -c 'x = bytearray(1 << 30)'; exit $?", &[]);
    assert_eq!(outcome(&site.ended(&below)), (State::Failed, Some(FailureKind::OomKilled)));
    let other = site.launch_shell("kill -9 $$", &[]);
    assert_eq!(outcome(&site.ended(&other)), (State::Failed, Some(FailureKind::Exited)));
    figure(&format!("a job killed for lack of memory (fault P12): '{message}'"));
}

#[test]
#[ignore = "needs Docker"]
fn t02_time_in_a_paused_container_does_not_count_for_limits() {
    let site = site();
    let work = "i=0; while [ $i -lt 20 ]; do sleep 0.1; i=$((i+1)); done";
    // One second of a pause counts, so three of the nine seconds of the limit are used. With the pause it would be ten.
    let jobs = [0; 4].map(|_| site.launch_shell(work, &["--step-timeout", "command=9s"]));
    for job in &jobs {
        site.record_when(job, "runs", |record| record.state == State::Running);
    }
    pause(&site.container());
    let started = Instant::now();
    until("eight seconds have passed", || (started.elapsed() > Duration::from_secs(8)).then_some(()));
    docker(&["unpause", &site.container()]);
    for job in &jobs {
        assert_eq!(outcome(&site.ended(job)), (State::Completed, None));
    }
    figure("container paused for 8 s, limit 9 s, 2 s of work (fault T02): false kills 0 of 4");
}

#[test]
#[ignore = "needs Docker"]
fn docker_inspect_shows_neither_the_token_nor_the_key_of_the_model() {
    let site = Site::new(Engine::Docker);
    let up = site.command(&["up"]).env("CODEX_API_KEY", "sk-canary-1234").output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let shown = docker(&["inspect", &site.container()]);
    let token =
        docker(&["exec", "-u", "root", &site.container(), "cat", "/var/lib/worker-agent/config.json"]);
    let token: serde_json::Value = serde_json::from_str(&token).unwrap();
    assert!(!shown.contains(token["token"].as_str().unwrap()) && !shown.contains("canary"), "{shown}");
    let mode =
        docker(&["exec", &site.container(), "stat", "-c", "%a %u", "/var/lib/worker-agent/config.json"]);
    assert_eq!(mode, "600 0");
}

#[test]
#[ignore = "needs Docker"]
fn a_worker_of_a_container_runs_as_the_owner_of_the_workspaces_folder() {
    let site = Site::with_own_image("relay-test-user:1");
    let owned = site.root().join("workspace-projects");
    for path in [&owned, &site.workspace()] {
        std::os::unix::fs::chown(path, Some(1234), Some(1234)).unwrap();
    }
    site.relay(&["up", "--build"]);
    let job =
        site.launch_shell("id -u; id -un; touch mine; cat /var/lib/worker-agent/config.json; kill -9 1", &[]);
    let record = site.ended(&job);
    assert_eq!(record.isolation, Some(Isolation::Container));
    assert!(site.log(&job).starts_with("1234\nworker\n"), "{}", site.log(&job));
    assert!(!site.log(&job).contains("token"), "{}", site.log(&job));
    let made = std::fs::metadata(site.workspace().join("mine")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 1234);
    check_stall_evidence(&site);
}

/// Checks that a stall in a container is reported with its address and bytes. The agent is root in the container, and
/// may inspect processes of the worker only with the worker's rights.
fn check_stall_evidence(site: &Site) {
    let server =
        "python3 -c 'import socket, time; s = socket.create_server((\"127.0.0.1\", 4873)); time.sleep(1000)'";
    let server = site.launch_shell(server, &["-n", "server"]);
    let up = "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 4873))'";
    until("the server listens", || {
        let probe = site.launch_shell(up, &["-n", "probe"]);
        (site.ended(&probe).state == State::Completed).then_some(())
    });
    let hang = "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 4873)).recv(1)'";
    let record = site.ended(&site.launch_shell(hang, &["--stall", "command=3s"]));
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::Stalled)));
    let message = record.error.unwrap().message;
    assert!(
        message.contains("python3 (pid") && message.contains("TCP 127.0.0.1:4873 ESTABLISHED"),
        "{message}"
    );
    assert!(record.steps[0].resources.is_some_and(|used| used.peak_memory > 0));
    site.relay(&["cancel", &server]);
}

#[test]
#[ignore = "needs Docker"]
fn the_agent_is_static_and_runs_a_shell_job_in_an_image_with_only_busybox() {
    let image = "relay-test-scratch:1";
    let site = Site::with_own_image(image);
    let context = site.root().join("scratch");
    std::fs::create_dir(&context).unwrap();
    for file in ["Dockerfile", "passwd"] {
        std::fs::copy(programs::workspace().join("tests/images/scratch").join(file), context.join(file))
            .unwrap();
    }
    std::fs::copy(programs::dir().join("worker-agent"), context.join("worker-agent")).unwrap();
    std::fs::copy("/bin/busybox", context.join("busybox")).unwrap();
    docker(&["build", "-q", "-t", image, context.to_str().unwrap()]);
    site.relay(&["up"]);
    let job = site.launch_shell("busybox uname -s", &[]);
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None), "{}", site.log(&job));
    assert_eq!(site.log(&job), "Linux\n");
}
