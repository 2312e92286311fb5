use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use common::event::{
    ChangedFile, Changes, EventBody, FailureKind, FinalState, Isolation, JobError, PlanItem, Queued,
    StepOutcome, Usage,
};
use common::evidence::{CheckEvidence, Evidence};
use common::hold::Hold;
use common::job::{Runner, StepKind};
use common::refused_hosts::RefusedHost;
use common::result::{JobResult, ResultState};
use proptest::prelude::*;

use super::*;

const VALUES: [&str; 5] = [
    "s3cr3t-Canary+value/42",
    "päss wörd \"quoted\" \\ and <more>&",
    "-----BEGIN KEY-----\nMIIEabcdefgh0123456789+/ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz01\nab==\n-----END KEY-----",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "x9!€$ü/",
];

fn masker(values: &[&str]) -> Arc<Masker> {
    let mut secrets = Secrets::new(&[]);
    for (n, value) in values.iter().enumerate() {
        secrets.add(&format!("S{n}"), value);
    }
    Arc::new(Masker::new(secrets))
}

fn json(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    quoted[1..quoted.len() - 1].to_owned()
}

fn json_ascii(text: &str) -> String {
    let escaped = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) };
    json(text).chars().map(escaped).collect()
}

fn percent(text: &str, is_upper: bool, is_form: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' if is_form => out.push('+'),
            b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => out.push(char::from(byte)),
            _ if is_upper => write!(out, "%{byte:02X}").unwrap(),
            _ => write!(out, "%{byte:02x}").unwrap(),
        }
    }
    out
}

fn wrapped(text: &str, width: usize, end: &str) -> String {
    let lines: Vec<_> =
        text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
    lines.join(end)
}

/// Returns every spelling of a value that must be masked.
fn spellings(value: &str) -> Vec<String> {
    let mut all =
        vec![value.to_owned(), json(value), json_ascii(value), json(&json(value)), json(&json_ascii(value))];
    for upper in [true, false] {
        for form in [true, false] {
            all.push(percent(value, upper, form));
        }
    }
    let escaped =
        value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let coloured: Vec<String> = value.chars().map(String::from).collect();
    all.extend([
        percent(&percent(value, true, false), true, false),
        value.replace('"', "\"\""),
        escaped,
        coloured.join("\x1b[31m"),
        json(&coloured.join("\x1b[m")),
    ]);
    for before in ["", "a", "ab", "user:", "a longer beginning: "] {
        for behind in ["", "\n", "@host"] {
            let text = format!("{before}{value}{behind}");
            for encoded in [
                STANDARD.encode(&text),
                STANDARD_NO_PAD.encode(&text),
                URL_SAFE.encode(&text),
                URL_SAFE_NO_PAD.encode(&text),
            ] {
                all.push(wrapped(&encoded, 76, "\n"));
                all.push(wrapped(&encoded, 11, "\\n"));
                all.push(wrapped(&encoded, 64, "\r\n"));
                all.push(encoded);
            }
        }
    }
    let hex = hex::encode(value);
    all.extend([
        hex.to_uppercase(),
        wrapped(&hex, 60, "\n"),
        wrapped(&hex, 2, " "),
        wrapped(&hex, 2, ":"),
        hex,
    ]);
    all
}

/// Returns a piece of a spelling, twelve bytes long, that a text still contains.
fn remaining_piece<'a>(text: &str, spelling: &'a str) -> Option<&'a str> {
    let starts = 0..spelling.len().saturating_sub(11);
    starts.filter_map(|start| spelling.get(start..start + 12)).find(|piece| text.contains(piece))
}

#[test]
fn a_value_is_masked_in_every_promised_encoding() {
    let masker = masker(&VALUES);
    for value in VALUES {
        for spelling in spellings(value) {
            let text = format!("before {spelling} behind");
            let shown = masker.mask_text(&text);
            assert!(shown.contains("***S"), "{spelling:?} stays: {shown}");
            assert!(shown.starts_with("before ") && shown.ends_with(" behind"), "{shown}");
        }
    }
}

