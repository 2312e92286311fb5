use common::event::FinalState;

use super::*;
use crate::spool::Spool;

fn id() -> RunId {
    RunId { job: "demo#1".parse().unwrap(), epoch: 1 }
}

fn message(n: u32) -> EventBody {
    EventBody::Message { text: format!("event {n}") }
}

fn finished() -> EventBody {
    EventBody::Finished { state: FinalState::Failed, error: None, exit_code: None, changes: None }
}

/// Returns a spool with one run of `events` events, as a killed agent leaves it.
fn interrupted_run(events: u32) -> (tempfile::TempDir, Arc<JobSpool>) {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    spool.create_run(id(), "{}", Arc::default()).unwrap().append_all((1..=events).map(message));
    let run = Spool::open(dir.path()).unwrap().get_run(&id()).unwrap();
    (dir, run)
}

fn bodies(run: &JobSpool, first: u64) -> Vec<EventBody> {
    run.read(first, 999, 99_999).unwrap().into_iter().map(|event| event.body).collect()
}

#[test]
fn final_events_follow_all_that_the_relay_has_and_are_not_repeated() {
    // The file has 40 events. Of those that it lost, the relay holds none, one, or ten.
    for (durable, is_late) in [(40, false), (41, false), (50, false), (40, true), (41, true), (50, true)] {
        let (dir, run) = interrupted_run(40);
        assert_eq!(run.last_seq(), 40);
        // The end is reported before or after the relay reports what it holds.
        if !is_late {
            run.append_all([EventBody::Cleanup { killed: 1, survivors: 0 }, finished()]);
        }
        run.continue_after(durable);
        run.ack(durable);
        if is_late {
            run.append_all([EventBody::Cleanup { killed: 1, survivors: 0 }, finished()]);
        }
        assert_eq!(run.last_seq(), durable + 2);
        let end = [EventBody::Cleanup { killed: 1, survivors: 0 }, finished()];
        assert_eq!(bodies(&run, durable + 1), end, "{durable}");
        // Killed once more: the same is reported again.
        let reopened = Spool::open(dir.path()).unwrap().get_run(&id()).unwrap();
        assert_eq!((reopened.last_seq(), reopened.is_finished()), (durable + 2, true));
        reopened.continue_after(durable + 1);
        assert_eq!(bodies(&reopened, durable + 2), [finished()], "{durable}");
        reopened.ack(durable + 2);
        assert!(reopened.is_delivered());
    }
}

#[test]
fn the_final_event_follows_an_event_that_only_the_relay_has() {
    let (_dir, run) = interrupted_run(3);
    run.append(finished());
    run.continue_after(3);
    assert_eq!(run.last_seq(), 4);
    // The relay reports that it holds 4 events and expects more: its fourth is not in this spool.
    run.continue_after(4);
    assert_eq!((run.last_seq(), bodies(&run, 5)), (5, vec![finished()]));
}

#[test]
fn a_warning_about_damage_precedes_the_final_event() {
    let (dir, run) = interrupted_run(5);
    drop(run);
    let path = dir.path().join("spool.v5/demo.1.1/events.000001");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|text| text == b"event 3").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    let run = spool.get_run(&id()).unwrap();
    run.continue_after(2);
    run.append(finished());
    let events = bodies(&run, 1);
    assert_eq!((events.len(), &events[..2], &events[3]), (4, &[message(1), message(2)][..], &finished()));
    let EventBody::Warning { message } = &events[2] else { panic!("{events:?}") };
    assert!(message.contains("damaged after event 2"), "{message}");
    spool.remove_run(&id());
    assert!(dir.path().join("spool.v5/demo.1.1.corrupt-1").exists());
}

#[test]
fn damage_that_is_found_during_the_run_causes_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    let run = spool.create_run(id(), "{}", Arc::default()).unwrap();
    run.append_all((1..=5).map(message));
    let path = dir.path().join("spool.v5/demo.1.1/events.000001");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|text| text == b"event 3").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(run.read(1, 2, 999).unwrap().len(), 2);
    let error = run.read(3, 9, 999).unwrap_err();
    run.repair(2, 0, &error);
    assert!(run.was_repaired_recently(), "it is not repaired again and again");
    run.append(message(6));
    let events = bodies(&run, 3);
    assert!(matches!(&events[..], [EventBody::Warning { .. }, event] if *event == message(6)), "{events:?}");
}

#[test]
fn output_continues_at_its_offset_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    let run = spool.create_run(id(), "{}", Arc::default()).unwrap();
    run.append_output(&vec![b'x'; 3_000_000]);
    run.ack_output(2_500_000);
    run.append(finished());
    drop((spool, run));
    let run = Spool::open(dir.path()).unwrap().get_run(&id()).unwrap();
    assert_eq!((run.output_end(), run.is_finished()), (3_000_000, true));
    run.ack(1);
    assert!(!run.is_delivered());
    run.ack_output(2_500_000);
    assert_eq!(run.read_output(2_500_000, 600_000).unwrap(), vec![b'x'; 500_000]);
    run.ack_output(3_000_000);
    assert!(run.is_delivered());
}

#[test]
fn recoveries_of_a_run_are_counted_over_all_agent_processes() {
    let (dir, run) = interrupted_run(1);
    assert_eq!(run.count_recovery().unwrap(), 1);
    let reopened = Spool::open(dir.path()).unwrap().get_run(&id()).unwrap();
    assert_eq!(reopened.count_recovery().unwrap(), 2);
}
