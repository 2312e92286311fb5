//! Delivery of completion notices to a webhook: every notice arrives, even after outages of receiver or relay.

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

use super::{outbox_entry, wait_for_channel};

const SECRET: &[u8] = b"a secret of the tests";

/// Creates a project that posts its completion notices to a port of this machine.
fn site(port: u16) -> Site {
    let site = Site::new(Engine::Local);
    site.write("secret", &format!("whsec_{}\n", BASE64_STANDARD.encode(SECRET)));
    site.configure(&format!(
        "[notify]\nwebhook = \"http://127.0.0.1:{port}/hook\"\nwebhook_secret_file = \"secret\"\n"
    ));
    site
}

/// Checks every post; returns the number of posts for each id.
fn check_and_count_posts(posts: &[Post]) -> BTreeMap<String, usize> {
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

/// Returns the id of a job's completion notice.
fn notice_id(site: &Site, job: &str) -> String {
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
    let started = Instant::now();
    let down = times(Duration::from_secs(3), Duration::from_secs(60));
    until("every notice was refused more than once", || {
        let tried =
            jobs.iter().all(|job| outbox_entry(&site, job)["ways"]["webhook"]["attempts"].as_u64() > Some(1));
        (tried && started.elapsed() > down).then_some(())
    });
    let status = site.relay(&["status", &jobs[0]]);
    assert!(
        status.contains("delivery   webhook not delivered yet (connection refused), next try "),
        "{status}"
    );

    let (receiver, started) = (Receiver::start(port, "204 No Content", Duration::ZERO), Instant::now());
    for job in &jobs {
        wait_for_channel(&site, job, "webhook", "taken");
    }
    let expected: BTreeMap<String, usize> = jobs.iter().map(|job| (notice_id(&site, job), 1)).collect();
    assert_eq!(check_and_count_posts(&receiver.posts()), expected);
    figure(&format!(
        "delivery: a receiver that was down for {} s got each of {} ends exactly once, the last one {} after it was back",
        down.as_secs(),
        jobs.len(),
        ms(started.elapsed())
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
        // The kill may hit any instant, such as between an outcome and its outbox entry, or during a post.
        std::thread::park_timeout(Duration::from_millis(fastrand::u64(0..300)));
        let pid = i32::try_from(site.daemon_pid()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }
    site.relay(&["up"]);
    for job in &jobs {
        site.ended(job);
        // The entry of an archived job is removed once no delivery is pending.
        let is_archived = || site.file_path(job, "json").starts_with(site.registry().join("archive"));
        until(&format!("the notice of {job} is delivered"), || {
            let entry = outbox_entry(&site, job);
            (entry["ways"]["webhook"]["state"] == "taken" || (entry.is_null() && is_archived())).then_some(())
        });
    }
    let posts = check_and_count_posts(&receiver.posts());
    let expected: Vec<String> = jobs.iter().map(|job| notice_id(&site, job)).collect();
    let missing = expected.iter().filter(|id| !posts.contains_key(*id)).count();
    let unknown = posts.keys().filter(|id| !expected.contains(id)).count();
    let twice = posts.values().filter(|count| **count > 1).count();
    figure(&format!(
        "delivery: relay killed {rounds} times while it delivered {} ends: {missing} lost, {unknown} with an unknown \
         id, {twice} told more than once (with the same id)",
        jobs.len()
    ));
    assert_eq!((missing, unknown), (0, 0));
}

#[test]
fn a_delivery_is_given_up_after_410_gone_and_follows_no_redirect() {
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
            (outbox_entry(&site, &job)["ways"]["webhook"]["attempts"].as_u64() > Some(0)).then_some(())
        });
        assert_eq!(outbox_entry(&site, &job)["ways"]["webhook"]["state"], state);
        assert!(!receiver.posts()[0].headers.contains_key("webhook-signature"), "there is no secret");
    }
    assert_eq!(elsewhere.posts().len(), 0);
}