#[test]
fn only_the_marker_stays_of_a_value() {
    let masker = masker(&VALUES);
    for value in VALUES {
        for text in [value.to_owned(), json(value), percent(value, true, false), hex::encode(value)] {
            let shown = masker.mask_text(&text).into_owned();
            let n = VALUES.iter().position(|other| *other == value).unwrap();
            assert_eq!(shown, format!("***S{n}***"), "{text}");
        }
        let encoded = STANDARD.encode(format!("user:{value}@host"));
        let shown = masker.mask_text(&encoded);
        assert_eq!(remaining_piece(&shown, &encoded), None, "{shown}");
    }
}

#[test]
fn texts_without_secrets_are_returned_without_a_copy() {
    let masker = masker(&VALUES);
    for text in ["", "s3cr3t", "s3cr3t-Canary+value/43", "cargo test", "…", "ghp_16C7"] {
        let shown = masker.mask_text(text);
        let cut = text == "ghp_16C7" || text.len() > 8 && text.starts_with("ghp_16C7");
        assert_eq!(matches!(shown, std::borrow::Cow::Borrowed(_)), !cut, "{text}: {shown}");
    }
}

#[test]
fn the_first_part_of_a_value_at_the_end_of_a_text_is_masked() {
    let masker = masker(&VALUES);
    assert_eq!(masker.mask_text("curl -H ghp_16C7e42F29…"), "curl -H ***S3***…");
    assert_eq!(masker.mask_text("curl -H ghp_16C7e42F29"), "curl -H ***S3***");
}

#[test]
fn longer_secrets_win_and_overlapping_ones_are_all_masked() {
    let masker = masker(&["4bcdefgh", "4bcdefghijkl", "ijklmn0p"]);
    assert_eq!(masker.mask_text("4bcdefghijkl 4bcdefghij ijklmn0p"), "***S1*** ***S0***ij ***S2***");
    let shown = masker.mask_text("4bcdefghijklmn0p").into_owned();
    assert!(!shown.contains("4bcdef") && shown.starts_with("***S1***"), "{shown}");
}

#[test]
fn a_prompt_is_released_and_a_secret_after_it_is_still_masked() {
    let masker = masker(&["secret-value-1"]);
    let mut stream = MaskedStream::new(masker);
    assert_eq!(stream.push(b"Password: ".to_vec()), b"Password: ");
    assert!(!stream.has_releasable());
    assert_eq!(stream.push(b"Who is it, s".to_vec()), b"Who is it, ");
    assert!(stream.has_releasable());
    assert_eq!(stream.release(), b"s");
    assert!(!stream.has_releasable() && stream.release().is_empty());
    assert_eq!(stream.push(b"ecret-val".to_vec()), b"");
    assert_eq!(stream.push(b"ue-1!".to_vec()), b"***S0***!");
    assert_eq!(stream.push(b"se".to_vec()), b"");
    assert_eq!(stream.release(), b"se");
    assert_eq!(stream.push(b"ven".to_vec()), b"ven");
    assert_eq!(stream.push(b"secret-va".to_vec()), b"");
    assert!(!stream.has_releasable(), "too much of a secret to be shown");
    assert_eq!(stream.finish(), b"***S0***");
    assert_eq!(stream.finish(), b"");
}

#[test]
fn an_end_that_only_resembles_a_secret_s_beginning_is_shown() {
    let mut stream = MaskedStream::new(masker(&["secret-value-1"]));
    assert_eq!(stream.push(b"the sec".to_vec()), b"the ");
    assert_eq!(stream.finish(), b"sec");
    assert_eq!(stream.push(b"se".to_vec()), b"");
    assert_eq!(stream.release(), b"se");
    assert_eq!(stream.finish(), b"");
}

