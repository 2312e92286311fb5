//! Delivery of every event once, in order.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines};
use std::process::{ChildStdout, Command, Stdio};

use relay_tests::harness::figures::{figure, times};
use relay_tests::harness::processes::{self, Owned};
use relay_tests::harness::{Engine, Site};

use super::client::{Client, Heard, token};

/// Every line of every log, by id.
fn recorded(site: &Site, jobs: &[String]) -> BTreeMap<u64, String> {
    let read = |job: &String| std::fs::read_to_string(site.file(job, "events.jsonl")).unwrap();
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

/// Subscribes repeatedly with its cursor until the job `last#1` has ended. Also counts the connections.
async fn follow(site: &Site) -> (Vec<(u64, String)>, usize) {
    let mut seen: Vec<(u64, String)> = Vec::new();
    let mut connections = 0;
    loop {
        let cursor = seen.last().map_or(0, |(id, _)| *id);
        // No relay listens for a moment after a kill.
        let Ok(mut client) = Client::subscribe(site, &format!("?since={cursor}")).await else { continue };
        connections += 1;
        while let Heard::Event(id, text) = client.next().await {
            let over = text.contains("\"job\":\"last#1\"") && text.contains("\"type\":\"finished\"");
            seen.push((id, text));
            if over {
                return (seen, connections);
            }
        }
    }
}

#[test]
fn a_subscriber_sees_every_event_once_in_order_however_often_the_relay_is_killed() {
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
        let (seen, connections) = follower.join().unwrap();
        let expected: Vec<(u64, String)> = recorded(&site, &jobs).into_iter().collect();
        similar_asserts::assert_eq!(seen, expected);
        figure(&format!(
            "subscriber: {} events of {} jobs over {kills} kills of the relay, {connections} connections: lost 0, \
             doubled 0, out of order 0",
            expected.len(),
            jobs.len()
        ));
    });
}

/// A running `curl`, killed on drop.
struct Curl {
    _curl: Owned,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Curl {
    /// Subscribes, and waits until the relay has answered.
    fn start(site: &Site, query: &str, headers: &[&str]) -> Self {
        let mut command = Command::new("curl");
        command.args(["-sN", "-H", &format!("Authorization: Bearer {}", token(site))]);
        command.args(headers.iter().flat_map(|header| ["-H", header]));
        command.arg(format!("http://{}/api/v1/events{query}", site.address()));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "retry: 1000");
        Self { _curl: Owned(child), lines }
    }

    /// Returns the `id`, `event` and `data` of each event up to the first of this type.
    fn until(&mut self, kind: &str) -> Vec<(u64, String, String)> {
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
fn curl_is_told_one_job_as_server_sent_events_and_resumes_behind_the_last_it_had() {
    let site = Site::new(Engine::Local);
    site.ended(&site.launch_shell("true", &["-n", "other"]));
    let job = site.launch_shell("until test -e go; do sleep 0.02; done", &[]);
    let mut curl = Curl::start(&site, "?job=demo&format=sse&since=0", &[]);
    let mut new =
        Curl::start(&site, &format!("?job={}", job.replace('#', "%23")), &["Accept: text/event-stream"]);
    site.write("workspace-projects/demo/go", "");
    let seen = curl.until("finished");
    new.until("finished");
    site.ended(&job);
    let expected: Vec<_> = recorded(&site, &[job])
        .into_iter()
        .map(|(id, line)| {
            let kind = serde_json::from_str::<serde_json::Value>(&line).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned();
            (id, kind, line)
        })
        .collect();
    similar_asserts::assert_eq!(seen, expected);
    let third = format!("Last-Event-ID: {}", expected[2].0);
    let mut again = Curl::start(&site, "?job=demo&format=sse&since=0", &[&third]);
    assert_eq!(again.until("finished"), expected[3..]);
}

#[test]
fn what_a_real_job_leaves_is_what_relay_schema_says() {
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
    let hold = |what: &str, text: &str| {
        let value = serde_json::from_str(text).unwrap();
        let errors: Vec<String> = schema(what).iter_errors(&value).map(|e| e.to_string()).collect();
        assert_eq!(errors, [""; 0], "{what}: {text}");
    };
    for line in recorded(&site, &jobs).values() {
        hold("event", line);
    }
    for job in &jobs {
        hold("record", &site.relay(&["status", "--json", job]));
        let spec = format!("{}.spec", job.replace('#', "."));
        hold("spec", &std::fs::read_to_string(site.registry().join(spec)).unwrap());
        let summary = site.record(job).summary.unwrap();
        hold("summary", &serde_json::to_string(&summary).unwrap());
    }
    hold("lease", &std::fs::read_to_string(site.registry().join("relay.json")).unwrap());
    assert!(site.relay(&["schema"]).contains("urn:relay:schema:event:1"));
}

#[tokio::test]
async fn a_close_is_answered_and_the_end_of_the_relay_is_told() {
    let site = Site::up(Engine::Local);
    let leaves = Client::subscribe(&site, "?since=0").await.unwrap();
    assert_eq!(leaves.close().await, Some(1005), "a close frame without a code, as it was sent");
    let mut stays = Client::subscribe(&site, "?since=0").await.unwrap();
    site.relay(&["down"]);
    assert_eq!(stays.next().await, Heard::Closed(1001, "the relay is shutting down".to_owned()));
}
