//! Tests of the state machine: inputs, and the actions that follow.

use common::event::Isolation;
use common::wire::{JobProgress, Platform, VITALS_PROTOCOL};

use super::*;

const RUN: &str = "job#1";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn run() -> RunId {
    RunId { job: RUN.parse().unwrap(), epoch: 1 }
}

fn connected_input() -> Input {
    let (system, isolation) = ("test".to_owned(), Isolation::None);
    let platform = Platform { system, isolation, codex: None, codex_problem: None };
    let progress = JobProgress { job: RUN.parse().unwrap(), epoch: 1, last_seq: 7 };
    let hello = Hello::new("a", 1, platform, vec![progress]);
    Input::Connected { hello: Box::new(hello), hello_sent: seconds(70) }
}

fn welcome(protocol: u32, durable: Vec<Durable>) -> Input {
    Input::Message(Some(RelayFrame::Welcome {
        protocol,
        durable,
        exit_cause: None,
        now: Timestamp::UNIX_EPOCH,
    }))
}

/// Feeds the link an input, and returns the actions that follow.
fn feed(link: &mut Link, input: Input, now: Duration) -> Vec<String> {
    link.handle_input(input, now);
    actions(link)
}

fn actions(link: &mut Link) -> Vec<String> {
    std::iter::from_fn(|| link.next_action()).map(|action| format!("{action:?}")).collect()
}

fn connecting_link() -> Link {
    let mut link = Link::new(Duration::ZERO);
    feed(&mut link, Input::Configured { has_relay_changed: false }, Duration::ZERO);
    link
}

/// Returns a link that received its welcome at 0 s.
fn serving_link() -> Link {
    let mut link = connecting_link();
    feed(&mut link, connected_input(), Duration::ZERO);
    link.next_reply().unwrap().expect("a hello");
    feed(&mut link, welcome(PROTOCOL, Vec::new()), Duration::ZERO);
    assert!(link.is_serving());
    link
}

#[test]
fn the_link_checks_for_a_configuration_and_then_connects() {
    let mut link = Link::new(Duration::ZERO);
    assert_eq!(actions(&mut link), ["CheckConfig"]);
    assert_eq!(link.deadline(), Some(DISCONNECTED_CHECK_INTERVAL));
    assert_eq!(feed(&mut link, Input::Timer, DISCONNECTED_CHECK_INTERVAL), ["CheckConfig"]);
    let configured = Input::Configured { has_relay_changed: false };
    assert_eq!(feed(&mut link, configured, DISCONNECTED_CHECK_INTERVAL), ["CheckConfig", "Connect"]);
    assert_eq!(link.deadline(), None);
}

#[test]
fn pauses_grow_until_a_welcome() {
    let mut link = connecting_link();
    let mut now = Duration::ZERO;
    let mut pauses = Vec::new();
    for _ in 0..7 {
        link.handle_input(Input::Failed(LinkError::Silent), now);
        assert_eq!(feed(&mut link, Input::Closed { jitter: u32::MAX }, now), ["Close(Silent)"]);
        let started_at = now;
        while actions(&mut link) != ["CheckConfig", "Connect"] {
            now = link.deadline().unwrap();
            link.handle_input(Input::Timer, now);
        }
        pauses.push(now.saturating_sub(started_at).as_millis());
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000]);
    feed(&mut link, connected_input(), now);
    feed(&mut link, welcome(PROTOCOL, Vec::new()), now);
    feed(&mut link, Input::Failed(LinkError::Silent), now);
    feed(&mut link, Input::Closed { jitter: u32::MAX }, now);
    assert_eq!(link.deadline(), Some(now + Duration::from_millis(100)));
}

#[test]
fn a_new_configuration_ends_every_pause_and_a_changed_relay_the_connection() {
    let mut link = connecting_link();
    feed(&mut link, Input::Failed(LinkError::Version("old".to_owned())), Duration::ZERO);
    feed(&mut link, Input::Closed { jitter: 0 }, Duration::ZERO);
    assert!(feed(&mut link, Input::Timer, seconds(59)) == ["CheckConfig"]);
    let configured = Input::Configured { has_relay_changed: false };
    assert_eq!(feed(&mut link, configured, seconds(1)), ["CheckConfig", "Connect"]);

    let mut link = serving_link();
    assert_eq!(link.deadline(), Some(CONNECTED_CHECK_INTERVAL));
    assert_eq!(feed(&mut link, Input::Timer, CONNECTED_CHECK_INTERVAL), ["CheckConfig"]);
    let none: [&str; 0] = [];
    assert_eq!(feed(&mut link, Input::Configured { has_relay_changed: false }, seconds(2)), none);
    assert_eq!(
        feed(&mut link, Input::Configured { has_relay_changed: true }, seconds(2)),
        ["Close(Reconfigured)"]
    );
    assert_eq!(feed(&mut link, Input::Closed { jitter: 0 }, seconds(2)), ["CheckConfig", "Connect"]);
}

