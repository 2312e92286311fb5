//! Tests with texts that the real Codex printed, or that are in its binary.

use super::*;

fn now() -> Zoned {
    "2026-01-02T10:00[+01:00]".parse().unwrap()
}

fn parse(message: &str) -> ModelError {
    super::parse(message, &now())
}

fn failure_reason(message: &str) -> String {
    parse(message).failure_reason()
}

#[test]
fn a_usage_limit_keeps_its_reset_time() {
    assert_eq!(
        failure_reason(
            "You’ve hit your usage limit. Upgrade to Pro (https://chatgpt.com/explore/pro), visit \
             https://chatgpt.com/settings/usage to purchase more credits or try again at 5:53 PM."
        ),
        "the usage limit of the account is reached: try again at 2026-01-02 17:53+01:00, or add credits (codex: You’ve hit your \
         usage limit. Upgrade to Pro (https://chatgpt.com/explore/pro), visit https://chatgpt.com/settings/usage to \
         purchase more credits or try again at 5:53 PM.)"
    );
    let long = failure_reason(&format!(
        "You've hit your usage limit. {} Try again or try again in 2 days 3 hours.",
        "x".repeat(900)
    ));
    assert!(
        long.starts_with("the usage limit of the account is reached: try again in 2 days 3 hours, or"),
        "{long}"
    );
    assert!(long.len() < 450, "{long}");
    assert!(
        failure_reason("You’ve hit your usage limit.")
            .contains("is reached: try again later, or add credits")
    );
}

#[test]
fn a_reset_time_is_shown_with_its_date_and_zone() {
    let format = |text: &str| format_reset_time(text, &now());
    assert_eq!(format("5:53 PM").as_deref(), Some("2026-01-02 17:53+01:00"));
    assert_eq!(format("12:05 AM").as_deref(), Some("2026-01-02 00:05+01:00"));
    assert_eq!(format("Jan 1st, 2100 5:53 AM").as_deref(), Some("2100-01-01 05:53+01:00"));
    assert_eq!(format("Aug 23rd, 2026 11:00 PM").as_deref(), Some("2026-08-23 23:00+01:00"));
    assert_eq!(format("some time"), None);
}

#[test]
fn a_usage_limit_ends_with_the_minute_that_codex_names() {
    let end = |message: &str| usage_limit_end(message, &now()).map(|end| end.to_string());
    let hit = "You’ve hit your usage limit. Upgrade to Pro or try again at";
    assert_eq!(end(&format!("{hit} 5:53 PM.")).as_deref(), Some("2026-01-02T16:54:00Z"));
    assert_eq!(end(&format!("{hit} Jan 5th, 2026 5:53 AM.")).as_deref(), Some("2026-01-05T04:54:00Z"));
    assert_eq!(
        end("You’ve hit your usage limit. Try again at 5:53 PM.").as_deref(),
        Some("2026-01-02T16:54:00Z")
    );
    assert_eq!((end("You've hit your usage limit."), end(&format!("{hit} some time."))), (None, None));
}

