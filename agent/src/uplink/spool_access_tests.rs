//! Tests of the frames that are sent if the files of one run are damaged, or if the relay has lost data.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::event::{Event, EventBody, FinalState, Isolation};
use common::wire::{self, AgentFrame, Durable, PROTOCOL, PROTOCOL_MIN, RelayFrame};
use jiff::Timestamp;

use super::*;
use crate::spool::RunId;
use crate::uplink::action::Action;

fn id(job: &str) -> RunId {
    RunId { job: job.parse().unwrap(), epoch: 1 }
}

fn finished() -> EventBody {
    EventBody::Finished { state: FinalState::Completed, error: None, exit_code: Some(0), changes: None }
}

/// Spool, and a simulated relay that keeps the data that it receives.
struct Site {
    dir: tempfile::TempDir,
    spool: Arc<Spool>,
    relay_data: BTreeMap<RunId, (Vec<Event>, Vec<u8>)>,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(dir.path()).unwrap());
        Self { dir, spool, relay_data: BTreeMap::new() }
    }

    fn run(&self, job: &str) -> Arc<JobSpool> {
        self.spool
            .get_run(&id(job))
            .unwrap_or_else(|| self.spool.create_run(id(job), "{}", Arc::default()).unwrap())
    }

    /// Returns a finished run with `events` events and `output` bytes of output.
    fn finished_run(&self, job: &str, events: u32, output: usize) -> Arc<JobSpool> {
        let run = self.run(job);
        run.append_all(
            (0..events).map(|n| EventBody::Message { text: format!("event {n} {}", "x".repeat(1000)) }),
        );
        run.append_output(&vec![b'o'; output]);
        run.append_all([EventBody::Cleanup { killed: 2, survivors: 0 }, finished()]);
        run
    }

    fn file(&self, job: &str, name: &str) -> PathBuf {
        let folder = format!("{}.1", job.replace('#', "."));
        let spools = fs::read_dir(self.dir.path()).unwrap().flatten();
        spools.map(|spool| spool.path().join(&folder).join(name)).find(|path| path.exists()).unwrap()
    }

    fn durable(&self) -> Vec<Durable> {
        let durable = self.relay_data.iter().map(|(run, (events, output))| Durable {
            job: run.job.clone(),
            epoch: run.epoch,
            seq: events.len() as u64,
            output: output.len() as u64,
            closed: false,
        });
        durable.collect()
    }

    /// Serves a connection until nothing more is to be sent; acknowledges all data if `must_ack`.
    fn serve(&mut self, must_ack: bool) {
        self.serve_with(PROTOCOL, must_ack);
    }

    fn serve_with(&mut self, protocol: u32, must_ack: bool) {
        let spool = Arc::clone(&self.spool);
        let mut link = link_after_hello(&spool);
        let (durable, now) = (self.durable(), Timestamp::UNIX_EPOCH);
        feed(&mut link, &spool, RelayFrame::Welcome { protocol, durable, exit_cause: None, now });
        let mut idle = 0;
        while idle < 3 {
            let Some(frame) = next_frame(&mut link, &spool) else {
                assert!(link.is_serving(), "the connection goes on");
                idle += 1;
                continue;
            };
            let ack = self.receive(wire::decode(&frame).unwrap());
            if must_ack {
                feed(&mut link, &spool, ack);
            }
        }
    }

    fn receive(&mut self, frame: AgentFrame) -> RelayFrame {
        match frame {
            AgentFrame::Events { job, epoch, first_seq, batch } => {
                let (events, _) = self.relay_data.entry(RunId { job: job.clone(), epoch }).or_default();
                for (seq, event) in (first_seq..).zip(batch) {
                    assert!(seq <= events.len() as u64 + 1, "a gap before event {seq}");
                    if seq == events.len() as u64 + 1 {
                        events.push(event);
                    }
                }
                RelayFrame::Ack { job, epoch, seq: events.len() as u64 }
            }
            AgentFrame::Output { job, epoch, offset, bytes } => {
                let (_, output) = self.relay_data.entry(RunId { job: job.clone(), epoch }).or_default();
                let at = usize::try_from(offset).unwrap();
                assert!(at <= output.len(), "a gap in the output");
                let seen = output.len() - at;
                output.extend_from_slice(bytes.get(seen..).unwrap_or_default());
                RelayFrame::OutputAck { job, epoch, offset: output.len() as u64 }
            }
            other => panic!("{other:?}"),
        }
    }

    fn bodies(&self, job: &str) -> Vec<&EventBody> {
        self.relay_data[&id(job)].0.iter().map(|event| &event.body).collect()
    }

    fn text(&self, job: &str) -> String {
        String::from_utf8(self.relay_data[&id(job)].1.clone()).unwrap()
    }
}

/// Returns a link that has sent its hello.
fn link_after_hello(spool: &Spool) -> Link {
    let (system, isolation) = ("test".to_owned(), Isolation::None);
    let platform = Platform { system, isolation, codex: None, codex_problem: None };
    let hello = Box::new(build_hello(spool, "a", 1, platform));
    let mut link = Link::new(Duration::ZERO);
    link.handle_input(Input::Configured { has_relay_changed: false }, Duration::ZERO);
    link.handle_input(Input::Connected { hello, hello_sent: Duration::ZERO }, Duration::ZERO);
    assert!(matches!(wire::decode(&next_frame(&mut link, spool).unwrap()), Ok(AgentFrame::Hello(_))));
    link
}