#[test]
fn endless_line_breaks_in_an_encoded_value_are_not_held_back() {
    let mut stream = MaskedStream::new(masker(&[VALUES[2]]));
    let mut begun = STANDARD.encode(VALUES[2]).into_bytes();
    begun.truncate(40);
    assert_eq!(stream.push(begun), b"");
    let shown: usize = (0..100).map(|_| stream.push(vec![b'\n'; 1000]).len()).sum();
    assert!(shown >= 99_000, "{shown}");
}

proptest! {
    #[test]
    fn a_text_is_masked_the_same_in_whatever_pieces_it_arrives(
        parts in proptest::collection::vec((any::<proptest::sample::Index>(), "[a-zA-Z0-9+ \n]{0,12}"), 1..6),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let masker = masker(&VALUES);
        let all: Vec<String> = VALUES.iter().flat_map(|value| spellings(value)).collect();
        let pieces: Vec<String> =
            parts.iter().map(|(which, filler)| format!("{filler}{}", which.get(&all))).collect();
        let text = pieces.concat();
        let text = text.into_bytes();
        let mut single_piece = MaskedStream::new(Arc::clone(&masker));
        let mut expected = single_piece.push(text.clone());
        expected.extend(single_piece.finish());
        let mut offsets: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        offsets.extend([0, text.len()]);
        offsets.sort_unstable();
        let mut stream = MaskedStream::new(masker);
        let mut masked = Vec::new();
        for pair in offsets.windows(2) {
            masked.extend(stream.push(text[pair[0]..pair[1]].to_vec()));
        }
        masked.extend(stream.finish());
        prop_assert_eq!(String::from_utf8_lossy(&masked), String::from_utf8_lossy(&expected));
    }
}

fn hold(message: String) -> Hold {
    Hold { kind: FailureKind::UsageLimit, message, until: None, next_try_at: None }
}

/// Returns one event of each kind, with a secret in each text.
fn events(secret: &str) -> Vec<EventBody> {
    let s = || format!("a {secret} b");
    let all = vec![
        EventBody::Queued(Box::new(Queued {
            workspace: s(),
            prompt_summary: s(),
            runner: Runner::Shell,
            engine: s(),
            log_path: s(),
            events_path: s(),
            ..Queued::default()
        })),
        EventBody::Accepted { agent: s(), isolation: Isolation::None, workspace_log: Some(s()) },
        EventBody::Started { pid: 1, thread_id: Some(s()) },
        EventBody::StepStarted { n: 1, kind: StepKind::Test, title: s(), limit_ms: None, parent: None },
        EventBody::StepFinished {
            n: 1,
            outcome: StepOutcome::Ok,
            exit_code: None,
            elapsed_ms: 1,
            resources: None,
        },
        EventBody::Message { text: s() },
        EventBody::Plan { items: vec![PlanItem { text: s(), completed: true }] },
        EventBody::FileChange { files: vec![ChangedFile { path: s(), kind: s() }] },
        EventBody::Usage(Usage::default()),
        EventBody::Warning { message: s() },
        EventBody::Stalled { n: 1, evidence: s() },
        EventBody::LinkLost { reason: s() },
        EventBody::LinkRestored { agent: s() },
        EventBody::Stopping { reason: s() },
        EventBody::Cleanup { killed: 1, survivors: 0 },
        EventBody::Finished {
            state: FinalState::Failed,
            error: Some(JobError { kind: FailureKind::CheckFailed, message: s(), step: None }),
            exit_code: None,
            changes: Some(Changes::default()),
        },
        EventBody::Extended { n: None, limit_ms: 1 },
        EventBody::Interrupted { n: 1, reason: s() },
        EventBody::Vitals(Box::default()),
        EventBody::Result(Box::new(JobResult {
            branch: s(),
            base: s(),
            commit: Some(s()),
            commits: 1,
            files: 1,
            insertions: 1,
            deletions: 1,
            state: ResultState::Open,
            note: Some(s()),
        })),
        EventBody::Evidence(Box::new(Evidence {
            codex_version: Some(s()),
            model: Some(s()),
            checks: vec![CheckEvidence {
                command: s(),
                command_sha256: s(),
                exit_code: Some(1),
                output_sha256: s(),
                output_bytes: 1,
            }],
        })),
        EventBody::Waiting { reason: None },
        EventBody::FolderShared { jobs: Vec::new() },
        EventBody::ModelUsage(Box::default()),
        EventBody::ModelProblem { problem: None },
        EventBody::Held { hold: Some(Box::new(hold(s()))) },
        EventBody::NetworkRefused(RefusedHost { host: String::new(), count: 1 }),
    ];
    all.iter().for_each(check_kind);
    all
}

