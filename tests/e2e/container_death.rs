//! Jobs whose container is killed, frozen, stopped or removed. The real Docker.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::event::{EventBody, FailureKind};
use common::record::{Link, State};
use relay_tests::harness::docker::{docker, docker_may_fail, pause};
use relay_tests::harness::figures::{figure, ms};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, processes, until, until_by};

/// Limit on the time until a container's death is in the record.
const SEEN: Duration = Duration::from_secs(3);

/// Creates a container with a running job that does not end by itself.
fn at_work() -> (Site, String) {
    let site = Site::up(Engine::Docker);
    let job = at_work_in(&site);
    (site, job)
}

fn at_work_in(site: &Site) -> String {
    let job = site.launch_shell("echo begun; until test -e go; do sleep 0.02; done; echo done", &[]);
    until("it has begun", || site.log(&job).contains("begun").then_some(()));
    job
}

/// Causes of lost connections, newest last.
fn causes(site: &Site, job: &str) -> Vec<String> {
    let bodies = site.events(job).into_iter().filter_map(|line| Some(line.event?.body));
    bodies
        .filter_map(|body| match body {
            EventBody::LinkLost { reason } => Some(reason),
            _ => None,
        })
        .collect()
}

/// Waits until the loss of the connection is recorded; returns its cause and the time until then.
fn lost_since(site: &Site, job: &str, since: Instant) -> (String, Duration) {
    // Reads the log itself: each look through the command line would take longer than the measured time.
    let cause = until("the loss is recorded", || causes(site, job).pop());
    (cause, since.elapsed())
}

fn message(site: &Site, job: &str) -> String {
    site.record(job).error.map(|error| error.message).unwrap_or_default()
}

/// Checks that the platform accepts jobs again.
fn works_again(site: &Site) {
    let next = site.launch_shell("true", &[]);
    assert_eq!(outcome(&site.ended(&next)), (State::Completed, None));
}

/// Process id, on the host, of the agent in the container: the child of its first process.
fn agent(site: &Site) -> u32 {
    let init = docker(&["inspect", "--format", "{{.State.Pid}}", &site.container()]);
    until("the agent runs", || {
        let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    })
}

#[test]
#[ignore = "needs Docker"]
fn a_killed_container_is_seen_within_a_second_and_its_job_ends_with_the_exit_code() {
    let (site, job) = at_work();
    let since = Instant::now();
    docker(&["kill", &site.container()]);
    let (cause, seen) = lost_since(&site, &job, since);
    assert_eq!(
        cause,
        format!("the container '{}' exited with code 137: it was killed", site.container()),
        "{}",
        site.daemon_log()
    );
    let record = site.ended(&job);
    let healed = since.elapsed();
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::ContainerExited)));
    assert_eq!(record.exit_code, Some(137));
    assert_eq!(message(&site, &job), format!("{cause}; launch the job again"));
    assert_eq!(site.log(&job), "begun\n", "what was spooled is there");
    assert_eq!(site.run(&["wait", &job]).status.code(), Some(125));
    works_again(&site);
    assert!(seen < SEEN, "{seen:?}");
    figure(&format!(
        "container killed: recorded with its cause {} after `docker kill` was typed, job ended and platform back after {}",
        ms(seen),
        ms(healed)
    ));
}

#[test]
#[ignore = "needs Docker"]
fn a_container_whose_agent_the_kernel_kills_for_memory_ends_its_jobs_as_oom_killed() {
    let (site, job) = at_work();
    let eat = "echo hungry; until test -e eat; do sleep 0.02; done; python3 -c 'x = bytearray(1 << 30)'";
    let glutton = site.launch_shell(eat, &["-n", "glutton"]);
    until("it waits", || site.log(&glutton).contains("hungry").then_some(()));
    // The kernel kills the agent rather than the process that uses up the memory; without its agent the container ends.
    // Processes that were started before do not inherit the setting.
    fs::write(format!("/proc/{}/oom_score_adj", agent(&site)), "1000").unwrap();
    for worker in processes::running("echo hungry") {
        // By default the kernel kills workers first.
        fs::write(format!("/proc/{}/oom_score_adj", worker.pid), "0").unwrap();
    }
    docker(&["update", "--memory", "200m", "--memory-swap", "200m", &site.container()]);
    site.write("workspace-projects/demo/eat", "");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::OomKilled)), "{}", site.daemon_log());
    assert_eq!(record.exit_code, Some(137));
    let message = message(&site, &job);
    assert!(message.contains("it was killed for lack of memory; its limit is 200 MiB"), "{message}");
    figure(&format!("container out of memory: '{message}'"));
}

