//! Twelve ways in which processes try to survive the end of their job. All must fail: the test counts survivors in
//! `/proc`.
//!
//! Every process of a test job has a mark in its environment, which it can't remove. The names of some ways end with
//! the id of the fault that they test (`P01` to `P10`; `tests/README.md` explains the ids). Fault `P14` requires the
//! same of an agent that is a process of the host, and of one in a container, where `tini` is the first process.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use common::event::EventBody;
use common::record::{JobRecord, State};
use relay_tests::harness::figures::{figure, ms, percentile, times};
use relay_tests::harness::{Engine, PATIENCE, Site, processes};

/// Environment variable with the mark: the name of the site's folder, and the number of the job within the test.
const MARK_VARIABLE: &str = "RELAY_TEST_ESCAPE";
/// Grace period of a cancel, from the request to KILL.
const GRACE: Duration = Duration::from_millis(300);
/// Number of jobs of each shape in a batch. Of these 60 jobs 35 run until they are cancelled; the agent has 50 slots.
const AT_ONCE: usize = 5;

/// A way in which processes of a job try to survive.
struct Shape {
    /// Description, and the fault id if the way has one.
    name: &'static str,
    /// Command line of the job; `$RELAY_TEST_UID` is the id of a user who has no other processes.
    line: &'static str,
    /// Number of processes that the job must have before it is cancelled. Zero for a job that ends by itself at once:
    /// the test is about the processes that such a job leaves behind.
    min_processes: usize,
}

static SHAPES: [Shape; 12] = [
    Shape {
        name: "ignores TERM (fault P01)",
        line: "trap '' TERM HUP INT; sleep 600; sleep 600",
        min_processes: 2,
    },
    Shape { name: "session of its own (fault P02)", line: "setsid sleep 600 & wait", min_processes: 2 },
    Shape {
        name: "double fork, streams closed (fault P03)",
        line: "(setsid sh -c 'sleep 600; true' </dev/null >/dev/null 2>&1 &); true",
        min_processes: 0,
    },
    Shape { name: "grandchild holds stdout (fault P04)", line: "sleep 600 & exit 0", min_processes: 0 },
    Shape {
        name: "process substitution (fault P05)",
        line: "bash -c 'exec > >(tee -a tee.out; sleep 600) 2>&1; true'",
        min_processes: 0,
    },
    Shape {
        name: "stopped child and grandchild (fault P06)",
        line: "sh -c 'sleep 600 & kill -STOP $!; kill -STOP $$' & sleep 600; true",
        min_processes: 4,
    },
    Shape {
        name: "fork bomb (fault P07)",
        line: "exec 2>/dev/null; setpriv --reuid $RELAY_TEST_UID --clear-groups \
               bash -c 'ulimit -u 24; b() { b | b & }; b'; sleep 600",
        min_processes: 10,
    },
    Shape {
        name: "another user (fault P10)",
        line: "setpriv --reuid $RELAY_TEST_UID --clear-groups setsid sleep 600 & wait",
        min_processes: 2,
    },
    Shape {
        name: "nested sessions",
        line: "setsid sh -c 'setsid sh -c \"trap : TERM; setsid sleep 600 & wait; wait\" & wait' & wait",
        min_processes: 4,
    },
    Shape {
        // tmux and screen start a daemon like this, with a session and a terminal of its own.
        name: "detached terminal session",
        line: "(setsid script -qfc 'sleep 600; true' /dev/null </dev/null >/dev/null 2>&1 &); sleep 600; true",
        min_processes: 5,
    },
    Shape { name: "nohup", line: "nohup sh -c 'sleep 600; true' >/dev/null 2>&1 & exit 0", min_processes: 0 },
    Shape {
        name: "disown",
        line: "bash -c 'sleep 600 >/dev/null 2>&1 & disown -a; exit 0'",
        min_processes: 0,
    },
];

/// A job with one of the shapes.
struct Attempt {
    shape: &'static Shape,
    job: String,
    mark: String,
}

/// Result of all jobs of a shape.
struct Score {
    jobs: usize,
    survivors: usize,
    /// Times from the end of the grace period to the end of the last process, of each cancelled job.
    overruns: Vec<Duration>,
}