#[test]
fn each_message_has_its_kind_of_failure() {
    for (message, kind) in [
        ("You’ve hit your usage limit.", Kind::UsageLimit),
        ("Quota exceeded. Check your plan and billing details.", Kind::UsageLimit),
        ("exceeded retry limit, last status: 429 Too Many Requests", Kind::RateLimited),
        ("Rate limit reached for m. Try again in 1.2s.", Kind::RateLimited),
        ("unexpected status 401 Unauthorized: bad key, url: http://h/v1/responses", Kind::Auth),
        (
            "Your access token could not be refreshed because your refresh token was revoked. Please log out and sign in again.",
            Kind::Auth,
        ),
        ("Codex ran out of room in the model's context window. Start a new thread.", Kind::ContextWindow),
        ("Selected model is at capacity. Please try a different model.", Kind::Overloaded),
        ("exceeded retry limit, last status: 502 Bad Gateway", Kind::Overloaded),
        (
            r#"{"detail":"The 'm' model requires a newer version of Codex. Please upgrade to the latest app or CLI and try again."}"#,
            Kind::CodexOutdated,
        ),
        (r#"{"error":{"message":"the request is bad"}}"#, Kind::CodexError),
        ("no luck", Kind::CodexError),
    ] {
        assert_eq!(parse(message).failure_kind(), kind, "{message}");
    }
    let outdated = failure_reason(r#"{"detail":"The 'm' model requires a newer version of Codex."}"#);
    assert!(outdated.starts_with("the model needs a newer codex: update it"), "{outdated}");
    let login = failure_reason("Your access token could not be refreshed. Please log out and sign in again.");
    assert!(login.contains("codex login"), "{login}");
}

#[test]
fn each_failure_has_its_own_advice() {
    let cases = [
        (
            "unexpected status 401 Unauthorized: bad key, url: http://h/v1/responses",
            "refused the key: check CODEX_API_KEY",
        ),
        (
            "unexpected status 403 Forbidden: no, url: http://h/v1/responses",
            "forbids this: check that the account may",
        ),
        (
            "unexpected status 404 Not Found: , url: http://h/v1/responses",
            "does not know the model or the address",
        ),
        ("exceeded retry limit, last status: 429 Too Many Requests", "accepts no more requests for now"),
        (
            "stream disconnected before completion: Rate limit reached for m. Try again in 1.2s.",
            "accepts no more requests",
        ),
        ("exceeded retry limit, last status: 502 Bad Gateway", "reported an internal error: try again later"),
        (
            "unexpected status 503 Service Unavailable: mock, url: http://h",
            "reported an internal error: try again later",
        ),
        (
            "We’re currently experiencing high demand, which may cause temporary errors.",
            "reported an internal error: try again later",
        ),
        (
            "Selected model is at capacity. Please try a different model.",
            "no capacity left: try again later, or choose",
        ),
        (
            "Quota exceeded. Check your plan and billing details.",
            "quota is used up: check its plan and billing",
        ),
        (
            "Codex ran out of room in the model's context window. Start a new thread or clear earlier history before retrying.",
            "no longer fits into the model's context window: split it",
        ),
        (
            "stream disconnected before completion: idle timeout waiting for SSE",
            "began to answer and then stopped",
        ),
        (
            "stream disconnected before completion: stream closed before response.completed",
            "interrupted its answer",
        ),
        (
            "stream disconnected before completion: Transport error: network error: error decoding response body",
            "interrupted its answer",
        ),
        ("Connection failed: error sending request", "can't be reached: check its address and the network"),
        ("request timed out", "did not answer in time: check its address"),
        (
            "Missing environment variable: `MYKEY`.",
            "the model's key is not set: give MYKEY to the worker with --env MYKEY",
        ),
        ("This request has been flagged for possible cybersecurity risk.", "refused the content of the task"),
    ];
    for (message, advice) in cases {
        let line = failure_reason(message);
        assert!(line.contains(advice) && line.ends_with(&format!("(codex: {message})")), "{message}: {line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[test]
fn a_refused_request_is_explained_in_the_server_s_words() {
    assert_eq!(
        failure_reason(r#"{"error":{"message":"the request is bad"}}"#),
        "the model's server refused the request as it stands (codex: the request is bad)"
    );
    assert!(
        failure_reason(r#"{"detail":"The 'x' model is not supported"}"#)
            .ends_with("(codex: The 'x' model is not supported)")
    );
    assert!(
        failure_reason(r#"{"error":{"code":"insufficient_quota","message":"No."}}"#)
            .contains("quota is used up")
    );
    assert_eq!(failure_reason("upstream says no"), "codex ended its turn early: upstream says no");
    assert_eq!(failure_reason(""), "codex ended its turn early, without a reason");
}

#[test]
fn a_retry_is_a_notice_and_no_failure() {
    let cases = [
        (
            "Reconnecting... 3/5 (unexpected status 503 Service Unavailable: mock error, url: http://h/v1)",
            Some(Retry::Counted("3/5".into())),
            "codex retries (3/5: 503 Service Unavailable: mock error, url: http://h/v1)",
        ),
        (
            "Reconnecting... waiting for network (Connection failed: error sending request)",
            Some(Retry::Network),
            "codex waits for the network (Connection failed: error sending request): check that the model's address can be reached",
        ),
        ("Reconnecting... 2/5", Some(Retry::Counted("2/5".into())), "codex retries (2/5)"),
        ("Quota exceeded.", None, "codex reports: Quota exceeded."),
    ];
    for (message, retry, notice) in cases {
        let error = parse(message);
        assert_eq!((error.retry.clone(), error.retry_notice().as_str()), (retry, notice), "{message}");
    }
}

#[test]
fn messages_are_bounded_and_have_no_control_characters() {
    let line = failure_reason(&format!("\u{1b}[31m{}\nsecond", "ä".repeat(10_000)));
    assert!(line.len() < 400 && !line.contains('\u{1b}') && !line.contains("second"), "{line}");
    let line = parse(&format!("Reconnecting... {} (x", "9".repeat(10_000))).retry_notice();
    assert!(line.len() < 200, "{line}");
}

/// Transcripts of the real Codex with scripted models.
const TRANSCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/transcripts/0.169.0");

#[test]
fn every_recorded_failure_is_understood() {
    let mut read_lines = 0;
    for file in std::fs::read_dir(TRANSCRIPTS).unwrap().flatten() {
        let lines = std::fs::read_to_string(file.path()).unwrap();
        for line in lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let Some(message) = line["message"].as_str().or(line["error"]["message"].as_str()) else {
                continue;
            };
            assert!(parse(message).advice.is_some(), "{}: {message}", file.path().display());
            read_lines += 1;
        }
    }
    assert!(read_lines > 10, "{read_lines} lines");
}

#[test]
fn a_thread_that_is_gone_or_in_use_is_recognized() {
    let reason =
        |words: &str| resume_failure_reason(&format!("Error: thread/resume: thread/resume failed: {words}"));
    let gone = "no rollout found for thread id 01a203ca-9b3a-74f0-a0f9-92040009a617 (code -32600)";
    assert_eq!(reason(gone), Some("the Codex thread is gone: launch a new job"));
    let taken = reason("thread 01a203ca already has an active writer (code -32600)").unwrap();
    assert!(taken.contains("resume again"), "{taken}");
    assert_eq!(reason("out of luck"), None);
}
