//! Tests of the bytes of each frame. Other bytes for the same frame require a new protocol version.

use super::*;
use crate::event::{Event, EventBody, FinalState, Isolation, Queued, Resources, StepOutcome, Usage};
use crate::evidence::{CheckEvidence, Evidence};
use crate::hold::Hold;
use crate::job::{Runner, StepKind};
use crate::stream::{StreamPart, StreamService};
use crate::vitals::{MachineVitals, Space};

fn job() -> crate::ids::JobId {
    "abe-smoke#1".parse().unwrap()
}

fn hex<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(frame: &T) -> String {
    let bytes = encode(frame).unwrap();
    assert_eq!(&decode::<T>(&bytes).unwrap(), frame);
    hex::encode(bytes)
}

fn hello(protocol_max: u32, vitals: Option<Box<MachineVitals>>) -> Hello {
    Hello {
        protocol_min: 3,
        protocol_max,
        agent: "a1".into(),
        version: "0.1.0".into(),
        max_jobs: 4,
        platform: Platform {
            system: "linux x86_64".into(),
            isolation: Isolation::Container,
            codex: Some("0.169.0".into()),
            codex_problem: None,
        },
        jobs: vec![JobProgress { job: job(), epoch: 1, last_seq: 300 }],
        vitals,
    }
}

/// Returns the bytes of a `Hello` in hexadecimal, after checking that they are decoded as the same `Hello`.
fn hello_hex(hello: &Hello) -> String {
    let bytes = encode_hello(hello.clone()).unwrap();
    let read = decode_hello(&bytes, &decode_hello_prefix(&bytes).unwrap()).unwrap();
    assert_eq!(read.as_ref(), Some(hello));
    hex::encode(bytes)
}

fn vitals() -> MachineVitals {
    let space = |total, available| Some(Space { total, available });
    MachineVitals {
        cores: 2,
        load_milli: 1250,
        memory: space(8 << 30, 120 << 20),
        memory_limit: Some(8 << 30),
        swap: space(0, 0),
        workspaces: space(1 << 40, 1 << 33),
        state: None,
    }
}

#[test]
fn frames_of_the_agent() {
    let frames = [
        AgentFrame::Accepted { job: job(), epoch: 1 },
        AgentFrame::Refused { job: job(), epoch: 1, reason: "full".into(), is_busy: true },
        AgentFrame::Output { job: job(), epoch: 1, offset: 70000, bytes: b"hi".to_vec() },
        AgentFrame::Pong { nonce: 9 },
    ];
    let frames = frames.map(|frame| hex(&frame)).join("\n");
    insta::assert_snapshot!(format!("{}\n{frames}", hello_hex(&hello(3, None))));
}

#[test]
fn additions_of_protocol_5() {
    let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
    let event = Event { at, body: EventBody::Vitals(Box::new(vitals())) };
    let frame = AgentFrame::Vitals(Box::new(vitals()));
    let [plain, with_vitals] = [None, Some(Box::new(vitals()))].map(|vitals| hello(5, vitals));
    assert_eq!(hello_hex(&with_vitals), hex(&AgentFrame::Hello(Box::new(with_vitals.clone()))));
    insta::assert_snapshot!(
        [hello_hex(&plain), hello_hex(&with_vitals), hex(&frame), hex(&event)].join("\n")
    );
}