/// Feeds the link a frame, and executes the actions that it requests.
fn feed(link: &mut Link, spool: &Spool, frame: RelayFrame) {
    link.handle_input(Input::Message(Some(frame)), Duration::ZERO);
    while let Some(action) = link.next_action() {
        match action {
            Action::Spool(action) => {
                if let Some(input) = apply_action(spool, &action) {
                    link.handle_input(input, Duration::ZERO);
                }
            }
            Action::Close(error) => panic!("{error}"),
            _ => {}
        }
    }
}

fn truncate(path: &Path, len: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Asserts that the sound run arrived completely, and that the final events of the bad run arrived after a warning.
fn assert_damage_is_reported(site: &Site) {
    assert_eq!(site.bodies("sound#1").len(), 12);
    let bad = site.bodies("bad#1");
    let end = [&EventBody::Cleanup { killed: 2, survivors: 0 }, &finished()];
    assert!(bad.ends_with(&end), "{bad:#?}");
    assert!(bad.iter().any(|body| matches!(body, EventBody::Warning { .. })), "{bad:#?}");
}

#[test]
fn a_run_with_a_truncated_file_blocks_no_other_run_and_still_ends() {
    let mut site = Site::new();
    site.finished_run("bad#1", 10, 0);
    site.finished_run("sound#1", 10, 0);
    truncate(&site.file("bad#1", "events.000001"), 3000);
    site.serve(true);
    assert_damage_is_reported(&site);
}

#[test]
fn a_run_with_a_missing_segment_blocks_no_other_run_and_still_ends() {
    let mut site = Site::new();
    site.finished_run("bad#1", 3000, 0);
    site.finished_run("sound#1", 10, 0);
    fs::remove_file(site.file("bad#1", "events.000001")).unwrap();
    site.serve(true);
    assert_damage_is_reported(&site);
}

#[test]
fn a_run_without_a_folder_blocks_no_other_run_and_still_ends() {
    let mut site = Site::new();
    site.finished_run("bad#1", 3000, 0);
    site.finished_run("sound#1", 10, 0);
    fs::remove_dir_all(site.file("bad#1", "events.000001").parent().unwrap()).unwrap();
    site.serve(true);
    assert_damage_is_reported(&site);
}

#[test]
fn a_segment_that_is_a_folder_is_set_aside_like_any_damage() {
    let mut site = Site::new();
    site.finished_run("bad#1", 3000, 0);
    site.finished_run("sound#1", 10, 0);
    let path = site.file("bad#1", "events.000002");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    site.serve(true);
    assert_damage_is_reported(&site);
}

#[test]
fn truncated_output_is_reported_and_blocks_no_event() {
    let mut site = Site::new();
    site.finished_run("bad#1", 10, 100_000);
    site.finished_run("sound#1", 10, 0);
    truncate(&site.file("bad#1", "output"), 10_000);
    site.serve(true);
    assert_eq!(site.bodies("sound#1").len(), 12);
    assert_eq!(site.bodies("bad#1").last(), Some(&&finished()));
    let (text, note) =
        (site.text("bad#1"), "[… 90000 bytes of output lost: the agent's spool was damaged …]");
    assert!(
        text.starts_with(&"o".repeat(10_000)) && text.contains(note),
        "{}",
        &text[10_000.min(text.len())..]
    );
}

#[test]
fn a_relay_that_lost_output_gets_a_note_with_its_size_and_no_zeroes() {
    let mut site = Site::new();
    let run = site.run("old#1");
    run.append_output(&vec![b'o'; 3 * 1024 * 1024]);
    run.append_output(b"\nthe last line\n");
    site.serve(true);
    site.relay_data.get_mut(&id("old#1")).unwrap().1.truncate(100);
    site.serve(true);
    let text = site.text("old#1");
    assert!(!text.contains('\0'), "zeroes at {:?}", text.find('\0'));
    assert!(text.ends_with("\nthe last line\n"));
    let note = text.split_once("[… ").unwrap().1.split_once(" bytes of output lost: ").unwrap();
    let lost: usize = note.0.parse().unwrap();
    let kept = text.matches('o').count()
        - note.1.lines().next().unwrap().matches('o').count()
        - "bytes of output lost".matches('o').count();
    assert_eq!((lost + kept), 3 * 1024 * 1024, "{}", note.1.lines().next().unwrap());
}

#[test]
fn a_relay_that_lost_events_gets_the_final_ones_again() {
    let mut site = Site::new();
    site.run("old#1").append_all((0..10).map(|n| EventBody::Message { text: format!("event {n}") }));
    site.serve(true);
    let run = site.run("old#1");
    run.append_output(b"the last line\n");
    run.append_all([EventBody::Cleanup { killed: 2, survivors: 0 }, finished()]);
    // All events are acknowledged, the output is not.
    let spool = Arc::clone(&site.spool);
    run.ack(run.last_seq());
    drop(run);
    site.serve(true);
    assert_eq!(site.bodies("old#1").last(), Some(&&finished()));
    assert!(spool.all_runs().is_empty(), "all of it is there");
}

#[test]
fn an_older_relay_gets_a_placeholder_for_vitals() {
    let vitals = || EventBody::Vitals(Box::default());
    let nothing = EventBody::FileChange { files: Vec::new() };
    for (protocol, expected) in [(PROTOCOL, vitals()), (PROTOCOL_MIN, nothing)] {
        let mut site = Site::new();
        let stalled = || EventBody::Stalled { n: 1, evidence: "idle".to_owned() };
        site.run("demo#1").append_all([vitals(), stalled(), finished()]);
        site.serve_with(protocol, true);
        assert_eq!(site.bodies("demo#1"), [&expected, &stalled(), &finished()], "protocol {protocol}");
        assert!(site.spool.all_runs().is_empty(), "all of it is acknowledged");
    }
}
