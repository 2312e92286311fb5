//! Tests of the writer without its thread, on a real folder: order, owners and commits.

use std::fs;
use std::time::{Duration, Instant};

use common::event::{Event, EventBody};
use common::ids::JobId;
use common::record::State;
use tokio::sync::oneshot;

use super::command::Receipts;
use super::test_support::*;
use super::writer_loop::Writer;
use super::*;
use crate::daemon::core::ConnectionId;
use crate::daemon::latest_map::LatestMap;
use crate::registry::{Registry, read};

#[test]
fn a_repeated_event_is_dropped_and_a_changed_one_refused_even_after_a_restart() {
    let (_dir, registry, job, mut writer) = registry_with_job();
    let acked = |seq| Some(Receipt { epoch: 1, seq, output_offset: 0, reconnect_reason: None });
    assert_eq!(
        send_events(&mut writer, &job, 1, 1, vec![message_event("one"), message_event("two")]),
        acked(2)
    );
    assert_eq!(
        send_events(
            &mut writer,
            &job,
            1,
            1,
            vec![message_event("one"), message_event("two"), message_event("three")]
        ),
        acked(3)
    );
    for _ in 0..2 {
        let problem =
            send_events(&mut writer, &job, 1, 2, vec![message_event("another"), message_event("three")])
                .unwrap()
                .reconnect_reason;
        assert_eq!(problem.unwrap(), "event 2 of a#1, epoch 1, differs from the recorded one");
        assert_eq!(
            send_events(&mut writer, &job, 1, 2, vec![message_event("two"), message_event("three")]),
            acked(3)
        );
        writer = open_writer(&registry).0;
    }
    assert_eq!(event_texts(&registry, &job), ["queued", "one", "two", "three"]);
}

#[test]
fn gaps_old_epochs_and_epochs_that_were_never_started_are_refused() {
    let (_dir, _registry, job, mut writer) = registry_with_job();
    let mut problem = |epoch, first| {
        send_events(&mut writer, &job, epoch, first, vec![message_event("x")]).unwrap().reconnect_reason
    };
    assert_eq!(problem(1, 2).unwrap(), "events 1 to 1 of epoch 1 are missing");
    assert_eq!(problem(2, 1).unwrap(), "epoch 2 was never started, 0 is current");
    assert_eq!(problem(1, 1), None);
    assert_eq!(problem(0, 1).unwrap(), "epoch 0 is over, 1 is current");
    assert_eq!(problem(2, 1), None);
    assert_eq!(problem(1, 2).unwrap(), "epoch 1 is over, 2 is current");
}

#[test]
fn a_record_is_written_at_once_when_the_state_changes_and_otherwise_a_little_later() {
    let (_dir, registry) = Registry::temporary();
    let job = launch(&registry, "a#1");
    let (mut writer, changes) = open_writer(&registry);
    let seq = || read::load_record(&registry, &job).unwrap().record.seq;
    let published_seq = |changes: &Changes| take_values(changes).get(&job).map(|record| record.seq);
    let now = Instant::now() + Duration::from_secs(1);
    let send_events = |writer: &mut Writer, first_seq, event: Event| {
        let command = events(writer, &job, first_seq, event, &LatestMap::new());
        writer.apply_and_commit([command], now);
    };
    send_events(&mut writer, 1, message_event("one"));
    send_events(&mut writer, 2, message_event("two"));
    assert_eq!((seq(), published_seq(&changes)), (1, Some(2)), "the core gets every change at once");
    let due = writer.next_due().unwrap();
    assert!(due > now && due <= now + Duration::from_millis(25));
    writer.run_due_work(due);
    assert_eq!((seq(), writer.next_due()), (2, None));
    send_events(&mut writer, 3, message_event("three"));
    send_events(&mut writer, 4, finished_event());
    let record = read::load_record(&registry, &job).unwrap().record;
    assert_eq!((record.seq, record.state), (4, State::Completed));
    assert_eq!((writer.next_due(), writer.open_jobs.len()), (None, 0));
}

#[test]
fn lines_of_many_jobs_share_a_commit_and_descriptors_stay_few() {
    let (_dir, registry) = Registry::temporary();
    let jobs: Vec<JobId> = (1..=200).map(|n| launch(&registry, &format!("a#{n}"))).collect();
    let (mut writer, _) = open_writer(&registry);
    let receipts: Receipts = LatestMap::new();
    let batch = |job| events(&mut writer, job, 1, message_event("x"), &receipts);
    let commands: Vec<WriterCommand> = jobs.iter().map(batch).collect();
    writer.apply_and_commit(commands, Instant::now());
    let acked = take_values(&receipts);
    assert!(acked.len() == 200 && acked.values().all(|receipt| receipt.seq == 1));
    let mine = |link: std::path::PathBuf| link.starts_with(registry.dir());
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let descriptor_count = descriptors.filter(|fd| fs::read_link(fd.path()).is_ok_and(mine)).count();
    assert!(descriptor_count <= 64, "{descriptor_count} descriptors");
}

