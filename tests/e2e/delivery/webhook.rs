//! Webhook delivery: every outcome arrives, however long the webhook was down and however often the relay died
//! meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit, Mac};
use relay_tests::harness::figures::{figure, ms, times};
use relay_tests::harness::receiver::{Post, Receiver, free_port};
use relay_tests::harness::{Engine, Site, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::Sha256;

use super::{entry, way_is};

const SECRET: &[u8] = b"a secret of the tests";

/// Creates a project that posts its completion notices to this port.
fn site(port: u16) -> Site {
    let site = Site::new(Engine::Local);
    site.write("secret", &format!("whsec_{}\n", BASE64_STANDARD.encode(SECRET)));
    site.configure(&format!(
        "[notify]\nwebhook = \"http://127.0.0.1:{port}/hook\"\nwebhook_secret_file = \"secret\"\n"
    ));
    site
}

/// Number of posts for each id; every post is checked.
fn by_id(posts: &[Post]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for post in posts {
        let id = &post.headers["webhook-id"];
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
        mac.update(format!("{id}.{}.", post.headers["webhook-timestamp"]).as_bytes());
        mac.update(&post.body);
        let signed = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(post.headers["webhook-signature"], signed);
        assert_eq!(&post.headers["idempotency-key"], id);
        let body: Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!((body["id"].as_str(), body["type"].as_str()), (Some(id.as_str()), Some("job.finished")));
        *found.entry(id.clone()).or_default() += 1;
    }
    found
}

/// Id of a job's completion notice.
fn id(site: &Site, job: &str) -> String {
    format!("{}-{}", job.replace('#', "."), site.record(job).created_at.as_millisecond())
}

#[test]
fn a_receiver_that_was_down_gets_each_summary_exactly_once() {
    let port = free_port();
    let site = site(port);
    site.relay(&["up"]);
    let jobs: Vec<String> = (0..20).map(|_| site.launch_shell("echo hello", &[])).collect();
    for job in &jobs {
        site.ended(job);
    }
    let begun = Instant::now();
    let down = times(Duration::from_secs(3), Duration::from_secs(60));
    until("every end was refused more than once", || {
        let tried =
            jobs.iter().all(|job| entry(&site, job)["ways"]["webhook"]["attempts"].as_u64() > Some(1));
        (tried && begun.elapsed() > down).then_some(())
    });
    let status = site.relay(&["status", &jobs[0]]);
    assert!(
        status.contains("delivery   webhook not delivered yet (connection refused), next try "),
        "{status}"
    );

    let (receiver, begun) = (Receiver::start(port, "204 No Content", Duration::ZERO), Instant::now());
    for job in &jobs {
        way_is(&site, job, "webhook", "taken");
    }
    let expected: BTreeMap<String, usize> = jobs.iter().map(|job| (id(&site, job), 1)).collect();
    assert_eq!(by_id(&receiver.posts()), expected);
    figure(&format!(
        "delivery: a receiver that was down for {} s got each of {} ends exactly once, the last one {} after it was back",
        down.as_secs(),
        jobs.len(),
        ms(begun.elapsed())
    ));
    assert!(!site.relay(&["status", &jobs[0]]).contains("delivery"));
}

#[test]
fn a_relay_killed_while_it_delivers_loses_no_notice_and_repeats_only_the_same_id() {
    let receiver = Receiver::start(0, "200 OK", Duration::from_millis(30));
    let port = receiver.url().rsplit(':').next().and_then(|rest| rest.trim_end_matches("/hook").parse().ok());
    let site = site(port.unwrap());
    let rounds = times(8, 200);
    let mut jobs = Vec::new();
    for _ in 0..rounds {
        site.relay(&["up"]);
        jobs.extend((0..3).map(|_| site.launch_shell("true", &[])));
        // Any instant: between an outcome and its entry, during a post, or before the post is recorded.
        std::thread::park_timeout(Duration::from_millis(fastrand::u64(0..300)));
        let pid = i32::try_from(site.daemon_pid()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }
    site.relay(&["up"]);
    for job in &jobs {
        site.ended(job);
        // The entry of an archived job is removed once no delivery is pending.
        let is_archived = || site.file(job, "json").starts_with(site.registry().join("archive"));
        until(&format!("the end of {job} is delivered"), || {
            let entry = entry(&site, job);
            (entry["ways"]["webhook"]["state"] == "taken" || (entry.is_null() && is_archived())).then_some(())
        });
    }
    let posts = by_id(&receiver.posts());
    let expected: Vec<String> = jobs.iter().map(|job| id(&site, job)).collect();
    let missing = expected.iter().filter(|id| !posts.contains_key(*id)).count();
    let strange = posts.keys().filter(|id| !expected.contains(id)).count();
    let twice = posts.values().filter(|count| **count > 1).count();
    figure(&format!(
        "delivery: relay killed {rounds} times while it delivered {} ends: {missing} lost, {strange} with an unknown \
         id, {twice} told more than once (with the same id)",
        jobs.len()
    ));
    assert_eq!((missing, strange), (0, 0));
}

#[test]
fn a_receiver_that_is_gone_for_good_and_one_that_points_elsewhere_get_nothing_more() {
    let elsewhere = Receiver::start(0, "200 OK", Duration::ZERO);
    for (answer, state) in
        [("410 Gone", "given_up"), ("307 Temporary Redirect\r\nlocation: /hook", "pending")]
    {
        let receiver = Receiver::start(0, answer, Duration::ZERO);
        let site = Site::new(Engine::Local);
        site.configure(&format!("[notify]\nwebhook = \"{}\"\n", receiver.url()));
        site.relay(&["up"]);
        let job = site.launch_shell("true", &[]);
        until("the receiver was tried", || {
            (entry(&site, &job)["ways"]["webhook"]["attempts"].as_u64() > Some(0)).then_some(())
        });
        assert_eq!(entry(&site, &job)["ways"]["webhook"]["state"], state);
        assert!(!receiver.posts()[0].headers.contains_key("webhook-signature"), "there is no secret");
    }
    assert_eq!(elsewhere.posts().len(), 0);
}
