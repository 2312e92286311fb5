//! Kills of relay, agent and container while jobs fetch their places (the clones that they work in) and push their
//! results.
//!
//! The random kills of a run are determined by a seed, which the test prints. `RELAY_TEST_SEED=N` repeats a run.

use std::env;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::event::{EventBody, FailureKind};
use common::record::{JobRecord, State};
use common::result::JobResult;
use relay_tests::harness::docker::docker;
use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::repository::{Noise, git};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, processes, until, until_by};
use rustix::process::{Pid, Signal, kill_process};

use crate::recovery::agent_pid;

/// Number of projects that run at the same time, each with a relay and an agent of its own.
const PROJECTS: u64 = 4;
/// Number of commits of each job.
const COMMITS: u64 = 3;
/// Size of each commit, in bytes. A transfer of this size takes some 10 ms, so that kills hit transfers.
const COMMIT_SIZE: usize = 300_000;
/// Maximum time from the beginning of a transfer to a kill, in milliseconds.
const MAX_PAUSE_MS: u64 = 40;
/// Maximum wait for a transfer before a kill. There may be none, because the job may have ended.
const TRANSFER_WAIT: Duration = Duration::from_secs(3);
/// Stall limit of a fetch. It is short, so that a job does not wait for a killed relay for long.
const STALL: &str = "15s";
/// Maximum time for all jobs to end after the last kill.
const PATIENCE: Duration = Duration::from_secs(400);

/// Numbers of kills, of transfers that were hit, and of results, in one project or in all.
#[derive(Debug, Default)]
struct Tally {
    relays: u64,
    agents: u64,
    fetches: u64,
    pushes: u64,
    completed: u64,
    lost: u64,
    commits: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.relays += other.relays;
        self.agents += other.agents;
        self.fetches += other.fetches;
        self.pushes += other.pushes;
        self.completed += other.completed;
        self.lost += other.lost;
        self.commits += other.commits;
    }
}

/// A project whose relay and agent are killed again and again.
struct Project {
    site: Site,
    root: PathBuf,
    noise: Noise,
    tally: Tally,
}

impl Project {
    fn new(seed: u64) -> Self {
        let site = Site::up(Engine::Local);
        let (root, mut noise) = (site.workspace(), Noise(seed));
        std::fs::write(root.join("base"), noise.bytes(COMMIT_SIZE)).unwrap();
        git(&root, &["init", "-q", "-b", "main"]);
        git(&root, &["add", "."]);
        git(&root, &["commit", "-qm", "base"]);
        Self { site, root, noise, tally: Tally::default() }
    }

    /// Launches a job and kills relay or agent, as often as `kills` says; returns the jobs.
    fn kill_at_random(&mut self, kills: u64) -> Vec<String> {
        let line = format!(
            "for i in $(seq {COMMITS}); do head -c {COMMIT_SIZE} /dev/urandom > change$i; git add .; \
             git commit -qm change$i; done"
        );
        (0..kills)
            .map(|_| {
                let job = self.site.launch_shell(&line, &["--branch", "--stall", STALL]);
                self.kill_one();
                job
            })
            .collect()
    }

    /// Kills relay or agent during a fetch or a push. The seed determines the victim, the transfer and the instant.
    fn kill_one(&mut self) {
        let is_relay = self.noise.below(3) > 0;
        let victim = if is_relay { self.site.daemon_pid() } else { agent_pid(&self.site) };
        let wanted = if self.noise.below(3) == 0 { "upload-pack" } else { "receive-pack" };
        let repositories = self.site.state().join("repositories").display().to_string();
        let is_under_way =
            |service: &str| processes::running(&repositories).iter().any(|git| git.command.contains(service));
        let started = Instant::now();
        while started.elapsed() < TRANSFER_WAIT && !is_under_way(wanted) {
            thread::park_timeout(Duration::from_millis(10));
        }
        thread::park_timeout(Duration::from_millis(self.noise.below(MAX_PAUSE_MS)));
        self.tally.fetches += u64::from(is_under_way("upload-pack"));
        self.tally.pushes += u64::from(is_under_way("receive-pack"));
        processes::kill(victim);
        if is_relay {
            self.tally.relays += 1;
            self.site.relay(&["up"]);
        } else {
            self.tally.agents += 1;
        }
    }