#[test]
fn p14_nothing_escapes_where_the_agent_is_a_process_of_this_machine() {
    check_nothing_escapes(Engine::Local, "local");
}

#[test]
#[ignore = "needs Docker"]
fn p14_nothing_escapes_in_a_container_where_tini_is_the_first() {
    check_nothing_escapes(Engine::Docker, "docker");
}

/// Runs batches of jobs of all shapes, and checks that no process survives its job.
fn check_nothing_escapes(engine: Engine, name: &str) {
    let site = Site::new(engine);
    site.configure("max_jobs = 50");
    site.relay(&["up"]);
    let (mut all, mut overruns) = (Vec::<Attempt>::new(), BTreeMap::new());
    let mut unchecked = 0;
    for batch in 0..times(30, 1000) / AT_ONCE {
        let attempts = launch(&site, engine, batch);
        overruns.extend(cancel(&site, &attempts));
        // Jobs of the previous batch have ended by now, although the test has not waited for them.
        check(&site, &all[unchecked..]);
        unchecked = all.len();
        all.extend(attempts);
    }
    check(&site, &all[unchecked..]);
    let left = count_processes(&site);
    let scores = SHAPES.iter().map(|shape| {
        let of_shape = || all.iter().filter(|attempt| std::ptr::eq(attempt.shape, shape));
        Score {
            jobs: of_shape().count(),
            survivors: of_shape().filter_map(|attempt| left.get(&attempt.mark)).sum(),
            overruns: of_shape().filter_map(|attempt| overruns.get(&attempt.mark)).copied().collect(),
        }
    });
    let scores: Vec<Score> = scores.collect();
    report_scores(name, &scores);
    assert_eq!(left, BTreeMap::new());
    assert!(scores.iter().all(|score| score.jobs == all.len() / SHAPES.len()));
}

fn report_scores(engine: &str, scores: &[Score]) {
    for (shape, score) in SHAPES.iter().zip(scores) {
        let end = match shape.min_processes {
            0 => String::from("ended by itself"),
            _ => format!("end p99 {} over the grace", ms(percentile(score.overruns.clone(), 99))),
        };
        let Score { jobs, survivors, .. } = score;
        figure(&format!("{}, {engine}: {jobs} jobs, {survivors} survivors, {end}", shape.name));
    }
    let jobs: usize = scores.iter().map(|score| score.jobs).sum();
    let survivors: usize = scores.iter().map(|score| score.survivors).sum();
    let overruns: Vec<Duration> = scores.iter().flat_map(|score| score.overruns.clone()).collect();
    let (half, end) = (percentile(overruns.clone(), 50), percentile(overruns, 99));
    let times = format!("end p50 {}, p99 {} over the grace", ms(half), ms(end));
    figure(&format!("escapes {engine}: {jobs} jobs, {survivors} survivors, {times}"));
    assert_eq!(survivors, 0);
    // The bound is generous: some 35 jobs end at once, a few of them fork bombs. No process ends by itself for minutes.
    assert!(end < Duration::from_secs(30), "{end:?}");
}

/// Launches the jobs of a batch, and waits until each has the processes that its shape requires.
fn launch(site: &Site, engine: Engine, batch: usize) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for (n, shape) in (0..AT_ONCE).flat_map(|_| SHAPES.iter()).enumerate() {
        let n = batch * AT_ONCE * SHAPES.len() + n;
        let mark = format!("{}-{n}", folder_name(site));
        // Every fork bomb has a user of its own, so that it can't use up the limit of the others. A container has the
        // same users as the machine.
        let user = if engine == Engine::Local { 70_000 } else { 80_000 } + n % 10_000;
        let variables = [format!("{MARK_VARIABLE}={mark}"), format!("RELAY_TEST_UID={user}")];
        let job = site.launch_shell(shape.line, &["--env", &variables[0], "--env", &variables[1]]);
        attempts.push(Attempt { shape, job, mark });
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = count_processes(site);
        let late = attempts
            .iter()
            .find(|attempt| found.get(&attempt.mark).copied().unwrap_or(0) < attempt.shape.min_processes);
        let Some(late) = late else { return attempts };
        let (shape, job) = (late.shape.name, &late.job);
        assert!(
            Instant::now() < deadline,
            "{shape} has not started all its processes ({:?}): {:#?}\n{}",
            found.get(&late.mark),
            site.record(job),
            site.log(job)
        );
    }
}

