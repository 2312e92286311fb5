//! Registries with many events, many readers or many jobs.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::event::{Event, EventBody};
use common::event_line::EventLine;
use common::record::{JobRecord, State};
use relay_tests::harness::figures::{figure, ms, percentile, times};
use relay_tests::harness::{Engine, Site, processes, until};

#[test]
fn s09_a_record_is_rebuilt_from_a_long_log_and_one_of_a_newer_relay_is_kept() {
    let site = Site::new(Engine::Local);
    let job = site.launch_running("sleep 1000", &[]);
    processes::kill(site.daemon_pid());
    let without = serve_time(&site);
    processes::kill(site.daemon_pid());
    // The test writes the log of a job with very many events and without a record.
    let count = times(100_000, 1_000_000);
    let lines = site.events(&job);
    let first = lines[0].to_bytes().unwrap();
    let mut log = String::from_utf8(first).unwrap().replace("demo#1", "long#1").into_bytes();
    log = with_new_checksum(&log);
    for seq in 1..=count {
        let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let body = EventBody::Message { text: format!("number {seq}") };
        let event = Some(Event { at, body });
        let line = EventLine {
            id: 1000 + seq,
            job: "long#1".parse().unwrap(),
            epoch: 1,
            seq,
            event,
            ..lines[1].clone()
        };
        log.extend(EventLine { source: common::event_line::Source::Agent, ..line }.to_bytes().unwrap());
    }
    fs::write(site.registry().join("long.1.events.jsonl"), &log).unwrap();
    let future = fs::read_to_string(site.registry().join("demo.1.json")).unwrap();
    let future = future.replace("\"schema\":1", "\"schema\":2").replace("demo#1", "future#1");
    fs::write(site.registry().join("future.1.json"), &future).unwrap();
    let rebuilt = serve_time(&site).saturating_sub(without);
    let record = site.record("long.1");
    assert_eq!((record.seq, record.epoch), (count, 1));
    let kept = fs::read_to_string(site.registry().join("future.1.json")).unwrap();
    assert_eq!(kept, future);
    assert!(site.relay(&["status", "future.1"]).contains("a newer relay"));
    let other = site.launch_shell("true", &[]);
    assert_eq!(site.ended(&other).state, State::Completed);
    let million = rebuilt.as_secs_f64() * 1000.0 * 1e6 / f64::from(u32::try_from(count).unwrap());
    figure(&format!(
        "record lost (fault S09): made again from {count} events in {} ({million:.0} ms for a million)",
        ms(rebuilt)
    ));
    site.relay(&["cancel", "--grace", "1s", &job]);
    for job in ["long.1", "future.1"] {
        // The site's checks would fail for these jobs, which never ran.
        for ending in ["json", "events.jsonl", "log", "spec"] {
            let _ = fs::remove_file(site.registry().join(format!("{job}.{ending}")));
        }
    }
}

/// Starts a relay and returns the time until it serves the registry, with all recovery.
fn serve_time(site: &Site) -> Duration {
    let started = Instant::now();
    let mut relay = site.command(&["serve"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    until("the relay serves", || {
        assert!(relay.try_wait().unwrap().is_none(), "the relay has ended");
        (site.daemon_pid() == relay.id()).then_some(())
    });
    site.address();
    started.elapsed()
}

/// Returns the first line of `long#1`, which was changed by hand, with the right checksum.
fn with_new_checksum(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(line.to_vec()).unwrap();
    let body = text.split_once(",\"crc\"").unwrap().0;
    let mut value: serde_json::Value = serde_json::from_str(&format!("{body}}}")).unwrap();
    let queued = value.as_object_mut().unwrap();
    let (id, at) = (queued["id"].as_u64().unwrap(), queued["at"].as_str().unwrap().parse().unwrap());
    for key in ["v", "id", "job", "epoch", "seq", "at", "source", "type"] {
        queued.remove(key);
    }
    let body = EventBody::Queued(serde_json::from_value(value).unwrap());
    let event = Some(Event { at, body });
    let source = common::event_line::Source::Relay;
    EventLine { id, job: "long#1".parse().unwrap(), epoch: 0, seq: 1, source, event }.to_bytes().unwrap()
}

#[test]
fn s10_fifty_simultaneous_readers_always_get_a_complete_record() {
    let site = Site::new(Engine::Local);
    let checks: Vec<String> = (0..30).map(|n| format!("echo {n}; sleep 0.05")).collect();
    let flags: Vec<&str> = checks.iter().flat_map(|check| ["--check", check.as_str()]).collect();
    let job = site.launch_shell("seq 100", &flags);
    let reads = times(1000, 100_000);
    let (done, invalid) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                while done.fetch_add(1, Ordering::Relaxed) < reads {
                    let output = site.run(&["status", "--json", &job]);
                    let record = serde_json::from_slice::<JobRecord>(&output.stdout);
                    invalid.fetch_add(
                        usize::from(!output.status.success() || record.is_err()),
                        Ordering::Relaxed,
                    );
                }
            });
        }
    });
    let invalid = invalid.into_inner();
    site.ended(&job);
    figure(&format!("50 readers beside a writer (fault S10): invalid {invalid} of {reads}"));
    assert_eq!(invalid, 0);
}