    /// Checks that a job has ended with a complete result or with a reason.
    fn check(&mut self, job: &str) {
        let record = self.site.record(job);
        let result = record.result.clone().unwrap();
        let commits = self.commits_of(&result);
        let warnings = warnings(&self.site, job);
        match outcome(&record) {
            (State::Completed, None) => {
                assert!(commits == COMMITS || !warnings.is_empty(), "{job}: {commits} commits: {record:#?}");
                self.tally.completed += 1;
            }
            (State::Failed, Some(FailureKind::AgentLost)) => self.tally.lost += 1,
            other => panic!("{job}: {other:?}: {record:#?}"),
        }
        self.tally.commits += commits;
    }

    /// Returns the number of commits of a result. Its branch must hold the job's first commits, or not exist.
    fn commits_of(&self, result: &JobResult) -> u64 {
        assert_eq!(result.note, None, "{result:?}");
        let name = format!("refs/heads/{}", result.branch);
        let found = git(&self.root, &["for-each-ref", "--format=%(objectname)", &name]);
        assert_eq!(found, result.commit.clone().unwrap_or_default(), "{result:?}");
        if found.is_empty() {
            return 0;
        }
        let subjects = git(&self.root, &["log", "--reverse", "--format=%s", &format!("main..{name}")]);
        let expected: Vec<String> = (1..=COMMITS).map(|n| format!("change{n}")).collect();
        let mut subjects: Vec<&str> = subjects.lines().collect();
        // After a kill the next agent commits uncommitted changes.
        subjects.pop_if(|subject| *subject == "relay: uncommitted changes");
        assert_eq!(subjects, expected[..subjects.len()], "{result:?}");
        git(&self.root, &["merge-base", "--is-ancestor", "main", &name]);
        subjects.len() as u64
    }
}

fn warnings(site: &Site, job: &str) -> Vec<String> {
    let events = site.events(job).into_iter().filter_map(|line| line.event);
    let messages = events.filter_map(|event| match event.body {
        EventBody::Warning { message } => Some(message),
        _ => None,
    });
    messages.collect()
}