#[test]
fn environment_values_are_removed_when_a_job_is_accepted_or_ends_and_at_a_start() {
    let (_dir, registry) = Registry::temporary();
    let jobs = ["accepted#1", "ended#1", "queued#1", "left#1"].map(|job| launch(&registry, job));
    let write = |job: &JobId| {
        let spec = serde_json::json!({
            "schema": 1, "job": job, "runner": "shell", "prompt": "p", "workspace": "/w", "env": {"KEY": "s3cret"},
            "setup": [], "checks": [], "limits": {"job_ms": 1, "grace_ms": 1, "steps": {}},
            "codex": {"program": "codex", "model": null, "sandbox": "off", "args": []},
        });
        fs::write(registry.spec(job), spec.to_string()).unwrap();
    };
    jobs.iter().for_each(write);
    let holds =
        || jobs.each_ref().map(|job| fs::read_to_string(registry.spec(job)).unwrap().contains("s3cret"));
    let (mut writer, _changes) = open_writer(&registry);
    let [accepted, ended, _, left] = &jobs;
    let body = EventBody::Accepted {
        agent: "agent".to_owned(),
        isolation: common::event::Isolation::None,
        workspace_log: None,
    };
    for job in [accepted, left] {
        assert_eq!(
            send_events(&mut writer, job, 1, 1, vec![Event { body: body.clone(), ..message_event("") }])
                .unwrap()
                .seq,
            1
        );
    }
    writer.apply_and_commit([relay_end(ended)], Instant::now());
    assert_eq!(holds(), [false, false, true, false]);
    drop(writer);
    // The state after a relay was killed before it removed the values.
    for job in [accepted, ended, left] {
        write(job);
    }
    let _again = open_writer(&registry);
    assert_eq!(holds(), [false, false, true, false]);
    let names = fs::read_to_string(registry.spec(left)).unwrap();
    assert!(names.contains(r#""env_names":["KEY"]"#), "{names}");
}

#[test]
fn a_refusal_is_sent_even_if_the_same_commit_makes_other_events_durable() {
    let (_dir, _registry, job, mut writer) = registry_with_job();
    let receipts: Receipts = LatestMap::new();
    let sent = [message_event("one"), message_event("another")]
        .map(|event| events(&mut writer, &job, 1, event, &receipts));
    writer.apply_and_commit(sent, Instant::now());
    assert_eq!(reconnect_reason(&receipts, &job), "event 1 of a#1, epoch 1, differs from the recorded one");
}

#[test]
fn no_event_follows_an_end_that_the_relay_records_in_the_same_commit() {
    let (_dir, registry, job, mut writer) = registry_with_job();
    let receipts: Receipts = LatestMap::new();
    let late = events(&mut writer, &job, 1, message_event("late"), &receipts);
    writer.apply_and_commit([relay_end(&job), late], Instant::now());
    assert_eq!(event_texts(&registry, &job), ["queued", "finished"]);
    assert_eq!(reconnect_reason(&receipts, &job), "it is unknown here, or has ended");
}

#[test]
fn a_stream_is_opened_only_for_the_running_run_and_by_its_agent() {
    let (_dir, registry) = Registry::temporary();
    let job = launch(&registry, "demo#1");
    let (mut writer, _changes) = open_writer(&registry);
    let receipts = LatestMap::new();
    let own = connection_id(&mut writer, &job);
    let check = |writer: &mut Writer, connection_id: &ConnectionId, job: &str, epoch| {
        let (reply, mut answer) = oneshot::channel();
        let (connection_id, job) = (connection_id.clone(), job.parse().unwrap());
        let command = WriterCommand::CheckRun { connection_id, job, epoch, reply };
        writer.apply_and_commit([command], Instant::now());
        answer.try_recv().unwrap().map(|record| record.epoch)
    };
    let accepted = EventBody::Accepted {
        agent: "agent".into(),
        isolation: common::event::Isolation::None,
        workspace_log: None,
    };
    let accepted = events(&mut writer, &job, 1, Event { body: accepted, ..message_event("") }, &receipts);
    writer.apply_and_commit([accepted], Instant::now());
    assert_eq!(check(&mut writer, &own, "demo#1", 1), Ok(1));
    assert!(check(&mut writer, &own, "demo#1", 2).unwrap_err().contains("not the running one"));
    assert!(check(&mut writer, &own, "other#1", 1).unwrap_err().contains("unknown"));
    let foreign = ConnectionId { agent: "foreign".into(), number: 2 };
    assert!(writer.ownership.on_connect(&foreign));
    assert!(check(&mut writer, &foreign, "demo#1", 1).unwrap_err().contains("another agent"));
    let end = events(&mut writer, &job, 2, finished_event(), &receipts);
    writer.apply_and_commit([end], Instant::now());
    assert!(check(&mut writer, &own, "demo#1", 1).is_err());
}
