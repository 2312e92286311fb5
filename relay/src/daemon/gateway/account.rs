//! Problems of the user's account with the model, found in the typed fields, the headers and the status of an answer
//! (pure). The words for people decide only where no field exists.

use std::time::Duration;

use common::event::FailureKind;
use common::model_usage::ModelProblem;
use common::text_format;
use hyper::{HeaderMap, StatusCode};
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};

use super::reading::ErrorFields;

/// Maximum time until a limit ends; a later instant is an error of the server. Limits end within a month.
const MAX_WAIT: Duration = Duration::from_secs(100 * 24 * 3600);
/// Maximum length of the server's words, in bytes.
const MAX_MESSAGE: usize = 300;

/// Finds the problem in an answer that is an error. An error within a stream has the status of the stream, 200. `None`
/// for an error of the request itself.
pub(super) fn classify(
    status: StatusCode,
    headers: &HeaderMap,
    error: &ErrorFields,
    now: Timestamp,
) -> Option<ModelProblem> {
    let is_window_full = || full_windows(headers).next().is_some();
    let by_status = || match status.as_u16() {
        402 => Some(FailureKind::UsageLimit),
        429 if is_window_full() => Some(FailureKind::UsageLimit),
        429 => Some(FailureKind::RateLimited),
        // 403 may concern the model of one job, or come from a proxy on the way: only its words count.
        401 => Some(FailureKind::Auth),
        // 504 says that the request took too long, which is no problem of the account.
        500..=503 | 505.. => Some(FailureKind::Overloaded),
        _ => None,
    };
    let words = error.message.to_lowercase();
    let by_words = if words.contains("requires a newer version of codex") {
        Some(FailureKind::CodexOutdated)
    } else {
        // The Messages API has no field for it.
        words.starts_with("prompt is too long").then_some(FailureKind::ContextWindow)
    };
    let by_field = || kind_of_word(&error.code).or_else(|| kind_of_word(&error.kind));
    let kind = by_words.or_else(by_field).or_else(by_status)?;
    let resets_at = match kind {
        FailureKind::UsageLimit => usage_reset(headers, error, now),
        FailureKind::RateLimited | FailureKind::Overloaded => rate_reset(headers, error, now),
        _ => None,
    };
    let resets_at = resets_at.filter(|instant| is_plausible(*instant, now));
    Some(ModelProblem { kind, resets_at, message: text_format::one_line(&error.message, MAX_MESSAGE) })
}

/// Returns the meaning of an error's `type` or `code`. Words about credentials hold the queue, so those about what
/// credentials may not use, such as `permission_error` for a model, are not among them.
fn kind_of_word(word: &str) -> Option<FailureKind> {
    Some(match word {
        "usage_limit_reached"
        | "insufficient_quota"
        | "quota_exceeded"
        | "spend_limit_exceeded"
        | "billing_hard_limit_reached"
        | "billing_not_active"
        | "billing_error" => FailureKind::UsageLimit,
        "rate_limit_exceeded" | "rate_limit_error" | "rate_limit" => FailureKind::RateLimited,
        "invalid_api_key"
        | "authentication_error"
        | "token_expired"
        | "account_deactivated"
        | "usage_not_included"
        | "unsupported_country_region_territory" => FailureKind::Auth,
        "context_length_exceeded" => FailureKind::ContextWindow,
        "server_is_overloaded"
        | "server_overloaded"
        | "overloaded_error"
        | "slow_down"
        | "server_error"
        | "api_error" => FailureKind::Overloaded,
        _ => return None,
    })
}

/// Returns the names of the usage windows that the headers report as full.
fn full_windows(headers: &HeaderMap) -> impl Iterator<Item = &'static str> {
    ["primary", "secondary"].into_iter().filter(move |window| {
        let used = header(headers, &format!("x-codex-{window}-used-percent"));
        used.and_then(|used| used.parse::<f64>().ok()).is_some_and(|used| used >= 100.0)
    })
}