/// Returns the seed of this run: `RELAY_TEST_SEED` if it is set, otherwise a new one.
fn seed_of_run() -> u64 {
    let given = env::var("RELAY_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into())
}

#[test]
fn random_kills_during_fetch_and_push_leave_each_job_a_result_or_a_reason() {
    let (seed, kills) = (seed_of_run(), times(60, 2000));
    println!("RELAY_TEST_SEED={seed}");
    let started = Instant::now();
    let project = |number: u64| {
        let mut project = Project::new(seed.wrapping_add(number));
        let jobs = project.kill_at_random(kills / PROJECTS);
        let deadline = Instant::now() + PATIENCE;
        // `relay wait` costs less than reading all records again and again.
        let wait = ["wait", "--timeout", "400s"].map(str::to_owned).into_iter().chain(jobs.clone());
        project.site.run(&wait.collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>());
        for job in &jobs {
            until_by(deadline, &format!("{job} has ended with its result"), || {
                let record = project.site.record(job);
                (record.state.is_final() && record.result.is_some()).then_some(())
            });
        }
        for job in &jobs {
            project.check(job);
        }
        git(&project.root, &["fsck", "--strict", "--no-dangling"]);
        project.tally
    };
    let mut all = Tally::default();
    thread::scope(|scope| {
        let running: Vec<_> = (0..PROJECTS).map(|n| scope.spawn(move || project(n))).collect();
        for running in running {
            all.add(&running.join().unwrap());
        }
    });
    let Tally { relays, agents, fetches, pushes, completed, lost, commits } = all;
    figure(&format!(
        "random kills, seed {seed}: {relays} relays and {agents} agents killed, during {fetches} fetches and {pushes} pushes, in \
         {:.0} s; jobs completed {completed}, lost with their agent {lost}, with {commits} commits; half \
         branches 0",
        started.elapsed().as_secs_f64()
    ));
    assert_eq!(relays + agents, kills);
    assert!(fetches > 0 && pushes > 0, "too few kills have hit a transfer");
}

/// Runs a job that commits and goes on, calls `kill` 5 s after the commit, and checks that the result has the commit.
fn check_commit_survives(site: &Site, kill: impl FnOnce()) {
    let root = site.workspace();
    git(&root, &["init", "-q", "-b", "main"]);
    git(&root, &["add", "."]);
    git(&root, &["commit", "-qm", "base"]);
    let line = "echo more >> README; git commit -qam early; echo committed; echo later >> README; sleep 1000";
    let job = site.launch_running(line, &["--branch"]);
    until("the job has committed", || site.log(&job).contains("committed").then_some(()));
    // Only commits older than 5 s must survive.
    thread::park_timeout(Duration::from_secs(5));
    kill();
    let record: JobRecord = site.ended(&job);
    assert_eq!(record.state, State::Failed, "{record:#?}");
    let result = until("the result is recorded", || site.record(&job).result);
    let subjects = git(&root, &["log", "--format=%s", &format!("main..{}", result.branch)]);
    assert_eq!(subjects.lines().last(), Some("early"), "{result:?}");
}

/// Kills the agent and all processes in its places, and removes the places, as if the machine and its disk were lost.
fn kill_agent_and_place_processes(site: &Site, places: &Path) {
    let agent = agent_pid(site);
    let agent_process = Pid::from_raw(i32::try_from(agent).unwrap()).unwrap();
    kill_process(agent_process, Signal::STOP).unwrap();
    let workers = processes::inside(places);
    assert!(!workers.is_empty());
    std::fs::remove_dir_all(places).unwrap();
    for worker in workers {
        processes::kill(worker.pid);
    }
    processes::kill(agent);
}

#[test]
fn a_commit_survives_the_death_of_agent_worker_and_place() {
    let site = Site::up(Engine::Local);
    check_commit_survives(&site, || {
        kill_agent_and_place_processes(&site, &site.state().join("agent.places"));
    });
}

#[test]
#[ignore = "needs Docker"]
fn a_commit_survives_the_death_of_its_container() {
    let site = Site::up(Engine::Docker);
    check_commit_survives(&site, || drop(docker(&["kill", &site.container()])));
}

#[test]
fn the_next_agent_hands_over_the_result_that_a_killed_agent_left_in_a_place() {
    let site = Site::up(Engine::Local);
    let root = site.workspace();
    git(&root, &["init", "-q", "-b", "main"]);
    git(&root, &["add", "."]);
    git(&root, &["commit", "-qm", "base"]);
    let line = "echo more >> README; git commit -qam early; echo later >> README; echo edited; sleep 1000";
    let job = site.launch_running(line, &["--branch"]);
    until("the job has edited", || site.log(&job).contains("edited").then_some(()));
    processes::kill(agent_pid(&site));
    assert_eq!(outcome(&site.ended(&job)), (State::Failed, Some(FailureKind::AgentLost)));
    let result = until("the result is recorded", || site.record(&job).result);
    let subjects = git(&root, &["log", "--format=%s", &format!("main..{}", result.branch)]);
    assert_eq!(subjects, "relay: uncommitted changes\nearly");
    assert_eq!(warnings(&site, &job), [] as [&str; 0]);
    let places = site.state().join("agent.places");
    until("the place is removed", || (std::fs::read_dir(&places).unwrap().count() == 0).then_some(()));
}