#[test]
#[ignore = "needs Docker"]
fn an_agent_killed_inside_its_container_is_back_at_once_and_its_job_ends_with_it() {
    let (site, job) = at_work();
    let since = Instant::now();
    processes::kill(agent(&site));
    let (cause, seen) = lost_since(&site, &job, since);
    assert!(cause.contains("exited with code 137"), "{cause}");
    assert_eq!(outcome(&site.ended(&job)), (State::Failed, Some(FailureKind::ContainerExited)));
    let healed = since.elapsed();
    works_again(&site);
    assert!(seen < SEEN, "{seen:?}");
    figure(&format!(
        "agent killed in its container: recorded after {}, healed after {}",
        ms(seen),
        ms(healed)
    ));
}

#[test]
#[ignore = "needs Docker"]
fn a_container_that_dies_while_the_relay_is_dead_still_ends_its_jobs_with_the_cause() {
    let (site, job) = at_work();
    processes::kill(site.daemon_pid());
    docker(&["kill", &site.container()]);
    site.relay(&["up"]);
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::ContainerExited)));
    assert_eq!(record.exit_code, Some(137));
    // The other order: the relay has seen the death, and dies before it has ended the jobs.
    let job = at_work_in(&site);
    docker(&["kill", &site.container()]);
    until("the death is in the lease", || {
        let lease = fs::read_to_string(site.registry().join("relay.json")).ok()?;
        lease.contains("\"exit_code\":137").then_some(())
    });
    processes::kill(site.daemon_pid());
    site.relay(&["up"]);
    assert_eq!(outcome(&site.ended(&job)), (State::Failed, Some(FailureKind::ContainerExited)));
    until("the death is forgotten", || {
        let lease = fs::read_to_string(site.registry().join("relay.json")).ok()?;
        lease.contains("\"death\":null").then_some(())
    });
}

#[test]
#[ignore = "needs Docker"]
fn a_paused_container_is_named_with_the_command_that_wakes_it_and_its_job_goes_on() {
    let (site, job) = at_work();
    let since = Instant::now();
    pause(&site.container());
    let (cause, seen) = lost_since(&site, &job, since);
    let name = site.container();
    assert_eq!(cause, format!("the container '{name}' is paused: `docker unpause {name}`"));
    assert_eq!(site.record(&job).state, State::Running);
    let said = site.refused(5, &["up"]);
    assert!(said.contains("docker unpause"), "{said}");
    // Longer than a connection lives without messages.
    until("the connection has died of silence", || {
        site.daemon_log().contains("no message from the agent").then_some(())
    });
    site.write("workspace-projects/demo/go", "");
    let woken = Instant::now();
    docker(&["unpause", &name]);
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
    let healed = woken.elapsed();
    assert_eq!(causes(&site, &job).len(), 1, "one loss is one event");
    assert!(seen < SEEN, "{seen:?}");
    figure(&format!("container paused: recorded after {}, job ended {} after unpause", ms(seen), ms(healed)));

    // A short pause, which the connection survives.
    fs::remove_file(site.workspace().join("go")).unwrap();
    let job = at_work_in(&site);
    pause(&name);
    lost_since(&site, &job, Instant::now());
    docker(&["unpause", &name]);
    site.record_when(&job, "is back", |record| record.link == Some(Link::Connected));
    site.write("workspace-projects/demo/go", "");
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None));
}

#[test]
#[ignore = "needs Docker"]
fn a_container_that_a_person_stopped_stays_so_until_a_job_wants_it() {
    let site = Site::up(Engine::Docker);
    works_again(&site);
    docker(&["stop", "--time", "10", &site.container()]);
    until("the relay leaves it alone", || {
        let lease = fs::read_to_string(site.registry().join("relay.json")).ok()?;
        lease.contains("was stopped by hand").then_some(())
    });
    let running = || docker(&["inspect", "--format", "{{.State.Running}}", &site.container()]);
    assert_eq!(running(), "false");
    works_again(&site);
    assert_eq!(running(), "true");
    // The engine reports a stop after `docker stop` returns, so that `relay up` may be first.
    for _ in 0..3 {
        docker(&["stop", "--time", "10", &site.container()]);
        site.relay(&["up"]);
        assert_eq!(running(), "true");
    }
}

