//! Query of a subscriber: `?job=`, `?since=`, `?format=`, and the headers with the same meaning.

use axum::extract::Query;
use axum::http::header::{ACCEPT, HeaderName, UPGRADE};
use axum::http::{HeaderMap, StatusCode, Uri};
use common::text_format::one_line;

/// Header of a reconnecting `EventSource`: the id of the last event that it received.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Maximum length of a wrong value in an error message, in bytes.
const MAX_SHOWN: usize = 60;

/// Format of the event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One text message per event.
    WebSocket,
    /// Server-sent events.
    Sse,
}

/// Parsed request of a subscriber.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EventQuery {
    /// Format of the stream.
    pub(super) format: Format,
    /// Job as written in the query; `None` for all jobs.
    pub(super) job: Option<String>,
    /// Id after which the stream begins; `None` to begin with the next event.
    pub(super) since: Option<u64>,
}

/// Refusal of a request: HTTP status, and one line with advice.
pub(super) type Refusal = (StatusCode, String);

impl EventQuery {
    pub(super) fn parse(uri: &Uri, headers: &HeaderMap) -> Result<Self, Refusal> {
        let bad_request = |text: String| (StatusCode::BAD_REQUEST, text);
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|e| {
            bad_request(format!("the query can't be read: {}", one_line(&e.to_string(), MAX_SHOWN)))
        })?;
        let (mut job, mut since, mut format) = (None, None, None);
        for (key, value) in pairs {
            let slot = match key.as_str() {
                "job" => &mut job,
                "since" => &mut since,
                "format" => &mut format,
                _ => {
                    return Err(bad_request(format!(
                        "'{}' is unknown: use job, since and format",
                        one_line(&key, MAX_SHOWN)
                    )));
                }
            };
            if slot.replace(value).is_some() {
                return Err(bad_request(format!("{key} is given twice")));
            }
        }
        // The header takes precedence, because an EventSource repeats its original address.
        let since = match headers.get(LAST_EVENT_ID) {
            Some(id) => Some(("Last-Event-ID", String::from_utf8_lossy(id.as_bytes()).into_owned())),
            None => since.map(|since| ("since", since)),
        };
        let since = since.map(|(name, id)| parse_cursor(name, &id)).transpose().map_err(bad_request)?;
        Ok(Self { format: parse_format(headers, format.as_deref())?, job, since })
    }
}

fn parse_cursor(name: &str, text: &str) -> Result<u64, String> {
    // The parser of numbers would also accept `+1`.
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or_else(|| {
        format!(
            "{name} '{}' is not the id of an event: use the last id that you have, or 0",
            one_line(text, MAX_SHOWN)
        )
    })
}

fn parse_format(headers: &HeaderMap, format: Option<&str>) -> Result<Format, Refusal> {
    let has_word = |name: HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split([',', ';'])).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    match format {
        Some("sse") => Ok(Format::Sse),
        Some(other) => {
            let other = one_line(other, MAX_SHOWN);
            Err((
                StatusCode::BAD_REQUEST,
                format!("format '{other}' is unknown: use sse, or open a WebSocket"),
            ))
        }
        None if has_word(UPGRADE, "websocket") => Ok(Format::WebSocket),
        None if has_word(ACCEPT, "text/event-stream") => Ok(Format::Sse),
        None => {
            let text = "open a WebSocket, or ask for server-sent events with `Accept: text/event-stream` or `?format=sse`";
            Err((StatusCode::NOT_ACCEPTABLE, text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str, headers: &[(&'static str, &'static str)]) -> Result<EventQuery, u16> {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let uri = format!("/api/v1/events{query}").parse().unwrap();
        EventQuery::parse(&uri, &headers.collect()).map_err(|(status, _)| status.as_u16())
    }

    const SSE: (&str, &str) = ("accept", "text/html, text/event-stream;q=0.9");
    const UPGRADE: (&str, &str) = ("upgrade", "websocket");

    #[test]
    fn a_query_is_parsed_from_the_address_and_the_headers() {
        let all_jobs = |format, since| Ok(EventQuery { format, job: None, since });
        assert_eq!(parse("", &[UPGRADE]), all_jobs(Format::WebSocket, None));
        assert_eq!(parse("", &[SSE]), all_jobs(Format::Sse, None));
        assert_eq!(parse("?format=sse&since=0", &[]), all_jobs(Format::Sse, Some(0)));
        assert_eq!(parse("?since=5", &[SSE, ("last-event-id", "7")]), all_jobs(Format::Sse, Some(7)));
        let job = Some("a#1".to_owned());
        assert_eq!(
            parse("?job=a%231&since=18446744073709551615", &[UPGRADE]),
            Ok(EventQuery { format: Format::WebSocket, job, since: Some(u64::MAX) })
        );
    }

    #[test]
    fn a_query_that_can_t_be_understood_is_refused() {
        assert_eq!(parse("", &[]), Err(406));
        assert_eq!(parse("", &[("accept", "application/json")]), Err(406));
        for query in [
            "?since=",
            "?since=-1",
            "?since=+1",
            "?since=x",
            "?since=18446744073709551616",
            "?since=1&since=2",
            "?sinse=1",
            "?format=xml",
        ] {
            assert_eq!(parse(query, &[SSE]), Err(400), "{query}");
        }
        assert_eq!(parse("", &[SSE, ("last-event-id", "seven")]), Err(400));
    }
}