/// Returns the instant at which a usage limit ends.
fn usage_reset(headers: &HeaderMap, error: &ErrorFields, now: Timestamp) -> Option<Timestamp> {
    let by_window = || {
        let reset = |window: &str| {
            let at =
                header(headers, &format!("x-codex-{window}-reset-at")).and_then(|at| at.parse::<i64>().ok());
            let after =
                || header(headers, &format!("x-codex-{window}-reset-after-seconds"))?.parse::<i64>().ok();
            at.and_then(|at| Timestamp::from_second(at).ok()).or_else(|| in_seconds(now, after()?))
        };
        // All full windows have to end.
        full_windows(headers).filter_map(reset).max()
    };
    error_reset(error, now).or_else(by_window).or_else(|| retry_after(headers, now))
}

/// Returns the instant from which the server accepts requests again.
fn rate_reset(headers: &HeaderMap, error: &ErrorFields, now: Timestamp) -> Option<Timestamp> {
    let by_quota = || {
        let reset = |quota: &str| {
            let remaining = header(headers, &format!("x-ratelimit-remaining-{quota}"))?;
            let after = header(headers, &format!("x-ratelimit-reset-{quota}"))?;
            let after: SignedDuration = (remaining == "0").then(|| after.parse().ok()).flatten()?;
            now.checked_add(after).ok()
        };
        ["requests", "tokens"].into_iter().filter_map(reset).max()
    };
    let by_instant = || {
        let reset = |quota: &str| {
            let remaining = header(headers, &format!("anthropic-ratelimit-{quota}-remaining"))?;
            let at = header(headers, &format!("anthropic-ratelimit-{quota}-reset"))?;
            (remaining == "0").then(|| at.parse().ok()).flatten()
        };
        ["requests", "tokens", "input-tokens", "output-tokens"].into_iter().filter_map(reset).max()
    };
    error_reset(error, now).or_else(|| retry_after(headers, now)).or_else(by_quota).or_else(by_instant)
}

fn error_reset(error: &ErrorFields, now: Timestamp) -> Option<Timestamp> {
    let at = error.resets_at.and_then(|at| Timestamp::from_second(at).ok());
    at.or_else(|| in_seconds(now, error.resets_in_seconds?))
}

/// Reads the header `Retry-After`: seconds or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    let value = header(headers, "retry-after")?;
    match value.parse::<i64>() {
        Ok(seconds) => in_seconds(now, seconds),
        Err(_) => DateTimeParser::new().relaxed_weekday(true).parse_timestamp(value).ok(),
    }
}

fn in_seconds(now: Timestamp, seconds: i64) -> Option<Timestamp> {
    now.checked_add(SignedDuration::from_secs(seconds)).ok()
}

