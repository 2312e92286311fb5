//! Tests of the lines of event logs, intact and damaged.

use super::read::{LineFields, parse_any_order};
use super::*;
use crate::event::{StepOutcome, Usage};

fn line(body: EventBody) -> EventLine {
    EventLine {
        id: 918,
        job: "abe-smoke#1".parse().unwrap(),
        epoch: 1,
        seq: 12,
        source: Source::Agent,
        event: Some(Event { at: "2026-01-02T03:04:05.678Z".parse().unwrap(), body }),
    }
}

fn finished_step() -> EventLine {
    let body = EventBody::StepFinished {
        n: 3,
        outcome: StepOutcome::Failed,
        exit_code: Some(1),
        elapsed_ms: 1500,
        resources: None,
    };
    line(body)
}

#[test]
fn a_line_has_the_documented_form() {
    let text = String::from_utf8(finished_step().to_bytes().unwrap()).unwrap();
    insta::assert_snapshot!(text.trim_end(), @r#"{"v":1,"id":918,"job":"abe-smoke#1","epoch":1,"seq":12,"at":"2026-01-02T03:04:05.678Z","source":"agent","type":"step_finished","n":3,"outcome":"failed","exit_code":1,"elapsed_ms":1500,"resources":null,"crc":"e1d50217"}"#);
}

#[test]
fn a_written_line_is_parsed_as_the_same_line() {
    for body in [EventBody::Usage(Usage::default()), EventBody::Message { text: "a\"b\n}".to_owned() }] {
        let line = line(body);
        similar_asserts::assert_eq!(EventLine::parse(&line.to_bytes().unwrap()).unwrap(), line);
    }
}

#[test]
fn every_single_bit_flip_and_every_truncation_is_detected() {
    let good = finished_step().to_bytes().unwrap();
    let good = &good[..good.len() - 1];
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(EventLine::parse(&bad).is_err(), "bit {bit}");
    }
    for len in 0..good.len() {
        assert!(EventLine::parse(&good[..len]).is_err(), "length {len}");
    }
}

#[test]
fn a_line_of_an_unknown_type_has_no_event_and_a_newer_format_is_refused() {
    let with_crc = |body: &str| format!("{body},\"crc\":\"{:08x}\"}}", crc32c::crc32c(body.as_bytes()));
    let unknown = r#"{"v":1,"id":1,"job":"a#1","epoch":1,"seq":1,"at":"2026-01-02T03:04:05Z","source":"agent","type":"levitated","height":3"#;
    assert_eq!(EventLine::parse(with_crc(unknown).as_bytes()).unwrap().event, None);
    let newer = unknown.replace("\"v\":1", "\"v\":2");
    assert_eq!(EventLine::parse(with_crc(&newer).as_bytes()), Err(LineError::Newer(2)));
}

/// Returns events of several types, with texts that are hard to parse.
fn bodies() -> Vec<EventBody> {
    let texts = ["", "a\"b\\c\n}", "{\"type\":\"x\"},\"crc\":\"00000000\"}", "\u{1}\u{1f600}"];
    let mut bodies: Vec<_> =
        texts.iter().map(|text| EventBody::Message { text: (*text).to_owned() }).collect();
    bodies.extend([
        EventBody::Usage(Usage::default()),
        EventBody::Plan { items: Vec::new() },
        EventBody::Cleanup { killed: u32::MAX, survivors: 0 },
        EventBody::LinkLost { reason: "]".to_owned() },
        EventBody::Extended { n: None, limit_ms: u64::MAX },
    ]);
    bodies
}

#[test]
fn the_fast_and_the_general_parser_return_the_same_line() {
    for body in bodies() {
        let line = line(body);
        let bytes = line.to_bytes().unwrap();
        let covered = verify_checksum(bytes.strip_suffix(b"\n").unwrap()).unwrap();
        assert!(
            LineFields::parse(covered).is_some(),
            "lines are written in the order that the fast parser reads"
        );
        similar_asserts::assert_eq!(parse_any_order(covered).unwrap(), line);
        similar_asserts::assert_eq!(EventLine::parse(&bytes).unwrap(), line);
        assert_eq!(checked_id(&bytes), Ok(line.id));
    }
}

#[test]
fn a_line_in_another_order_is_read_too() {
    let good = String::from_utf8(finished_step().to_bytes().unwrap()).unwrap();
    let body = good.split_once(",\"crc\"").unwrap().0;
    let reordered = body.replace(",\"seq\":12", "") + ",\"seq\":12";
    let line = format!("{reordered},\"crc\":\"{:08x}\"}}\n", crc32c::crc32c(reordered.as_bytes()));
    assert_eq!(EventLine::parse(line.as_bytes()).unwrap(), finished_step());
    assert_eq!(checked_id(line.as_bytes()), Ok(918));
}

#[test]
fn the_checksum_of_a_line_s_content_depends_only_on_the_event() {
    let sum = |id, seq, body: &EventBody| {
        let line = EventLine { id, seq, ..line(body.clone()) };
        let mut bytes = b"something in front".to_vec();
        let start = bytes.len();
        let sum = line.append_to(&mut bytes).unwrap();
        assert_eq!(content_checksum(&bytes[start..]), sum);
        sum
    };
    let bodies = bodies();
    let sums: std::collections::BTreeSet<u32> = bodies.iter().map(|body| sum(1, 1, body)).collect();
    assert_eq!(sums.len(), bodies.len());
    assert_eq!(sum(1, 1, &bodies[0]), sum(2, 700, &bodies[0]));
}
