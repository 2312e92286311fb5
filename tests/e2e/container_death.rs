//! Jobs whose container is killed, paused, stopped or removed, with the real Docker engine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::event::{EventBody, FailureKind};
use common::record::{Link, State};
use relay_tests::harness::docker::{docker, docker_may_fail, pause};
use relay_tests::harness::figures::{figure, ms};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, processes, until};

/// Maximum time until a lost container is in the record: less than the 14 s after which a silent connection is lost.
const MAX_DETECTION: Duration = Duration::from_secs(12);

/// Creates a site with a running job that ends when the file `go` exists.
fn site_with_running_job() -> (Site, String) {
    let site = Site::up(Engine::Docker);
    let job = launch_job_until_go(&site);
    (site, job)
}

/// Launches a job that runs until the file `go` exists in its workspace.
fn launch_job_until_go(site: &Site) -> String {
    let job = site.launch_shell("echo begun; until test -e go; do sleep 0.02; done; echo done", &[]);
    until("the job has begun", || site.log(&job).contains("begun").then_some(()));
    job
}

/// Returns the causes of lost connections in the log of a job, newest last.
fn loss_causes(site: &Site, job: &str) -> Vec<String> {
    let bodies = site.events(job).into_iter().filter_map(|line| Some(line.event?.body));
    bodies
        .filter_map(|body| match body {
            EventBody::LinkLost { reason } => Some(reason),
            _ => None,
        })
        .collect()
}

/// Waits until the log of a job records a lost connection. Returns the cause, and the time since `since`.
fn wait_for_loss(site: &Site, job: &str, since: Instant) -> (String, Duration) {
    // The log is read directly, because a command would take longer than the measured time.
    let cause = until("the loss is recorded", || loss_causes(site, job).pop());
    (cause, since.elapsed())
}

fn error_message(site: &Site, job: &str) -> String {
    site.record(job).error.map(|error| error.message).unwrap_or_default()
}

/// Checks that the platform runs a new job.
fn check_platform_works(site: &Site) {
    let next = site.launch_shell("true", &[]);
    assert_eq!(outcome(&site.ended(&next)), (State::Completed, None));
}

/// Returns the agent's process id on the host. The agent is the child of the container's first process.
fn agent_pid(site: &Site) -> u32 {
    let init = docker(&["inspect", "--format", "{{.State.Pid}}", &site.container()]);
    until("the agent runs", || {
        let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    })
}

#[test]
#[ignore = "needs Docker"]
fn a_job_whose_container_is_killed_ends_with_the_cause_and_the_exit_code() {
    let (site, job) = site_with_running_job();
    let since = Instant::now();
    docker(&["kill", &site.container()]);
    // The engine may report the exit so late that the loss is recorded as that of a connection.
    let (_, seen) = wait_for_loss(&site, &job, since);
    let record = site.ended(&job);
    let healed = since.elapsed();
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::ContainerExited)));
    assert_eq!(record.exit_code, Some(137));
    let cause = format!("the container '{}' exited with code 137: it was killed", site.container());
    assert_eq!(error_message(&site, &job), format!("{cause}; launch the job again"), "{}", site.daemon_log());
    assert_eq!(site.log(&job), "begun\n", "spooled output is kept");
    assert_eq!(site.run(&["wait", &job]).status.code(), Some(125));
    check_platform_works(&site);
    assert!(seen < MAX_DETECTION, "{seen:?}");
    figure(&format!(
        "container killed: recorded {} after `docker kill` was typed, job ended and platform back after {}",
        ms(seen),
        ms(healed)
    ));
}

#[test]
#[ignore = "needs Docker"]
fn a_container_whose_agent_the_kernel_kills_for_memory_ends_its_jobs_as_oom_killed() {
    let (site, job) = site_with_running_job();
    let eat = "echo hungry; until test -e eat; do sleep 0.02; done; python3 -c 'x = bytearray(1 << 30)'";
    let glutton = site.launch_shell(eat, &["-n", "glutton"]);
    until("it waits", || site.log(&glutton).contains("hungry").then_some(()));
    // The setting makes the kernel kill the agent instead of the process that uses up the memory. The container then
    // ends. Running processes don't inherit the setting.
    fs::write(format!("/proc/{}/oom_score_adj", agent_pid(&site)), "1000").unwrap();
    for worker in processes::running("echo hungry") {
        // The shims let the kernel kill workers first; the test resets that.
        fs::write(format!("/proc/{}/oom_score_adj", worker.pid), "0").unwrap();
    }
    docker(&["update", "--memory", "200m", "--memory-swap", "200m", &site.container()]);
    site.write("workspace-projects/demo/eat", "");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::OomKilled)), "{}", site.daemon_log());
    assert_eq!(record.exit_code, Some(137));
    let message = error_message(&site, &job);
    assert!(message.contains("it was killed for lack of memory; its limit is 200 MiB"), "{message}");
    figure(&format!("container out of memory: '{message}'"));
}

