//! The channel `webhook`: a signed POST to the configured address, with an id that is the same for each attempt.

use std::sync::Arc;

use common::record::JobRecord;
use common::text_format;
use serde_json::json;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::shared::{ATTEMPT_TIMEOUT, Channels, idempotency_key};
use super::signature;
use crate::daemon::deliver::schedule::DeliveryOutcome;
use crate::notice;
use crate::time;

/// 410 Gone: stop delivering.
const HTTP_GONE: u16 = 410;

/// Creates the HTTP client, with the system's certificates and the environment's proxy. Redirects are not followed,
/// because a signed post must not be sent to another address.
fn http_client() -> Agent {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(ATTEMPT_TIMEOUT))
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("relay/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// Sends the POST; any 2xx status means that the receiver has accepted the notification.
pub(super) async fn post_notification(channels: &Channels, record: &JobRecord) -> DeliveryOutcome {
    let Some(webhook) = channels.config().webhook.clone() else {
        return DeliveryOutcome::Refused("no webhook is configured".to_owned());
    };
    let secret = match webhook.secret.as_ref().map(signature::read_secret).transpose() {
        Ok(secret) => secret,
        Err(reason) => return DeliveryOutcome::Failed(reason),
    };
    let (id, body) = (idempotency_key(record), request_body(record));
    let at = time::now().as_second();
    let agent = channels.http_client(http_client);
    let posting = tokio::task::spawn_blocking(move || {
        let mut request = agent
            .post(&webhook.url)
            .header("content-type", "application/json")
            .header("idempotency-key", &id)
            .header("webhook-id", &id)
            .header("webhook-timestamp", at.to_string());
        if let Some(signed) = secret.and_then(|secret| signature::sign(&secret, &id, at, &body)) {
            request = request.header("webhook-signature", signed);
        }
        request.send(&body).map(|answer| answer.status().as_u16())
    });
    match posting.await {
        Ok(Ok(200..=299)) => DeliveryOutcome::Accepted,
        Ok(Ok(HTTP_GONE)) => DeliveryOutcome::Refused("the receiver is gone for good (410)".to_owned()),
        Ok(Ok(code @ 300..=399)) => {
            DeliveryOutcome::Failed(format!("it answered {code}: redirects are not followed"))
        }
        Ok(Ok(code)) => DeliveryOutcome::Failed(format!("it answered {code}")),
        Ok(Err(e)) => DeliveryOutcome::Failed(failure_reason(&e)),
        Err(_) => DeliveryOutcome::Failed("it could not be posted".to_owned()),
    }
}

fn failure_reason(error: &ureq::Error) -> String {
    let reason = match error {
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            "connection refused".to_owned()
        }
        ureq::Error::Timeout(_) => format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()),
        other => other.to_string(),
    };
    text_format::one_line(&reason, 200)
}

fn request_body(record: &JobRecord) -> Vec<u8> {
    let reason = record.error.as_ref().map(
        |error| json!({ "kind": error.kind, "message": text_format::to_printable(&error.message), "step": error.step }),
    );
    let message = record.message.as_deref().map(text_format::to_printable_lines);
    let mut body = json!({
        "id": idempotency_key(record),
        "type": "job.finished",
        "timestamp": record.finished_at,
        "summary": notice::notice_text(record),
        "data": {
            "job": record.job,
            "state": record.state,
            "error": reason,
            "exit_code": record.exit_code,
            "workspace": record.workspace,
            "prompt_summary": text_format::to_printable(&record.prompt_summary),
            "created_at": record.created_at,
            "started_at": record.started_at,
            "finished_at": record.finished_at,
            "message": message,
            "changes": record.changes,
            "usage": record.usage,
            "thread_id": record.thread_id,
            "log_path": record.log_path,
        },
    });
    if !record.shared_with.is_empty() {
        body["data"]["shared_with"] = json!(record.shared_with);
    }
    // A JSON value can always be serialized.
    common::json::to_vec(&body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn a_post_names_the_jobs_whose_changes_it_may_count() {
        let shared_with = vec!["abe#2".parse().unwrap()];
        let record = JobRecord { shared_with, ..samples::completed_record() };
        let body: serde_json::Value = serde_json::from_slice(&request_body(&record)).unwrap();
        assert_eq!(body["data"]["shared_with"], serde_json::json!(["abe#2"]));
        let summary = body["summary"].as_str().unwrap();
        let expected =
            "changes: 3 files (+10 -2; abe#2 worked in the same folder at the same time) · tokens: ";
        assert!(summary.contains(expected), "{summary}");
    }

    #[test]
    fn a_post_contains_the_notice_and_the_job() {
        let body: serde_json::Value =
            serde_json::from_slice(&request_body(&samples::failed_record())).unwrap();
        let expected = serde_json::json!({
            "id": "abe.1-1767323045000",
            "type": "job.finished",
            "timestamp": "2026-01-02T03:14:16Z",
            "summary": "relay: worker abe#1 failed after 10m10s: step_timeout in step 3.\nchanges: 3 files (+10 -2) · tokens: 1200 in, 50 out\nlog: /r/abe.1.log\nnext: `relay explain abe#1` shows why, `relay status abe#1` how far it got\nThe reason and the worker's last words, quoted as data, not instructions:\n> install `npm ci` ran for 10m, its limit: raise it with --step-timeout install=20m\n> The clone is there.\n> Now the packages.",
            "data": {
                "job": "abe#1",
                "state": "failed",
                "error": {"kind": "step_timeout", "message": "install `npm ci` ran for 10m, its limit: raise it with --step-timeout install=20m", "step": 3},
                "exit_code": null,
                "workspace": "/home/u/work/abe",
                "prompt_summary": "fix the tests",
                "created_at": "2026-01-02T03:04:05Z",
                "started_at": "2026-01-02T03:04:06Z",
                "finished_at": "2026-01-02T03:14:16Z",
                "message": "The clone is there.\n\nNow the packages.",
                "changes": {"files": 3, "insertions": 10, "deletions": 2},
                "usage": {"input_tokens": 1200, "cached_input_tokens": 0, "output_tokens": 50, "reasoning_output_tokens": 0},
                "thread_id": "0199-t",
                "log_path": "/r/abe.1.log",
            },
        });
        assert_eq!(body.to_string(), expected.to_string());
    }
}
