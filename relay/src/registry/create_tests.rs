//! Tests of the creation of jobs.

use std::fs;

use common::job::Runner;

use super::*;

fn launch(registry: &Registry, name: &str, key: Option<&str>) -> CreateResult {
    let draft = JobDraft {
        name: name.parse().unwrap(),
        launched_at: Timestamp::UNIX_EPOCH,
        build_spec: &|job| JobSpec::new(job.clone(), Runner::Shell, "true", "/w"),
        workspace: "/w".into(),
        engine: "local".into(),
        origin: common::origin::Origin::default(),
        schedule: Schedule::default(),
        pack: None,
        images: None,
        key,
    };
    create_job(registry, &draft).unwrap()
}

fn id(text: &str) -> JobId {
    text.parse().unwrap()
}

#[test]
fn numbers_are_counted_per_name_and_latest_is_the_newest_job() {
    let (_dir, registry) = Registry::temporary();
    assert_eq!(launch(&registry, "a", None), CreateResult::New(id("a#1")));
    assert_eq!(launch(&registry, "b", None), CreateResult::New(id("b#1")));
    assert_eq!(launch(&registry, "a", None), CreateResult::New(id("a#2")));
    assert_eq!(read::latest_link_target(&registry).unwrap(), id("a#2"));
    assert_eq!(read::load_record(&registry, &id("a#2")).unwrap().record.prompt_summary, "true");
}

#[test]
fn a_number_is_not_reused_even_if_its_counter_is_lost_or_outdated() {
    let (_dir, registry) = Registry::temporary();
    launch(&registry, "a", None);
    launch(&registry, "a", None);
    fs::rename(registry.record(&id("a#2")), registry.archive_registry().record(&id("a#2"))).unwrap();
    // An outdated counter, as after a power loss.
    fs::write(registry.names().file("a"), "0").unwrap();
    assert_eq!(launch(&registry, "a", None), CreateResult::New(id("a#3")));
    fs::remove_file(registry.names().file("a")).unwrap();
    assert_eq!(launch(&registry, "a", None), CreateResult::New(id("a#4")));
}

#[test]
fn the_same_key_gives_the_same_job() {
    let (_dir, registry) = Registry::temporary();
    assert_eq!(launch(&registry, "a", Some("k")), CreateResult::New(id("a#1")));
    assert_eq!(launch(&registry, "a", Some("k")), CreateResult::Existing(id("a#1")));
    assert_eq!(launch(&registry, "a", Some("other")), CreateResult::New(id("a#2")));
}

#[test]
fn a_key_whose_launch_was_interrupted_launches_a_new_job() {
    let (_dir, registry) = Registry::temporary();
    assert_eq!(launch(&registry, "a", Some("k")), CreateResult::New(id("a#1")));
    // The launch that the key names was killed before its record was published.
    fs::remove_file(registry.record(&id("a#1"))).unwrap();
    assert_eq!(job_of_key(&registry, "k").unwrap(), None);
    assert_eq!(launch(&registry, "a", Some("k")), CreateResult::New(id("a#2")));
    fs::rename(registry.record(&id("a#2")), registry.archive_registry().record(&id("a#2"))).unwrap();
    assert_eq!(launch(&registry, "a", Some("k")), CreateResult::Existing(id("a#2")));
    assert_eq!(job_of_key(&registry, "k").unwrap(), Some(id("a#2")));
}

#[test]
fn parallel_launches_get_different_numbers() {
    let (_dir, registry) = Registry::temporary();
    let mut jobs: Vec<String> = std::thread::scope(|scope| {
        let launches: Vec<_> = (0..8).map(|_| scope.spawn(|| launch(&registry, "a", None))).collect();
        launches
            .into_iter()
            .map(|launch| match launch.join().unwrap() {
                CreateResult::New(job) => job.to_string(),
                CreateResult::Existing(job) => panic!("{job} twice"),
            })
            .collect()
    });
    jobs.sort();
    assert_eq!(jobs, (1..=8).map(|n| format!("a#{n}")).collect::<Vec<_>>());
}

#[test]
fn references_resolve_to_the_newest_and_ambiguous_ones_list_their_matches() {
    let (_dir, registry) = Registry::temporary();
    for name in ["abe", "abe", "abe-smoke", "zoe"] {
        launch(&registry, name, None);
    }
    assert_eq!(read::resolve_job(&registry, "abe"), Ok(id("abe#2")));
    assert_eq!(read::resolve_job(&registry, "abe.1"), Ok(id("abe#1")));
    assert_eq!(read::resolve_job(&registry, "z"), Ok(id("zoe#1")));
    let ambiguous = read::resolve_job(&registry, "ab").unwrap_err();
    assert_eq!(ambiguous.code as u8, 2);
    assert!(ambiguous.message.contains("abe, abe-smoke"), "{ambiguous}");
    for unknown in ["nope", "abe#9", "../x", ""] {
        assert_eq!(read::resolve_job(&registry, unknown).unwrap_err().code as u8, 3, "{unknown}");
    }
}