/// Cancels the jobs that don't end by themselves. Returns for each job the time from the end of the grace period to the
/// end of the job's last process. The grace period begins with the event `stopping` in the job's log.
fn cancel(site: &Site, attempts: &[Attempt]) -> BTreeMap<String, Duration> {
    let lasting: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.shape.min_processes > 0).collect();
    let grace = ms(GRACE).replace(' ', "");
    let mut words = vec!["cancel", "--grace", &grace];
    words.extend(lasting.iter().map(|attempt| attempt.job.as_str()));
    let mut cancel = processes::OwnedChild(site.command(&words).stdout(Stdio::null()).spawn().unwrap());
    let mut gone: BTreeMap<&str, SystemTime> = BTreeMap::new();
    loop {
        let over = cancel.try_wait().unwrap().is_some();
        let found = count_processes(site);
        // A process counts as ended after the first scan without it: slightly late, never early.
        let scanned_at = SystemTime::now();
        for mark in lasting.iter().map(|attempt| attempt.mark.as_str()) {
            if found.contains_key(mark) {
                gone.remove(mark);
            } else {
                gone.entry(mark).or_insert(scanned_at);
            }
        }
        if over {
            break;
        }
    }
    // With exit code 8 a slow machine has not reported all ends in time; the test waits for them later.
    let code = cancel.wait().unwrap().code();
    assert!(matches!(code, Some(0 | 8)), "{code:?}: {}", site.daemon_log());
    let overrun = |attempt: &&Attempt| {
        let stopping =
            site.events(&attempt.job).into_iter().filter_map(|line| line.event).find_map(|event| {
                matches!(event.body, EventBody::Stopping { .. }).then(|| SystemTime::from(event.at))
            });
        let kill_at = stopping.unwrap() + GRACE;
        let over =
            gone.get(attempt.mark.as_str()).map(|gone| gone.duration_since(kill_at).unwrap_or_default());
        // A process that is still running is counted as a survivor at the end.
        (attempt.mark.clone(), over.unwrap_or_default())
    };
    lasting.iter().map(overrun).collect()
}

/// Waits for the end of jobs, and checks that each was cancelled or completed as its shape requires.
fn check(site: &Site, attempts: &[Attempt]) {
    let jobs: Vec<&str> = attempts.iter().map(|attempt| attempt.job.as_str()).collect();
    if jobs.is_empty() {
        return;
    }
    let waited = site.run(&[&["wait"], jobs.as_slice()].concat());
    // `relay wait` returns the exit code of the worst outcome: some jobs were cancelled.
    assert_eq!(waited.status.code(), Some(130), "{}", String::from_utf8_lossy(&waited.stderr));
    for (attempt, record) in attempts.iter().zip(records(site, &jobs)) {
        let expected = if attempt.shape.min_processes > 0 { State::Cancelled } else { State::Completed };
        assert_eq!(record.state, expected, "{}: {record:#?}", attempt.shape.name);
        assert_eq!(record.cleanup.map(|cleanup| cleanup.survivors), Some(0), "{}", attempt.shape.name);
    }
}

fn records(site: &Site, jobs: &[&str]) -> Vec<JobRecord> {
    let json = site.relay(&[&["status", "--json"], jobs].concat());
    json.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the number of living processes of each job of this site, by mark.
fn count_processes(site: &Site) -> BTreeMap<String, usize> {
    let own = format!("{}-", folder_name(site));
    let found = processes::count_by_variable(MARK_VARIABLE);
    found.into_iter().filter(|(mark, _)| mark.starts_with(&own)).collect()
}

fn folder_name(site: &Site) -> String {
    site.root().file_name().unwrap().to_string_lossy().into_owned()
}