#[test]
fn a_connection_to_a_silent_relay_is_closed() {
    let mut link = connecting_link();
    feed(&mut link, connected_input(), Duration::ZERO);
    assert_eq!(link.deadline(), Some(HELLO_TIMEOUT));
    assert_eq!(feed(&mut link, Input::Timer, HELLO_TIMEOUT), ["Close(Silent)"]);

    let mut link = serving_link();
    feed(&mut link, Input::Message(None), seconds(10));
    assert_eq!(feed(&mut link, Input::Timer, DEAD_AFTER), ["CheckConfig"]);
    assert_eq!(feed(&mut link, Input::Timer, seconds(10) + DEAD_AFTER), ["Close(Silent)"]);
}

#[test]
fn a_welcome_continues_runs_of_the_hello_and_ends_those_that_are_closed() {
    let durable =
        |job: &str, closed| Durable { job: job.parse().unwrap(), epoch: 1, seq: 5, output: 9, closed };
    let mut link = connecting_link();
    feed(&mut link, connected_input(), Duration::ZERO);
    let welcomed =
        feed(&mut link, welcome(PROTOCOL, vec![durable(RUN, false), durable("b#1", false)]), seconds(1));
    assert_eq!(welcomed[0], "Synchronize { hello_sent: 70s, relay_now: 1970-01-01T00:00:00Z }");
    assert_eq!(welcomed[1], "SetRecoveryCause { cause: None }");
    assert_eq!(welcomed[2..], [format!("Spool(Resume {{ run: {:?}, seq: 5, output_offset: 9 }})", run())]);

    let mut link = connecting_link();
    feed(&mut link, connected_input(), Duration::ZERO);
    let welcomed = feed(&mut link, welcome(PROTOCOL, vec![durable(RUN, true)]), seconds(1));
    assert_eq!(welcomed[2..], [format!("Abandon({:?})", run())]);
}

#[test]
fn a_connection_to_a_relay_that_breaks_the_protocol_is_closed() {
    let mut link = connecting_link();
    feed(&mut link, connected_input(), Duration::ZERO);
    let closed = feed(&mut link, welcome(PROTOCOL + 1, Vec::new()), Duration::ZERO);
    assert!(closed.len() == 1 && closed[0].contains("which was not offered"), "{closed:?}");

    let mut link = connecting_link();
    feed(&mut link, connected_input(), Duration::ZERO);
    let closed = feed(&mut link, Input::Message(Some(RelayFrame::Ping { nonce: 1 })), Duration::ZERO);
    assert!(closed.len() == 1 && closed[0].contains("it sent a message before its welcome"), "{closed:?}");

    let mut link = serving_link();
    let closed = feed(&mut link, welcome(PROTOCOL, Vec::new()), Duration::ZERO);
    assert!(closed.len() == 1 && closed[0].contains("it sent two welcomes"), "{closed:?}");

    let mut link = serving_link();
    let closed: Vec<_> = (0..300)
        .flat_map(|nonce| feed(&mut link, Input::Message(Some(RelayFrame::Ping { nonce })), Duration::ZERO))
        .collect();
    assert!(closed.len() == 1 && closed[0].contains("without reading the replies"), "{closed:?}");
}

#[test]
fn a_relay_with_vitals_gets_the_newest_after_replies_and_an_older_one_none() {
    let measured = |cores| Input::Vitals(Box::new(MachineVitals { cores, ..MachineVitals::default() }));
    for (protocol, sent) in [(VITALS_PROTOCOL, Some(2)), (PROTOCOL_MIN, None)] {
        let mut link = connecting_link();
        feed(&mut link, connected_input(), Duration::ZERO);
        while link.next_reply().unwrap().is_some() {}
        feed(&mut link, welcome(protocol, Vec::new()), Duration::ZERO);
        for input in [measured(1), measured(2), Input::Message(Some(RelayFrame::Ping { nonce: 1 }))] {
            feed(&mut link, input, Duration::ZERO);
        }
        let frames = std::iter::from_fn(|| link.next_reply().unwrap());
        let frames: Vec<AgentFrame> = frames.map(|bytes| wire::decode(&bytes).unwrap()).collect();
        let vitals =
            |cores| AgentFrame::Vitals(Box::new(MachineVitals { cores, ..MachineVitals::default() }));
        let expected: Vec<_> = [AgentFrame::Pong { nonce: 1 }].into_iter().chain(sent.map(vitals)).collect();
        assert_eq!(frames, expected, "protocol {protocol}");
    }
}

#[test]
fn inputs_after_the_end_of_a_connection_change_nothing() {
    let mut link = serving_link();
    feed(&mut link, Input::Failed(LinkError::Silent), Duration::ZERO);
    let none: [&str; 0] = [];
    let ping = Input::Message(Some(RelayFrame::Ping { nonce: 1 }));
    for late in
        [ping, Input::Failed(LinkError::Silent), Input::Appended, Input::Timer, Input::Delivered(run())]
    {
        assert_eq!(feed(&mut link, late, seconds(99)), none);
    }
    assert!(!link.may_send());
}
