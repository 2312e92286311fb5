//! Damage of every kind.

use common::event::{Event, EventBody};
use common::event_line::Source;

use super::*;

fn line(seq: u64) -> Vec<u8> {
    let event =
        Event { at: jiff::Timestamp::UNIX_EPOCH, body: EventBody::Message { text: format!("number {seq}") } };
    let job = "a#1".parse().unwrap();
    EventLine { id: seq, job, epoch: 1, seq, source: Source::Agent, event: Some(event) }.to_bytes().unwrap()
}

fn log_of(bytes: &[u8]) -> Log {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    read(file.path()).unwrap()
}

#[test]
fn every_truncation_gives_exactly_the_whole_lines() {
    let lines: Vec<_> = (1..=5).map(line).collect();
    let whole = lines.concat();
    for len in 0..=whole.len() {
        let log = log_of(&whole[..len]);
        let mut good = 0;
        let expected =
            lines.iter().take_while(|line| (good + line.len() <= len).then(|| good += line.len()).is_some());
        assert_eq!(log.lines.len(), expected.count(), "length {len}");
        assert_eq!((log.good_bytes, log.torn_bytes), (good as u64, (len - good) as u64));
        assert!(log.bad.is_empty());
    }
}

#[test]
fn damage_in_the_middle_is_listed_and_a_bad_tail_is_torn() {
    let mut bytes = [line(1), line(2), line(3)].concat();
    let middle = line(1).len() + 20;
    bytes[middle] ^= 1;
    bytes.extend_from_slice(&[0; 4096]);
    let log = log_of(&bytes);
    assert_eq!(log.lines.iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 3]);
    assert_eq!((log.bad.len(), log.bad[0].0, log.torn_bytes), (1, 2, 4096));
}

#[test]
fn a_follower_sees_each_whole_line_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut follower = Follower::new();
    let bytes = [line(1), line(2)].concat();
    std::fs::write(file.path(), &bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(follower.next_lines(file.path()).unwrap().len(), 1);
    std::fs::write(file.path(), &bytes).unwrap();
    let found = follower.next_lines(file.path()).unwrap();
    assert_eq!(found.iter().map(|(_, line)| line.seq).collect::<Vec<_>>(), [2]);
    assert!(follower.next_lines(file.path()).unwrap().is_empty());
}
