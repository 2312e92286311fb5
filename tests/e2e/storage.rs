//! Disks that are full, fail, or have lost the end of a file. Tests that mount or trace need root.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::record::{Link, State};
use relay_tests::harness::figures::{figure, ms};
use relay_tests::harness::mount::{Mounted, fill_disk, use_all_inodes};
use relay_tests::harness::strace::Strace;
use relay_tests::harness::{Engine, Site, processes, until};

/// Returns every name in the registry, except those of the daemon's temporary files.
fn file_names(site: &Site) -> Vec<String> {
    let entries = fs::read_dir(site.registry()).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with(".relay.json") && !name.starts_with(".reserve"));
    names.sort();
    names
}

/// Returns a command line that waits for a file in the workspace.
fn wait_for(name: &str) -> String {
    format!("until test -e {name}; do sleep 0.02; done")
}

#[test]
#[ignore = "mounts a file system"]
fn s01_on_a_full_disk_launches_are_refused_and_outcomes_are_recorded() {
    let mounted = Mounted::tmpfs(Site::new(Engine::Local), "2m");
    let site = &mounted.site;
    let go = |name: &str| site.write(&format!("workspace-projects/demo/{name}"), "");
    let ends = site.launch_shell(&format!("echo begun; {}; seq 20000; echo ended", wait_for("end")), &[]);
    let stays = site.launch_shell(
        &format!("{}; echo over", wait_for("stay")),
        &["--setup", &wait_for("setup"), "--setup", &wait_for("more")],
    );
    for job in [&ends, &stays] {
        site.record_when(job, "has a step", |record| record.steps.iter().any(|step| step.outcome.is_none()));
    }
    let filler = site.registry().join("filler");
    let full_since = Instant::now();
    fill_disk(&filler);

    let before = file_names(site);
    let stderr =
        site.refused(5, &["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "true"]);
    assert!(stderr.contains("is full") && stderr.lines().count() == 1, "{stderr}");
    assert_eq!(file_names(site), before, "a refused launch leaves no file");
    go("setup");
    site.record_when(&stays, "is at the next step or without a connection", |record| {
        record.steps_total == 2 || record.link == Some(Link::Lost)
    });
    go("more");
    site.record_when(&stays, "is without a connection", |record| record.link == Some(Link::Lost));
    let started = Instant::now();
    go("end");
    assert_eq!(site.ended(&ends).state, State::Completed);
    let ended = started.elapsed();
    let stderr =
        site.refused(5, &["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "true"]);
    assert!(stderr.contains("is full"), "{stderr}");
    let reconnects = fs::read_to_string(site.agent().join("agent.log")).unwrap();
    let (reconnects, full) = (reconnects.matches("connected to").count(), full_since.elapsed());

    fs::remove_file(&filler).unwrap();
    let freed = Instant::now();
    site.record_when(&stays, "goes on", |record| record.link == Some(Link::Connected));
    let healed = freed.elapsed();
    go("stay");
    assert_eq!(site.ended(&stays).state, State::Completed);
    let next = site.launch_shell("true", &[]);
    assert_eq!(site.ended(&next).state, State::Completed);
    // The agent makes its pauses longer; without pauses it would connect hundreds of times a second.
    let max_reconnects = 5 + full.as_secs();
    assert!(reconnects as u64 <= max_reconnects, "{reconnects} connections in {full:?}");
    let log = fs::read_to_string(site.registry().join("demo.1.log")).unwrap();
    assert!(
        log.starts_with("begun\n") && log.contains("left out: the relay's disk was full"),
        "{} bytes",
        log.len()
    );
    let lost = site.events(&stays).into_iter().filter_map(|line| line.event);
    let lost =
        lost.filter(|event| matches!(&event.body, EventBody::LinkLost { reason } if reason.contains("full")));
    // The disk may have a little free space for short times.
    assert!((1..=3).contains(&lost.count()), "the loss is in the log, but not again and again");
    let corrupt = file_names(site).iter().filter(|name| name.contains("corrupt")).count();
    figure(&format!(
        "full disk (fault S01): 2 of 2 launches refused, an outcome recorded in {}, {reconnects} connections, healed {} after \
         space was freed, corrupt {corrupt}",
        ms(ended),
        ms(healed)
    ));
    assert_eq!(corrupt, 0);
}

#[test]
#[ignore = "mounts a file system"]
fn on_a_disk_without_inodes_outcomes_are_recorded_and_a_relay_starts() {
    let mounted = Mounted::tmpfs_with_inodes(Site::new(Engine::Local), 400);
    let site = &mounted.site;
    let jobs = ["one", "two"].map(|name| site.launch_shell(&wait_for(name), &[]));
    for job in &jobs {
        site.record_when(job, "runs", |record| record.state == State::Running);
    }
    let crowded = site.registry().join("crowd");
    use_all_inodes(&crowded);
    let launch = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "true"];
    let stderr = site.refused(5, &launch);
    assert!(stderr.contains("no free inodes") && stderr.lines().count() == 1, "{stderr}");
    site.write("workspace-projects/demo/one", "");
    assert_eq!(site.ended(&jobs[0]).state, State::Completed);
    let stderr = site.refused(5, &launch);
    assert!(stderr.contains("no free inodes"), "{stderr}");

    processes::kill(site.daemon_pid());
    use_all_inodes(&crowded);
    site.relay(&["up"]);
    site.write("workspace-projects/demo/two", "");
    assert_eq!(site.ended(&jobs[1]).state, State::Completed);
    fs::remove_dir_all(&crowded).unwrap();
    until("jobs are accepted again", || site.run(&launch).status.success().then_some(()));
}

#[test]
#[ignore = "mounts a file system"]
fn a_relay_starts_on_a_full_disk_and_records_outcomes() {
    let mounted = Mounted::tmpfs(Site::new(Engine::Local), "2m");
    let site = &mounted.site;
    let job = site.launch_running(&wait_for("end"), &[]);
    processes::kill(site.daemon_pid());
    // The disk is full before the relay starts, when the next event needs a new block of event ids.
    let filler = site.registry().join("filler");
    fill_disk(&filler);
    site.relay(&["up"]);
    let more = filler.with_extension("more");
    fill_disk(&more);
    site.write("workspace-projects/demo/end", "");
    assert_eq!(site.ended(&job).state, State::Completed);
    for file in [filler, more] {
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn s05_zeroes_at_the_end_of_a_log_are_cut_off_and_the_job_goes_on() {
    let site = Site::new(Engine::Local);
    let job = site.launch_running(&wait_for("go"), &[]);
    let path = site.registry().join("demo.1.events.jsonl");
    for tail in [4096, 1024 * 1024] {
        processes::kill(site.daemon_pid());
        let before = fs::read(&path).unwrap();
        fs::write(&path, [before.clone(), vec![0; tail]].concat()).unwrap();
        site.relay(&["up"]);
        site.record_when(&job, "is connected", |record| record.link == Some(Link::Connected));
        let after = fs::read(&path).unwrap();
        assert!(after.starts_with(&before) && !after.contains(&0), "{tail}");
    }
    site.write("workspace-projects/demo/go", "");
    assert_eq!(site.ended(&job).state, State::Completed);
    assert!(!site.registry().join("demo.1.events.jsonl.corrupt-1").exists());
    figure("zero-filled tails of 4 KiB and 1 MiB (fault S05): cut off, the job went on and completed");
}

/// Returns options of strace that make calls fail on the log of `demo#1` and on the file that would replace the log.
fn fail_calls_on_log(site: &Site, calls: &str, inject: &str) -> Vec<String> {
    let log = site.registry().join("demo.1.events.jsonl");
    let new = site.registry().join(format!(".demo.1.events.jsonl.{}", site.daemon_pid()));
    let mut options = vec!["-e".to_owned(), format!("trace={calls}"), "-e".to_owned(), inject.to_owned()];
    for path in [log, new] {
        options.extend(["-P".to_owned(), path.display().to_string()]);
    }
    options
}

/// Returns the length of a log, in bytes, that survives a power failure, according to traced system calls.
fn durable_length(trace: &[String], log: &str) -> usize {
    let (mut len, mut durable) = (0, 0);
    for line in trace.iter().filter(|line| line.contains(log)) {
        let result = line.rsplit_once(" = ").and_then(|(_, result)| result.trim().parse::<usize>().ok());
        let Some(result) = result else { continue };
        if line.contains("write(") {
            len += result;
        } else if line.contains("ftruncate(") {
            let to = line.rsplit_once(", ").and_then(|(_, rest)| rest.split(')').next()?.parse().ok());
            len = to.unwrap_or(len);
        } else if line.contains("fdatasync(") {
            durable = len;
        }
    }
    durable
}

fn trace_file(site: &Site, name: &str) -> PathBuf {
    site.root().join(name)
}

#[test]
#[ignore = "traces a process"]
fn s06_events_whose_sync_failed_are_not_acknowledged_and_the_log_is_rewritten() {
    let (mut failed, mut missing) = (0, 0);
    for error in ["EIO", "ENOSPC"] {
        let site = Site::up(Engine::Local);
        let checks = ["a", "b", "c", "d"].map(|name| wait_for(&format!("go-{name}")));
        let flags: Vec<&str> = checks.iter().flat_map(|check| ["--check", check.as_str()]).collect();
        // After a single failed sync the log is rewritten, and the job goes on.
        let once = fail_calls_on_log(&site, "fdatasync", &format!("inject=fdatasync:error={error}:when=3"));
        let strace = Strace::attach(site.daemon_pid(), &once, &trace_file(&site, "once"));
        let job = site.launch_shell("true", &flags);
        site.write("workspace-projects/demo/go-a", "");
        site.record_when(&job, "is at its second check", |record| record.steps_total >= 3);
        failed += strace.injected();
        drop(strace);
        assert!(site.daemon_log().contains("is rewritten"), "{}", site.daemon_log());

        // Then all syncs fail. Nothing is acknowledged, so a power failure loses nothing acknowledged.
        let path = site.registry().join("demo.1.events.jsonl");
        let before = fs::read(&path).unwrap().len();
        let all = fail_calls_on_log(
            &site,
            "write,ftruncate,fdatasync,fsync",
            &format!("inject=fdatasync,fsync:error={error}:when=1+"),
        );
        let strace = Strace::attach(site.daemon_pid(), &all, &trace_file(&site, "all"));
        site.write("workspace-projects/demo/go-b", "");
        site.write("workspace-projects/demo/go-c", "");
        until("syncs have failed", || (strace.injected() >= 6).then_some(()));
        processes::kill(site.daemon_pid());
        let durable = before.max(durable_length(&strace.lines(), "/demo.1.events.jsonl>"));
        failed += strace.injected();
        drop(strace);
        // The test removes the bytes that were never synced, as a power failure could.
        let log = fs::read(&path).unwrap();
        fs::write(&path, &log[..durable.min(log.len())]).unwrap();
        site.relay(&["up"]);
        site.write("workspace-projects/demo/go-d", "");
        assert_eq!(site.ended(&job).state, State::Completed);
        let seqs: Vec<u64> =
            site.events(&job).iter().filter(|line| line.epoch == 1).map(|line| line.seq).collect();
        missing += usize::try_from(*seqs.last().unwrap()).unwrap() - seqs.len();
    }
    figure(&format!("{failed} syncs failed with EIO or ENOSPC (fault S06): false acks {missing}"));
    assert_eq!(missing, 0);
}

#[test]
#[ignore = "traces a process"]
fn output_is_acknowledged_only_after_it_is_on_the_disk() {
    let slow = Duration::from_millis(1500);
    let site = Site::new(Engine::Local);
    let job = site.launch_shell(&format!("{}; echo printed", wait_for("go")), &[]);
    site.record_when(&job, "runs", |record| record.state == State::Running);
    let log = site.file_path(&job, "log");
    // The first sync of the output is delayed.
    let options = ["-e", "trace=fdatasync", "-P", &log.display().to_string(), "-e"].map(ToOwned::to_owned);
    let delay = format!("inject=fdatasync:delay_enter={}:when=1", slow.as_micros());
    let strace =
        Strace::attach(site.daemon_pid(), &[&options[..], &[delay]].concat(), &trace_file(&site, "output"));
    let spooled = || {
        let runs =
            fs::read_dir(site.agent().join(format!("spool.v{}", common::wire::VITALS_PROTOCOL))).unwrap();
        runs.flatten().count()
    };
    site.write("workspace-projects/demo/go", "");
    until("the output is written", || fs::read(&log).is_ok_and(|log| log == b"printed\n").then_some(()));
    // The time of the write, because the test may see the output late.
    let written = fs::metadata(&log).unwrap().modified().unwrap();
    until("the agent has removed the run from the spool", || (spooled() == 0).then_some(()));
    let ack_time = written.elapsed().unwrap();
    assert!(!strace.lines().is_empty(), "the output was never synced");
    // The time of a write has the precision of the kernel's clock ticks.
    assert!(
        ack_time + Duration::from_millis(100) >= slow,
        "acknowledged after {ack_time:?}, though the sync took {slow:?}"
    );
}

#[test]
#[ignore = "traces a process"]
fn s07_an_interrupted_write_is_completed() {
    let site = Site::up(Engine::Local);
    let options = fail_calls_on_log(&site, "write", "inject=write:error=EINTR:when=1+2");
    let strace = Strace::attach(site.daemon_pid(), &options, &trace_file(&site, "writes"));
    let checks: Vec<String> = (0..20).map(|n| format!("echo {n}")).collect();
    let flags: Vec<&str> = checks.iter().flat_map(|check| ["--check", check.as_str()]).collect();
    let job = site.launch_shell("true", &flags);
    let path = site.registry().join("demo.1.events.jsonl");
    let mut torn = 0;
    until("the job has ended", || {
        torn += usize::from(fs::read(&path).is_ok_and(|log| log.last().is_some_and(|last| *last != b'\n')));
        site.record(&job).state.is_final().then_some(())
    });
    let interrupted = strace.injected();
    assert_eq!(site.record(&job).state, State::Completed);
    figure(&format!("{interrupted} writes interrupted (fault S07): torn lines visible {torn}"));
    assert!(interrupted >= 5 && torn == 0);
}