#[test]
fn additions_of_protocol_6() {
    let parts = [StreamPart::Data(b"hi".to_vec()), StreamPart::Window(70_000), StreamPart::Close(None)];
    let parts = parts.into_iter().chain([StreamPart::Close(Some("no".into()))]);
    let services = [
        StreamService::FetchPlace,
        StreamService::PushResult,
        StreamService::PushOutput,
        StreamService::FetchImages,
    ];
    let opens = services.map(|service| AgentFrame::StreamOpen { stream: 1, job: job(), epoch: 2, service });
    let mut lines: Vec<String> = opens.iter().map(hex).collect();
    for part in parts {
        lines.push(hex(&AgentFrame::Stream { stream: 300, part: part.clone() }));
        lines.push(hex(&RelayFrame::Stream { stream: 300, part }));
    }
    let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
    let check = CheckEvidence {
        command: "npm test".into(),
        command_sha256: "ab".into(),
        exit_code: Some(1),
        output_sha256: "cd".into(),
        output_bytes: 300,
    };
    let evidence = Evidence { codex_version: Some("0.169.0".into()), model: None, checks: vec![check] };
    lines.push(hex(&Event { at, body: EventBody::Evidence(Box::new(evidence)) }));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn additions_of_protocol_7() {
    let open = AgentFrame::StreamOpen { stream: 1, job: job(), epoch: 2, service: StreamService::Model };
    let retries = RetrySettings { request_max_retries: Some(2), ..RetrySettings::default() };
    let model = ModelGrant { token: ModelToken::new("ab".into()), retries, is_azure: false };
    let start = RelayFrame::StartWithModel { job: job(), epoch: 1, spec: "{}".into(), model };
    assert_eq!(format!("{start:?}"), "StartWithModel { abe-smoke#1, 1, 2 bytes }");
    insta::assert_snapshot!([hex(&open), hex(&start)].join("\n"));
}

#[test]
fn additions_of_protocol_8() {
    let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
    let (kind, message) = (crate::event::FailureKind::UsageLimit, "used up".to_owned());
    let hold = Hold { kind, message, until: Some(at), next_try_at: None };
    let events = [Some(Box::new(hold)), None].map(|hold| hex(&Event { at, body: EventBody::Held { hold } }));
    insta::assert_snapshot!(format!("{}\n{}", events.join("\n"), hex(&RelayFrame::Continue { job: job() })));
}

#[test]
fn additions_for_the_network_to_protocol_7() {
    let open = AgentFrame::StreamOpen { stream: 1, job: job(), epoch: 2, service: StreamService::Network };
    insta::assert_snapshot!(hex(&open));
}

#[test]
fn frames_of_the_relay() {
    let frames = [
        RelayFrame::Welcome {
            protocol: 3,
            durable: vec![Durable { job: job(), epoch: 1, seq: 3, output: 10, closed: false }],
            exit_cause: Some(TerminationCause {
                kind: crate::event::FailureKind::ContainerExited,
                message: "gone".into(),
                exit_code: Some(137),
            }),
            now: jiff::Timestamp::UNIX_EPOCH,
        },
        RelayFrame::Start { job: job(), epoch: 1, spec: "{}".into() },
        RelayFrame::Cancel { job: job(), grace_ms: 5000 },
        RelayFrame::Ack { job: job(), epoch: 1, seq: 12 },
        RelayFrame::OutputAck { job: job(), epoch: 1, offset: 70002 },
        RelayFrame::Ping { nonce: 9 },
        RelayFrame::Extend { job: job(), step: true, by_ms: 60_000 },
    ];
    insta::assert_snapshot!(frames.map(|frame| hex(&frame)).join("\n"));
}

#[test]
fn every_event() {
    let bodies = vec![
        EventBody::Queued(Box::new(Queued {
            workspace: "/w".into(),
            prompt_summary: "do".into(),
            runner: Runner::Codex,
            engine: "local".into(),
            log_path: "/l".into(),
            events_path: "/e".into(),
            ..Queued::default()
        })),
        EventBody::Accepted {
            agent: "a1".into(),
            isolation: Isolation::None,
            workspace_log: Some("l".into()),
        },
        EventBody::Started { pid: 312, thread_id: Some("t".into()) },
        EventBody::StepStarted {
            n: 1,
            kind: StepKind::Install,
            title: "npm ci".into(),
            limit_ms: Some(600_000),
            parent: Some(2),
        },
        EventBody::StepFinished {
            n: 1,
            outcome: StepOutcome::Failed,
            exit_code: Some(1),
            elapsed_ms: 1500,
            resources: Some(Resources { cpu_ms: 300, peak_memory: 4096 }),
        },
        EventBody::Message { text: "hi".into() },
        EventBody::Plan { items: vec![crate::event::PlanItem { text: "x".into(), completed: true }] },
        EventBody::FileChange {
            files: vec![crate::event::ChangedFile { path: "a".into(), kind: "add".into() }],
        },
        EventBody::Usage(Usage {
            input_tokens: 100,
            cached_input_tokens: 10,
            output_tokens: 20,
            reasoning_output_tokens: 0,
        }),
        EventBody::Warning { message: "slow".into() },
        EventBody::Stalled { n: 1, evidence: "node idle".into() },
        EventBody::LinkLost { reason: "closed".into() },
        EventBody::LinkRestored { agent: "a1".into() },
        EventBody::Stopping { reason: "cancelled".into() },
        EventBody::Cleanup { killed: 2, survivors: 0 },
        EventBody::Finished {
            state: FinalState::Failed,
            error: Some(crate::event::JobError {
                kind: crate::event::FailureKind::StepTimeout,
                message: "m".into(),
                step: Some(1),
            }),
            exit_code: Some(137),
            changes: Some(crate::event::Changes { files: 1, insertions: 2, deletions: 3 }),
        },
        EventBody::Extended { n: Some(1), limit_ms: 900_000 },
        EventBody::Interrupted { n: 1, reason: "stalled".into() },
        EventBody::Waiting { reason: Some(crate::wait_reason::WaitReason::Folder { job: job() }) },
        EventBody::FolderShared { jobs: vec![job()] },
    ];
    let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
    let batch: Vec<_> = bodies.into_iter().map(|body| Event { at, body }).collect();
    let lines: Vec<_> = batch.iter().map(hex).collect();
    insta::assert_snapshot!(lines.join("\n"));
    hex(&AgentFrame::Events { job: job(), epoch: 1, first_seq: 1, batch });
}