#[test]
fn s15_up_launch_and_status_are_fast_in_a_registry_with_many_ended_jobs() {
    let site = Site::new(Engine::Local);
    site.ended(&site.launch_shell("echo first", &[]));
    site.relay(&["down"]);
    let jobs = times(1000, 10_000);
    write_copies(&site, jobs, "2020-01-01T00:00:00Z");
    let median = |site: &Site, args: &[&str]| {
        let times = (0..15).map(|_| {
            let started = Instant::now();
            site.relay(args);
            started.elapsed()
        });
        percentile(times.collect(), 50)
    };
    site.relay(&["up"]);
    until("all but 200 are archived", || (count_archived(&site) + 200 >= jobs).then_some(()));
    site.relay(&["down"]);
    let started = Instant::now();
    site.relay(&["up"]);
    let start = started.elapsed();
    let status = median(&site, &["status", "--json", "--latest"]);
    let launch = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "-n", "new", "true"];
    let launch = median(&site, &launch);
    let memory = fs::read_to_string(format!("/proc/{}/status", site.daemon_pid())).unwrap();
    let memory = memory.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned();
    until("the launched jobs have ended", || {
        let listed = site.relay(&["status", "--json", "-n", "100"]);
        let mut records = listed.lines().map(|line| serde_json::from_str::<JobRecord>(line).unwrap());
        records.all(|record| record.state.is_final()).then_some(())
    });
    let pruned = site.relay(&["prune", "--keep", "10"]);
    assert!(pruned.contains(" removed (") && pruned.trim_end().ends_with("10 archived"), "{pruned}");
    assert_eq!(count_archived(&site), 10);
    figure(&format!(
        "{jobs} ended jobs (fault S15): relay up {}, status {}, launch {} (medians), relay {memory}",
        ms(start),
        ms(status),
        ms(launch)
    ));
    let slowest = start.max(status).max(launch);
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}

#[test]
fn relay_prune_also_removes_the_log_of_a_job_in_the_workspace() {
    let site = Site::new(Engine::Local);
    site.ended(&site.launch_shell("true", &[]));
    site.ended(&site.launch_shell("true", &["-n", "kept"]));
    site.relay(&["down"]);
    // The 199 copies and `kept` are newer, so only demo#1 is archived.
    write_copies(&site, 199, "2030-01-01T00:00:00Z");
    site.relay(&["up"]);
    until("demo#1 is archived", || (count_archived(&site) == 1).then_some(()));
    let logs = |name: &str| site.workspace().join(".codex-worker").join(name).exists();
    assert!(logs("demo.1") && logs("kept.1"));
    assert!(site.relay(&["prune", "--keep", "0"]).starts_with("1 removed (demo#1)"));
    assert!(!logs("demo.1") && logs("kept.1"));
}

fn count_archived(site: &Site) -> usize {
    let entries = fs::read_dir(site.registry().join("archive")).unwrap().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json")).count()
}

/// Writes `jobs` copies of demo#1 into the registry, as jobs that ended at the time `at`.
fn write_copies(site: &Site, jobs: usize, at: &str) {
    let lines = site.events("demo.1");
    for n in 0..jobs {
        let stem = format!("old-{n}.1");
        let job: common::ids::JobId = stem.parse().unwrap();
        let mut bytes = Vec::new();
        let mut copied = lines.clone();
        for line in &mut copied {
            line.job = job.clone();
            if let Some(event) = &mut line.event {
                event.at = at.parse().unwrap();
                if let EventBody::Queued(queued) = &mut event.body {
                    queued.log_path = queued.log_path.replace("demo.1", &stem);
                    queued.events_path = queued.events_path.replace("demo.1", &stem);
                }
            }
            bytes.extend(line.to_bytes().unwrap());
        }
        let record = JobRecord::rebuild(&copied).unwrap().to_bytes().unwrap();
        fs::write(site.registry().join(format!("{stem}.events.jsonl")), bytes).unwrap();
        fs::write(site.registry().join(format!("{stem}.json")), record).unwrap();
    }
}