/// Does not compile until a new kind of event is named here, and so added to [`events`].
fn check_kind(event: &EventBody) {
    match event {
        EventBody::Queued(_)
        | EventBody::Accepted { .. }
        | EventBody::Started { .. }
        | EventBody::StepStarted { .. }
        | EventBody::StepFinished { .. }
        | EventBody::Message { .. }
        | EventBody::Plan { .. }
        | EventBody::FileChange { .. }
        | EventBody::Usage(_)
        | EventBody::Warning { .. }
        | EventBody::Stalled { .. }
        | EventBody::LinkLost { .. }
        | EventBody::LinkRestored { .. }
        | EventBody::Stopping { .. }
        | EventBody::Cleanup { .. }
        | EventBody::Finished { .. }
        | EventBody::Extended { .. }
        | EventBody::Interrupted { .. }
        | EventBody::Vitals(_)
        | EventBody::Result(_)
        | EventBody::Evidence(_)
        | EventBody::Waiting { .. }
        | EventBody::FolderShared { .. }
        | EventBody::ModelUsage(_)
        | EventBody::ModelProblem { .. }
        | EventBody::Held { .. }
        | EventBody::NetworkRefused(_) => {}
    }
}

#[test]
fn no_event_in_the_spool_contains_a_secret_in_any_field() {
    const CANARY: &str = "canary-5f3a9c";
    let dir = tempfile::tempdir().unwrap();
    let spool = crate::spool::Spool::open(dir.path()).unwrap();
    for (n, event) in (1..).zip(events(CANARY)) {
        let run = crate::spool::RunId { job: format!("demo#{n}").parse().unwrap(), epoch: 1 };
        let run = spool.create_run(run, "{}", masker(&[CANARY])).unwrap();
        let had_secret = format!("{event:?}").contains(CANARY);
        run.append(event);
        let stored = format!("{:?}", run.read(1, 9, 99_999).unwrap());
        assert!(!stored.contains(CANARY), "{stored}");
        assert_eq!(stored.contains("***S0***"), had_secret, "{stored}");
    }
}

#[test]
fn a_masker_of_many_long_secrets_is_built_quickly_and_stays_small() {
    let piece = |n: u64, k: u64| format!("{:032x}", u128::from(n * 7919 + k) * 0x9E37_79B9_7F4A_7C15);
    let value = |n: u64| (0..128).map(|k| piece(n, k)).collect::<Vec<_>>().concat();
    let values: Vec<String> = (0..100).map(value).collect();
    let mut secrets = Secrets::new(&[]);
    for value in &values {
        assert_eq!(value.len(), 4096);
        secrets.add("TOKEN", value);
    }
    let begun = Instant::now();
    let masker = Masker::new(secrets);
    let built = begun.elapsed();
    assert!(masker.size() < 1024 * 1024, "{} bytes", masker.size());
    for value in &values {
        let encoded = format!("key {} end", STANDARD.encode(format!("u:{value}")));
        assert!(masker.mask_text(&encoded).len() < 50);
    }
    assert!(built.as_secs() < 30, "{built:?}");
}

#[test]
fn debug_output_contains_no_value() {
    assert!(!format!("{:?}", masker(&["s3cr3t-Canary"])).contains("Canary"));
}