fn is_plausible(instant: Timestamp, now: Timestamp) -> bool {
    instant > now && now.checked_add(MAX_WAIT).is_ok_and(|latest| instant <= latest)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Time of the tests: 2025-11-28T18:00:00Z.
    const NOW: i64 = 1_764_352_800;

    fn problem(status: u16, lines: &[(&str, &str)], body: &Value) -> Option<(FailureKind, Option<i64>)> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: hyper::header::HeaderName = name.parse().unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        let error = ErrorFields::from_body(body.to_string().as_bytes());
        let status = StatusCode::from_u16(status).unwrap();
        let found = classify(status, &headers, &error, Timestamp::from_second(NOW).unwrap())?;
        Some((found.kind, found.resets_at.map(|at| at.as_second() - NOW)))
    }

    #[test]
    fn a_usage_limit_ends_at_an_instant() {
        let limit = |extra: Value| {
            let mut error = json!({"type": "usage_limit_reached", "message": "used up"});
            error.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            json!({ "error": error })
        };
        let kind = FailureKind::UsageLimit;
        assert_eq!(problem(429, &[], &limit(json!({"resets_at": NOW + 60}))), Some((kind, Some(60))));
        assert_eq!(problem(429, &[], &limit(json!({"resets_in_seconds": 90.5}))), Some((kind, Some(90))));
        for none in [
            json!({}),
            json!({"resets_at": NOW - 1}),
            json!({"resets_at": i64::MAX}),
            json!({"resets_at": 1e300}),
        ] {
            assert_eq!(problem(429, &[], &limit(none.clone())), Some((kind, None)), "{none}");
        }
        let (soon, later) = ((NOW + 50).to_string(), (NOW + 700).to_string());
        let windows = [
            ("x-codex-primary-used-percent", "100"),
            ("x-codex-primary-reset-at", &*soon),
            ("x-codex-secondary-used-percent", "100.0"),
            ("x-codex-secondary-reset-at", &*later),
        ];
        assert_eq!(problem(429, &windows, &json!({})), Some((kind, Some(700))));
        assert_eq!(problem(429, &windows[..3], &limit(json!({}))), Some((kind, Some(50))));
    }

    #[test]
    fn a_rate_limit_says_when_to_try_again() {
        let kind = FailureKind::RateLimited;
        let body = json!({"error": {"code": "rate_limit_exceeded", "type": "requests", "message": "slow"}});
        assert_eq!(problem(429, &[("retry-after", "20")], &body), Some((kind, Some(20))));
        let date = ("retry-after", "Fri, 28 Nov 2025 18:01:00 GMT");
        assert_eq!(problem(429, &[date], &json!("text")), Some((kind, Some(60))));
        let quotas = [
            ("x-ratelimit-remaining-requests", "3"),
            ("x-ratelimit-reset-requests", "1h"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "6m1s"),
        ];
        assert_eq!(problem(429, &quotas, &json!({})), Some((kind, Some(361))));
        for bad in ["", "-5", "soon", "99999999999999999999", "9223372036854775807"] {
            assert_eq!(problem(429, &[("retry-after", bad)], &json!({})), Some((kind, None)), "{bad}");
        }
    }

    #[test]
    fn errors_of_the_messages_api_have_their_kinds() {
        let body =
            |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}});
        let limits = [
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", "2025-11-28T18:00:30Z"),
            ("anthropic-ratelimit-tokens-remaining", "5"),
            ("anthropic-ratelimit-tokens-reset", "2025-11-28T18:09:00Z"),
        ];
        let limited = problem(429, &limits, &body("rate_limit_error", "slow"));
        assert_eq!(limited, Some((FailureKind::RateLimited, Some(30))));
        for (status, kind, message, expected) in [
            (529, "overloaded_error", "Overloaded", FailureKind::Overloaded),
            (500, "api_error", "Internal", FailureKind::Overloaded),
            (401, "authentication_error", "invalid x-api-key", FailureKind::Auth),
            (402, "billing_error", "pay", FailureKind::UsageLimit),
            (400, "invalid_request_error", "prompt is too long: 9 > 5", FailureKind::ContextWindow),
        ] {
            assert_eq!(problem(status, &[], &body(kind, message)), Some((expected, None)), "{kind}");
        }
    }

    #[test]
    fn fields_decide_before_the_status() {
        let body = |field: &str, word: &str| json!({"error": {field: word, "message": "m"}});
        for (status, body, kind) in [
            (429, body("code", "insufficient_quota"), Some(FailureKind::UsageLimit)),
            (200, body("code", "context_length_exceeded"), Some(FailureKind::ContextWindow)),
            (400, body("code", "context_length_exceeded"), Some(FailureKind::ContextWindow)),
            (401, json!({}), Some(FailureKind::Auth)),
            (403, body("code", "unsupported_country_region_territory"), Some(FailureKind::Auth)),
            (429, body("type", "usage_not_included"), Some(FailureKind::Auth)),
            (
                403,
                json!({"error": {"code": "token_expired", "type": "invalid_request_error"}}),
                Some(FailureKind::Auth),
            ),
            (403, json!({"error": {"code": "model_not_found", "type": "invalid_request_error"}}), None),
            (403, body("type", "permission_error"), None),
            (403, json!("<html>Attention required</html>"), None),
            (403, json!({}), None),
            (503, json!({"error": "busy"}), Some(FailureKind::Overloaded)),
            (529, json!([]), Some(FailureKind::Overloaded)),
            (200, body("code", "server_is_overloaded"), Some(FailureKind::Overloaded)),
            (
                400,
                json!({"detail": "The 'gpt-6' model requires a newer version of Codex. Please upgrade."}),
                Some(FailureKind::CodexOutdated),
            ),
            (400, body("code", "invalid_value"), None),
            (404, json!({}), None),
            (504, json!({}), None),
        ] {
            let found = problem(status, &[], &body).map(|(kind, _)| kind);
            assert_eq!(found, kind, "{status} {body}");
        }
    }
}