/// A `relay up` in progress that blocks where it tries a write in the container until [`Held::go_on`].
struct Held<'a> {
    site: &'a Site,
    up: Child,
}

impl<'a> Held<'a> {
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
        until("it tries a write", || site.root().join("held").exists().then_some(()));
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
        until("the relay has seen it", || {
            self.site.daemon_log().contains("container: Stopped").then_some(())
        });
    }

    fn go_on(self) -> Output {
        fs::remove_file(self.site.root().join("hold")).unwrap();
        self.up.wait_with_output().unwrap()
    }
}

#[test]
#[ignore = "needs Docker"]
fn a_container_that_a_person_stops_while_it_is_set_up_is_told_as_that() {
    let site = Site::new(Engine::Docker);
    let held = Held::new(&site);
    held.stop();
    let output = held.go_on();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(5) && said.contains("was stopped by hand"), "{said}");
    site.relay(&["up"]);
    works_again(&site);
}

#[test]
#[ignore = "needs Docker"]
fn a_job_that_comes_while_a_stopped_container_is_set_up_starts_it_again() {
    let site = Site::new(Engine::Docker);
    let held = Held::new(&site);
    held.stop();
    let job = site.launch_shell("true", &[]);
    let taken = || fs::read_dir(site.registry().join("requests")).unwrap().next().is_none().then_some(());
    until("the relay has taken it", taken);
    // Longer than the delay from a death to the new start, which falls into the running attempt and is therefore
    // skipped.
    std::thread::park_timeout(Duration::from_millis(600));
    held.go_on();
    assert_eq!(outcome(&site.ended(&job)), (State::Completed, None), "{}", site.daemon_log());
}

#[test]
#[ignore = "needs Docker"]
fn a_request_for_the_platform_does_not_get_the_outcome_of_an_earlier_attempt() {
    let site = Site::new(Engine::Docker);
    let held = Held::new(&site);
    held.stop();
    let second = Held::up(&site);
    until("the relay has heard it", || {
        site.daemon_log().contains("the platform was requested").then_some(())
    });
    for output in [held.go_on(), second.wait_with_output().unwrap()] {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    works_again(&site);
}

#[test]
#[ignore = "needs Docker"]
fn a_container_that_is_removed_with_its_volume_ends_its_jobs_and_is_made_anew() {
    let (site, job) = at_work();
    let since = Instant::now();
    docker(&["rm", "-f", &site.container()]);
    // The relay may already be creating the next container, which then holds the volume.
    docker_may_fail(&["volume", "rm", &format!("{}-agent", site.container())]);
    let (_, seen) = lost_since(&site, &job, since);
    let record = site.ended(&job);
    assert_eq!(
        outcome(&record),
        (State::Failed, Some(FailureKind::ContainerExited)),
        "{}",
        site.daemon_log()
    );
    works_again(&site);
    assert!(seen < SEEN, "{seen:?}");
    figure(&format!(
        "container removed with its volume: recorded after {}, '{}'",
        ms(seen),
        message(&site, &job)
    ));
}

#[test]
#[ignore = "needs Docker"]
fn jobs_of_a_container_that_can_not_come_back_are_ended_by_the_relay() {
    let image = "relay-test-gone:1";
    docker(&["tag", &relay_tests::harness::docker::image(), image]);
    let site = Site::with_own_image(image);
    site.relay(&["up"]);
    let job = at_work_in(&site);
    let since = Instant::now();
    docker(&["rm", "-f", &site.container()]);
    docker(&["image", "rm", "-f", image]);
    let record = until_by(since + Duration::from_secs(58), "the relay has ended the job", || {
        let record = site.record(&job);
        record.state.is_final().then_some(record)
    });
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::ContainerExited)));
    let message = message(&site, &job);
    assert!(message.contains("can't be restarted") && message.contains(image), "{message}");
    figure(&format!("container gone for good: ended after {}, '{message}'", ms(since.elapsed())));
}

#[test]
#[ignore = "needs Docker"]
fn what_follows_the_engines_events_dies_with_the_relay() {
    let site = Site::up(Engine::Docker);
    let follows = format!("container={}", site.container());
    until("somebody follows", || (!processes::running(&follows).is_empty()).then_some(()));
    processes::kill(site.daemon_pid());
    until("nobody follows any more", || processes::running(&follows).is_empty().then_some(()));
}