#[test]
#[ignore = "needs Docker"]
fn a_container_whose_agent_is_killed_is_restarted_and_its_job_ends() {
    let (site, job) = site_with_running_job();
    let since = Instant::now();
    processes::kill(agent_pid(&site));
    let (_, seen) = wait_for_loss(&site, &job, since);
    assert_eq!(outcome(&site.ended(&job)), (State::Failed, Some(FailureKind::ContainerExited)));
    let message = error_message(&site, &job);
    assert!(message.contains("exited with code 137"), "{message}");
    let healed = since.elapsed();
    check_platform_works(&site);
    assert!(seen < MAX_DETECTION, "{seen:?}");
    figure(&format!(
        "agent killed in its container: recorded after {}, healed after {}",
        ms(seen),
        ms(healed)
    ));
}

#[test]
#[ignore = "needs Docker"]
fn a_container_that_dies_while_the_relay_is_dead_still_ends_its_jobs_with_the_cause() {
    let (site, job) = site_with_running_job();
    processes::kill(site.daemon_pid());
    docker(&["kill", &site.container()]);
    site.relay(&["up"]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::ContainerExited)));
    assert_eq!(record.exit_code, Some(137));
    // This time the relay dies after it has recorded the container's death, and before it has ended the jobs.
    let job = launch_job_until_go(&site);
    docker(&["kill", &site.container()]);
    until("the death is in the lease", || {
        let lease = fs::read_to_string(site.registry().join("relay.json")).ok()?;
        lease.contains("\"exit_code\":137").then_some(())
    });
    processes::kill(site.daemon_pid());
    site.relay(&["up"]);
    assert_eq!(outcome(&site.ended(&job)), (State::Failed, Some(FailureKind::ContainerExited)));
    until("the death is removed from the lease", || {
        let lease = fs::read_to_string(site.registry().join("relay.json")).ok()?;
        lease.contains("\"death\":null").then_some(())
    });
}

#[test]
#[ignore = "needs Docker"]
fn a_paused_container_is_named_with_its_unpause_command_and_the_job_goes_on() {
    let (site, job) = site_with_running_job();
    let since = Instant::now();
    pause(&site.container());
    let (cause, seen) = wait_for_loss(&site, &job, since);
    let name = site.container();
    assert_eq!(cause, format!("the container '{name}' is paused: `docker unpause {name}`"));
    assert_eq!(site.record(&job).state, State::Running);
    let stderr = site.refused(5, &["up"]);
    assert!(stderr.contains("docker unpause"), "{stderr}");
    // This takes longer than a connection lives without messages.
    until("the connection has died of silence", || {
        site.daemon_log().contains("no message from the agent").then_some(())
    });
    site.write("workspace-projects/demo/go", "");
    let woken = Instant::now();
    docker(&["unpause", &name]);
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    let healed = woken.elapsed();
    assert_eq!(loss_causes(&site, &job).len(), 1, "one loss is one event");
    assert!(seen < MAX_DETECTION, "{seen:?}");
    figure(&format!("container paused: recorded after {}, job ended {} after unpause", ms(seen), ms(healed)));

    // A short pause, which the connection survives.
    fs::remove_file(site.workspace().join("go")).unwrap();
    let job = launch_job_until_go(&site);
    pause(&name);
    wait_for_loss(&site, &job, Instant::now());
    docker(&["unpause", &name]);
    site.record_when(&job, "is back", |record| record.link == Some(Link::Connected));
    site.write("workspace-projects/demo/go", "");
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
}

#[test]
#[ignore = "needs Docker"]
fn a_container_that_a_person_stopped_is_started_by_the_next_job() {
    let site = Site::up(Engine::Docker);
    check_platform_works(&site);
    docker(&["stop", "--time", "10", &site.container()]);
    until("the relay has recorded the stop", || {
        let lease = fs::read_to_string(site.registry().join("relay.json")).ok()?;
        lease.contains("was stopped by hand").then_some(())
    });
    let running = || docker(&["inspect", "--format", "{{.State.Running}}", &site.container()]);
    assert_eq!(running(), "false");
    check_platform_works(&site);
    assert_eq!(running(), "true");
    // The engine reports a stop after `docker stop` returns, so that `relay up` may be first.
    for _ in 0..3 {
        docker(&["stop", "--time", "10", &site.container()]);
        site.relay(&["up"]);
        assert_eq!(running(), "true");
    }
}

/// A running `relay up` that a script instead of `docker` holds during its test write, until [`HeldUp::release`].
struct HeldUp<'a> {
    site: &'a Site,
    up: Child,
}

