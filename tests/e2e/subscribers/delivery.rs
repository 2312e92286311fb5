//! Tests that subscribers get every event once and in order.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines};
use std::process::{ChildStdout, Command, Stdio};

use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::processes::{self, OwnedChild};
use relay_tests::harness::{Engine, Site};

use super::client::{Client, Received, token};

/// Returns every line in the logs of these jobs, by event id.
fn logged_lines(site: &Site, jobs: &[String]) -> BTreeMap<u64, String> {
    let read = |job: &String| std::fs::read_to_string(site.file_path(job, "events.jsonl")).unwrap();
    let texts: Vec<String> = jobs.iter().map(read).collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    lines
        .map(|line| {
            (
                serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_u64().unwrap(),
                line.to_owned(),
            )
        })
        .collect()
}

/// Subscribes with the newest cursor until `last#1` has ended; returns the events and the number of connections.
async fn follow(site: &Site) -> (Vec<(u64, String)>, usize) {
    let mut received: Vec<(u64, String)> = Vec::new();
    let mut connections = 0;
    loop {
        let cursor = received.last().map_or(0, |(id, _)| *id);
        // After a kill no relay listens for a moment.
        let Ok(mut client) = Client::subscribe(site, &format!("?since={cursor}")).await else { continue };
        connections += 1;
        while let Received::Event(id, text) = client.next().await {
            let is_last = text.contains("\"job\":\"last#1\"") && text.contains("\"type\":\"finished\"");
            received.push((id, text));
            if is_last {
                return (received, connections);
            }
        }
    }
}

#[test]
fn a_subscriber_gets_every_event_once_in_order_although_the_relay_is_killed() {
    let site = Site::up(Engine::Local);
    let kills = times(3, 100);
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(follow(&site))
        });
        let mut jobs = Vec::new();
        for _ in 0..kills {
            for _ in 0..2 {
                jobs.push(site.launch_shell("for i in 1 2 3; do sh -c 'sleep 0.05'; done", &[]));
            }
            processes::kill(site.daemon_pid());
            site.relay(&["up"]);
        }
        for job in &jobs {
            site.ended(job);
        }
        jobs.push(site.launch_shell("true", &["-n", "last"]));
        let (received, connections) = follower.join().unwrap();
        let expected: Vec<(u64, String)> = logged_lines(&site, &jobs).into_iter().collect();
        similar_asserts::assert_eq!(received, expected);
        figure(&format!(
            "subscriber: {} events of {} jobs over {kills} kills of the relay, {connections} connections: lost 0, \
             duplicated 0, out of order 0",
            expected.len(),
            jobs.len()
        ));
    });
}

/// A running `curl` that is subscribed; dropping this value kills it.
struct Curl {
    _curl: OwnedChild,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Curl {
    /// Starts `curl` with a query and headers, and waits until the relay has answered.
    fn start(site: &Site, query: &str, headers: &[&str]) -> Self {
        let mut command = Command::new("curl");
        command.args(["-sN", "-H", &format!("Authorization: Bearer {}", token(site))]);
        command.args(headers.iter().flat_map(|header| ["-H", header]));
        command.arg(format!("http://{}/api/v1/events{query}", site.address()));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "retry: 1000");
        Self { _curl: OwnedChild(child), lines }
    }

    /// Waits for the first event of a type; returns `id`, `event` and `data` of each event up to it.
    fn events_until(&mut self, kind: &str) -> Vec<(u64, String, String)> {
        let (mut id, mut event, mut events) = (0, String::new(), Vec::new());
        for line in self.lines.by_ref().map(Result::unwrap) {
            match line.split_once(": ") {
                Some(("id", value)) => id = value.parse().unwrap(),
                Some(("event", value)) => value.clone_into(&mut event),
                Some(("data", value)) => {
                    events.push((id, event.clone(), value.to_owned()));
                    if event == kind {
                        return events;
                    }
                }
                _ => {}
            }
        }
        panic!("the stream ended without {kind}: {events:?}");
    }
}

#[test]
fn curl_gets_the_events_of_one_job_and_resumes_after_the_last_event_id() {
    let site = Site::new(Engine::Local);
    site.ended(&site.launch_shell("true", &["-n", "other"]));
    let job = site.launch_shell("until test -e go; do sleep 0.02; done", &[]);
    let mut curl = Curl::start(&site, "?job=demo&format=sse&since=0", &[]);
    let mut new =
        Curl::start(&site, &format!("?job={}", job.replace('#', "%23")), &["Accept: text/event-stream"]);
    site.write("workspace-projects/demo/go", "");
    let received = curl.events_until("finished");
    new.events_until("finished");
    site.ended(&job);
    let expected: Vec<_> = logged_lines(&site, &[job])
        .into_iter()
        .map(|(id, line)| {
            let kind = serde_json::from_str::<serde_json::Value>(&line).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned();
            (id, kind, line)
        })
        .collect();
    similar_asserts::assert_eq!(received, expected);
    let third = format!("Last-Event-ID: {}", expected[2].0);
    let mut again = Curl::start(&site, "?job=demo&format=sse&since=0", &[&third]);
    assert_eq!(again.events_until("finished"), expected[3..]);
}

#[test]
fn events_records_specs_and_summaries_of_real_jobs_match_relay_schema() {
    let site = Site::new(Engine::Local);
    let schema = |what: &str| {
        let text = site.relay(&["schema", what]);
        jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
    };
    let jobs =
        [site.launch_shell("sh -c 'sleep 0.3'", &["--check", "true"]), site.launch_shell("exit 3", &[])];
    for job in &jobs {
        site.ended(job);
    }
    let check_schema = |what: &str, text: &str| {
        let value = serde_json::from_str(text).unwrap();
        let errors: Vec<String> = schema(what).iter_errors(&value).map(|e| e.to_string()).collect();
        assert_eq!(errors, [""; 0], "{what}: {text}");
    };
    for line in logged_lines(&site, &jobs).values() {
        check_schema("event", line);
    }
    for job in &jobs {
        check_schema("record", &site.relay(&["status", "--json", job]));
        let spec = format!("{}.spec", job.replace('#', "."));
        check_schema("spec", &std::fs::read_to_string(site.registry().join(spec)).unwrap());
        let summary = site.record(job).summary.unwrap();
        check_schema("summary", &serde_json::to_string(&summary).unwrap());
    }
    check_schema("lease", &std::fs::read_to_string(site.registry().join("relay.json")).unwrap());
    assert!(site.relay(&["schema"]).contains("urn:relay:schema:event:1"));
}

#[tokio::test]
async fn a_close_is_answered_and_subscribers_are_told_when_the_relay_ends() {
    let site = Site::up(Engine::Local);
    let closing = Client::subscribe(&site, "?since=0").await.unwrap();
    assert_eq!(closing.close().await, Some(1005), "the relay answers with a close frame without a code");
    let mut waiting = Client::subscribe(&site, "?since=0").await.unwrap();
    site.relay(&["down"]);
    assert_eq!(waiting.next().await, Received::Closed(1001, "the relay is shutting down".to_owned()));
}
