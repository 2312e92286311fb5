//! A disk that is full, fails, or has lost the end of a file. Tests that mount or trace need root.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::event::EventBody;
use common::record::{Link, State};
use relay_tests::harness::figures::{figure, ms};
use relay_tests::harness::mount::{Mounted, crowd, fill};
use relay_tests::harness::strace::Strace;
use relay_tests::harness::{Engine, Site, processes, until};

/// Every name in the registry, except the daemon's own temporary files.
fn names(site: &Site) -> Vec<String> {
    let entries = fs::read_dir(site.registry()).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with(".relay.json") && !name.starts_with(".reserve"));
    names.sort();
    names
}

/// Command line that waits for a file in the workspace.
fn wait_for(name: &str) -> String {
    format!("until test -e {name}; do sleep 0.02; done")
}

#[test]
#[ignore = "mounts a file system"]
fn s01_a_full_disk_refuses_launches_records_ends_and_heals_by_itself() {
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
    fill(&filler);

    let before = names(site);
    let said =
        site.refused(5, &["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "true"]);
    assert!(said.contains("is full") && said.lines().count() == 1, "{said}");
    assert_eq!(names(site), before, "nothing is left of what was refused");
    go("setup");
    site.record_when(&stays, "still tells the truth", |record| {
        record.steps_total == 2 || record.link == Some(Link::Lost)
    });
    go("more");
    site.record_when(&stays, "says that it is stale", |record| record.link == Some(Link::Lost));
    let begun = Instant::now();
    go("end");
    assert_eq!(site.ended(&ends).state, State::Completed);
    let ended = begun.elapsed();
    let said =
        site.refused(5, &["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "true"]);
    assert!(said.contains("is full"), "{said}");
    let reconnects = fs::read_to_string(site.agent().join("agent.log")).unwrap();
    let reconnects = reconnects.matches("connected to").count();

    fs::remove_file(&filler).unwrap();
    let freed = Instant::now();
    site.record_when(&stays, "goes on", |record| record.link == Some(Link::Connected));
    let healed = freed.elapsed();
    go("stay");
    assert_eq!(site.ended(&stays).state, State::Completed);
    let next = site.launch_shell("true", &[]);
    assert_eq!(site.ended(&next).state, State::Completed);
    assert!(healed <= Duration::from_secs(5), "{healed:?}");
    assert!(reconnects <= 5, "{reconnects} connections while the disk was full");
    let log = fs::read_to_string(site.registry().join("demo.1.log")).unwrap();
    assert!(
        log.starts_with("begun\n") && log.contains("left out: the relay's disk was full"),
        "{} bytes",
        log.len()
    );
    let lost = site.events(&stays).into_iter().filter_map(|line| line.event);
    let lost =
        lost.filter(|event| matches!(&event.body, EventBody::LinkLost { reason } if reason.contains("full")));
    // A little space may come and go while the disk is full.
    assert!((1..=3).contains(&lost.count()), "told, and not told again and again");
    let corrupt = names(site).iter().filter(|name| name.contains("corrupt")).count();
    figure(&format!(
        "S01: full disk: 2 of 2 launches refused, an end recorded in {}, {reconnects} connections, healed {} after there \
         was room, corrupt {corrupt}",
        ms(ended),
        ms(healed)
    ));
    assert_eq!(corrupt, 0);
}

#[test]
#[ignore = "mounts a file system"]
fn a_disk_without_inodes_refuses_launches_records_ends_and_lets_a_relay_start() {
    let mounted = Mounted::few_files(Site::new(Engine::Local), 400);
    let site = &mounted.site;
    let jobs = ["one", "two"].map(|name| site.launch_shell(&wait_for(name), &[]));
    for job in &jobs {
        site.record_when(job, "runs", |record| record.state == State::Running);
    }
    let crowded = site.registry().join("crowd");
    crowd(&crowded);
    let launch = ["launch", "-q", "--runner", "shell", "-w", "workspace-projects/demo", "true"];
    let said = site.refused(5, &launch);
    assert!(said.contains("no free inodes") && said.lines().count() == 1, "{said}");
    site.write("workspace-projects/demo/one", "");
    assert_eq!(site.ended(&jobs[0]).state, State::Completed);
    let said = site.refused(5, &launch);
    assert!(said.contains("no free inodes"), "{said}");

    processes::kill(site.daemon_pid());
    crowd(&crowded);
    site.relay(&["up"]);
    site.write("workspace-projects/demo/two", "");
    assert_eq!(site.ended(&jobs[1]).state, State::Completed);
    fs::remove_dir_all(&crowded).unwrap();
    until("jobs are taken again", || site.run(&launch).status.success().then_some(()));
}

#[test]
#[ignore = "mounts a file system"]
fn a_relay_starts_on_a_full_disk_and_records_ends_there() {
    let mounted = Mounted::tmpfs(Site::new(Engine::Local), "2m");
    let site = &mounted.site;
    let job = site.launch_running(&wait_for("end"), &[]);
    processes::kill(site.daemon_pid());
    // The next event begins a new block of ids.
    let filler = site.registry().join("filler");
    fill(&filler);
    site.relay(&["up"]);
    let more = filler.with_extension("more");
    fill(&more);
    site.write("workspace-projects/demo/end", "");
    assert_eq!(site.ended(&job).state, State::Completed);
    for file in [filler, more] {
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn s05_a_zero_filled_tail_is_cut_like_a_torn_one() {
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
    figure("S05: zero-filled tails of 4 KiB and 1 MiB were cut, the job went on and completed");
}

/// Options of strace that make calls fail on the log of `demo#1`, or on the file that would replace it.
fn on_log(site: &Site, calls: &str, inject: &str) -> Vec<String> {
    let log = site.registry().join("demo.1.events.jsonl");
    let new = site.registry().join(format!(".demo.1.events.jsonl.{}", site.daemon_pid()));
    let mut options = vec!["-e".to_owned(), format!("trace={calls}"), "-e".to_owned(), inject.to_owned()];
    for path in [log, new] {
        options.extend(["-P".to_owned(), path.display().to_string()]);
    }
    options
}

/// Length of a log, in bytes, that survives a power loss, according to the system calls of its writer.
fn durable(trace: &[String], log: &str) -> usize {
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

fn traced(site: &Site, name: &str) -> PathBuf {
    site.root().join(name)
}

#[test]
#[ignore = "traces a process"]
fn s06_a_failed_sync_is_never_acknowledged_and_the_log_is_written_anew() {
    let (mut failed, mut missing) = (0, 0);
    for error in ["EIO", "ENOSPC"] {
        let site = Site::up(Engine::Local);
        let checks = ["a", "b", "c", "d"].map(|name| wait_for(&format!("go-{name}")));
        let more: Vec<&str> = checks.iter().flat_map(|check| ["--check", check.as_str()]).collect();
        // A single failure: the log is rewritten without any effect on the job.
        let once = on_log(&site, "fdatasync", &format!("inject=fdatasync:error={error}:when=3"));
        let strace = Strace::attach(site.daemon_pid(), &once, &traced(&site, "once"));
        let job = site.launch_shell("true", &more);
        site.write("workspace-projects/demo/go-a", "");
        site.record_when(&job, "is at its second check", |record| record.steps_total >= 3);
        failed += strace.injected();
        drop(strace);
        assert!(site.daemon_log().contains("is rewritten"), "{}", site.daemon_log());

        // Lasting failures: nothing is acknowledged, so nothing is lost with the power.
        let path = site.registry().join("demo.1.events.jsonl");
        let before = fs::read(&path).unwrap().len();
        let all = on_log(
            &site,
            "write,ftruncate,fdatasync,fsync",
            &format!("inject=fdatasync,fsync:error={error}:when=1+"),
        );
        let strace = Strace::attach(site.daemon_pid(), &all, &traced(&site, "all"));
        site.write("workspace-projects/demo/go-b", "");
        site.write("workspace-projects/demo/go-c", "");
        until("syncs have failed", || (strace.injected() >= 6).then_some(()));
        processes::kill(site.daemon_pid());
        let durable = before.max(durable(&strace.lines(), "/demo.1.events.jsonl>"));
        failed += strace.injected();
        drop(strace);
        // Bytes that were never synced are lost with the power.
        let log = fs::read(&path).unwrap();
        fs::write(&path, &log[..durable.min(log.len())]).unwrap();
        site.relay(&["up"]);
        site.write("workspace-projects/demo/go-d", "");
        assert_eq!(site.ended(&job).state, State::Completed);
        let seqs: Vec<u64> =
            site.events(&job).iter().filter(|line| line.epoch == 1).map(|line| line.seq).collect();
        missing += usize::try_from(*seqs.last().unwrap()).unwrap() - seqs.len();
    }
    figure(&format!("S06: {failed} syncs failed with EIO or ENOSPC, false acks {missing}"));
    assert_eq!(missing, 0);
}

#[test]
#[ignore = "traces a process"]
fn output_is_acknowledged_only_after_it_is_on_the_disk() {
    let slow = Duration::from_millis(1500);
    let site = Site::new(Engine::Local);
    let job = site.launch_shell(&format!("{}; echo printed", wait_for("go")), &[]);
    site.record_when(&job, "runs", |record| record.state == State::Running);
    let log = site.file(&job, "log");
    // The disk delays the first sync of the output. The first output creates the file.
    let options = ["-e", "trace=fdatasync", "-P", &log.display().to_string(), "-e"].map(ToOwned::to_owned);
    let delay = format!("inject=fdatasync:delay_enter={}:when=1", slow.as_micros());
    let strace =
        Strace::attach(site.daemon_pid(), &[&options[..], &[delay]].concat(), &traced(&site, "output"));
    let spooled = || {
        let runs =
            fs::read_dir(site.agent().join(format!("spool.v{}", common::wire::VITALS_PROTOCOL))).unwrap();
        runs.flatten().count()
    };
    site.write("workspace-projects/demo/go", "");
    until("the output is written", || fs::read(&log).is_ok_and(|log| log == b"printed\n").then_some(()));
    let written = Instant::now();
    until("the agent lets the run go", || (spooled() == 0).then_some(()));
    let held = written.elapsed();
    assert!(!strace.lines().is_empty(), "the output was never synced");
    // Half of the delay: the test itself may have been late to see the output.
    assert!(held >= slow / 2, "it was acknowledged after {held:?}, though its sync took {slow:?}");
}

#[test]
#[ignore = "traces a process"]
fn s07_an_interrupted_write_is_completed() {
    let site = Site::up(Engine::Local);
    let options = on_log(&site, "write", "inject=write:error=EINTR:when=1+2");
    let strace = Strace::attach(site.daemon_pid(), &options, &traced(&site, "writes"));
    let checks: Vec<String> = (0..20).map(|n| format!("echo {n}")).collect();
    let more: Vec<&str> = checks.iter().flat_map(|check| ["--check", check.as_str()]).collect();
    let job = site.launch_shell("true", &more);
    let path = site.registry().join("demo.1.events.jsonl");
    let mut torn = 0;
    until("it has ended", || {
        torn += usize::from(fs::read(&path).is_ok_and(|log| log.last().is_some_and(|last| *last != b'\n')));
        site.record(&job).state.is_final().then_some(())
    });
    let interrupted = strace.injected();
    assert_eq!(site.record(&job).state, State::Completed);
    figure(&format!("S07: {interrupted} writes interrupted, torn lines visible {torn}"));
    assert!(interrupted >= 5 && torn == 0);
}