impl<'a> HeldUp<'a> {
    fn new(site: &'a Site) -> Self {
        let real = String::from_utf8(Command::new("which").arg("docker").output().unwrap().stdout).unwrap();
        let (root, real) = (site.root().display(), real.trim());
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *relay-try*)\n: >'{root}/held'\nwhile test -e '{root}/hold'; do sleep 0.02; done\n\
             esac\nexec '{real}' \"$@\"\n"
        );
        site.write("bin/docker", &script);
        fs::set_permissions(site.root().join("bin/docker"), fs::Permissions::from_mode(0o755)).unwrap();
        site.write("hold", "");
        let up = Self::up(site);
        until("relay up tests writing", || site.root().join("held").exists().then_some(()));
        Self { site, up }
    }

    fn up(site: &Site) -> Child {
        let path = format!("{}/bin:{}", site.root().display(), std::env::var("PATH").unwrap());
        let mut up = site.command(&["up"]);
        up.env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Stops the container as a person would.
    fn stop(&self) {
        docker(&["stop", "--time", "10", &self.site.container()]);
        until("the relay has seen the stop", || {
            self.site.daemon_log().contains("container: Stopped").then_some(())
        });
    }

    fn release(self) -> Output {
        fs::remove_file(self.site.root().join("hold")).unwrap();
        self.up.wait_with_output().unwrap()
    }
}

#[test]
#[ignore = "needs Docker"]
fn a_container_that_a_person_stops_during_its_setup_is_reported_as_stopped() {
    let site = Site::new(Engine::Docker);
    let held_up = HeldUp::new(&site);
    held_up.stop();
    let output = held_up.release();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(5) && stderr.contains("was stopped by hand"), "{stderr}");
    site.relay(&["up"]);
    check_platform_works(&site);
}

#[test]
#[ignore = "needs Docker"]
fn a_job_launched_while_a_stopped_container_is_set_up_starts_it_again() {
    let site = Site::new(Engine::Docker);
    let held_up = HeldUp::new(&site);
    held_up.stop();
    let job = site.launch_shell("true", &[]);
    let taken = || fs::read_dir(site.registry().join("requests")).unwrap().next().is_none().then_some(());
    until("the relay has received the job", taken);
    // The wait is longer than the delay between a container's death and its restart. The restart is skipped, because
    // the attempt to set the container up is still running.
    std::thread::park_timeout(Duration::from_millis(600));
    held_up.release();
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None), "{}", site.daemon_log());
}

#[test]
#[ignore = "needs Docker"]
fn a_request_for_the_platform_does_not_get_the_outcome_of_an_earlier_attempt() {
    let site = Site::new(Engine::Docker);
    let held_up = HeldUp::new(&site);
    held_up.stop();
    let second = HeldUp::up(&site);
    until("the relay has received the request", || {
        site.daemon_log().contains("the platform was requested").then_some(())
    });
    for output in [held_up.release(), second.wait_with_output().unwrap()] {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    check_platform_works(&site);
}

#[test]
#[ignore = "needs Docker"]
fn a_container_removed_with_its_volume_ends_its_jobs_and_is_created_again() {
    let (site, job) = site_with_running_job();
    let since = Instant::now();
    docker(&["rm", "-f", &site.container()]);
    // The relay may already be creating the next container, which then holds the volume.
    docker_may_fail(&["volume", "rm", &format!("{}-agent", site.container())]);
    let (_, seen) = wait_for_loss(&site, &job, since);
    let record = site.ended(&job);
    assert_eq!(
        outcome(&record),
        (State::Failed, Some(FailureKind::ContainerExited)),
        "{}",
        site.daemon_log()
    );
    check_platform_works(&site);
    assert!(seen < MAX_DETECTION, "{seen:?}");
    figure(&format!(
        "container removed with its volume: recorded after {}, '{}'",
        ms(seen),
        error_message(&site, &job)
    ));
}

#[test]
#[ignore = "needs Docker"]
fn jobs_of_a_container_that_can_not_come_back_are_ended_by_the_relay() {
    let image = "relay-test-gone:1";
    docker(&["tag", &relay_tests::harness::docker::image(), image]);
    let site = Site::with_own_image(image);
    site.relay(&["up"]);
    let job = launch_job_until_go(&site);
    let since = Instant::now();
    docker(&["rm", "-f", &site.container()]);
    docker(&["image", "rm", "-f", image]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::ContainerExited)));
    let message = error_message(&site, &job);
    assert!(message.contains("can't be restarted") && message.contains(image), "{message}");
    figure(&format!("container gone for good: ended after {}, '{message}'", ms(since.elapsed())));
}

#[test]
#[ignore = "needs Docker"]
fn the_process_that_follows_the_engine_s_events_ends_with_the_relay() {
    let site = Site::up(Engine::Docker);
    let follows = format!("label=relay.registry={}", site.registry().display());
    until("a process follows", || (!processes::running(&follows).is_empty()).then_some(()));
    processes::kill(site.daemon_pid());
    until("no process follows any more", || processes::running(&follows).is_empty().then_some(()));
}
