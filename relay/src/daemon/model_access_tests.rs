//! Tests of the access to the model.

use super::*;
use crate::files::atomic::Durability;
use crate::model_server::LoginSettings;
use common::event::{FailureKind, Queued, Usage};
use common::model_usage::ModelProblem;
use common::record::State;

fn record(model_usage: Option<ModelUsage>) -> JobRecord {
    let at = jiff::Timestamp::UNIX_EPOCH;
    let record = JobRecord::from_queued("a#1".parse().unwrap(), at, &Queued::default());
    JobRecord { model_usage, epoch: 1, ..record }
}

#[tokio::test]
async fn a_job_has_one_meter_until_its_end_and_it_goes_on_from_the_record() {
    let (commands, _writer) = mpsc::channel(16);
    let writer = WriterHandle::new(commands);
    let mut shared = Shared::default();
    let total = ModelUsage { answers: 7, ..ModelUsage::default() };
    let mut meter = |usage| shared.meter(&record(usage), || Ok(MeterSettings::default()), &writer).unwrap();
    let first = meter(Some(total));
    assert_eq!(first.readings().borrow().total, total);
    assert!(Arc::ptr_eq(&first, &meter(None)));
    shared.meters.remove(&"a#1".parse().unwrap());
    let new = shared.meter(&record(None), || Ok(MeterSettings::default()), &writer).unwrap();
    assert_eq!(new.readings().borrow().total, ModelUsage::default());
}

/// Returns the access of a new registry, with its folder and the queue of its writer.
fn access() -> (tempfile::TempDir, ModelAccess, mpsc::Receiver<WriterCommand>) {
    let dir = tempfile::tempdir().unwrap();
    let (commands, queue) = mpsc::channel(16);
    let (registry, writer) = (Registry::for_project(dir.path()), WriterHandle::new(commands));
    registry.ensure().unwrap();
    let secret = dir.path().join("model-secret");
    let access = ModelAccess::load(&secret, registry, Prices::default(), writer).unwrap();
    (dir, access, queue)
}

#[tokio::test]
async fn a_job_whose_spec_can_t_be_read_gets_no_meter_without_a_budget() {
    let (_dir, access, _queue) = access();
    let settings = || access.meter_settings(&record(None), &UpstreamSettings::default());
    assert!(settings().unwrap_err().contains("its budget is not known"));
    access.registry.spec(&record(None).job).replace(b"{}", Durability::Cached).unwrap();
    assert!(settings().unwrap_err().contains("its budget is not known"));
}

#[tokio::test]
async fn the_end_of_a_job_closes_its_meter_also_if_it_comes_first() {
    let (_dir, access, _queue) = access();
    let open = record(None);
    let meter = access.lock().meter(&open, || Ok(MeterSettings::default()), &access.writer).unwrap();
    assert!(!access.has_ended(&open.job));
    let ended = JobRecord { state: State::Completed, ..open.clone() };
    access.registry.record(&open.job).replace(&ended.to_bytes().unwrap(), Durability::Cached).unwrap();
    assert!(access.has_ended(&open.job));
    access.remove_job(&open.job);
    assert!(meter.is_closed() && access.lock().meters.is_empty());
}

#[tokio::test]
async fn a_login_that_the_user_has_replaced_counts_as_new_credentials() {
    let (dir, access, _queue) = access();
    let auth_file = dir.path().join("auth.json");
    let write_login = |token: &str| {
        let tokens = serde_json::json!({ "tokens": { "access_token": token } });
        std::fs::write(&auth_file, tokens.to_string()).unwrap();
    };
    let login = LoginSettings { auth_file: auth_file.clone(), refresh_url: "http://h/token".to_owned() };
    let check = || {
        let base_url = "http://h/v1".to_owned();
        let login = Some(login.clone());
        access.check(Ok(UpstreamSettings { base_url, login, ..UpstreamSettings::default() }))
    };
    write_login("one");
    let first = check();
    assert_eq!(first.0, None);
    assert_eq!(first, check());
    write_login("two");
    assert_ne!(first.1, check().1);
    assert_eq!(check(), check());
}

#[test]
fn connections_are_shared_until_the_settings_change() {
    let settings = |key: &str| UpstreamSettings {
        base_url: "http://h/v1".to_owned(),
        key: Some(Secret::new(key)),
        ..UpstreamSettings::default()
    };
    let mut shared = Shared::default();
    let first = shared.upstream(settings("one")).unwrap();
    assert!(Arc::ptr_eq(&first, &shared.upstream(settings("one")).unwrap()));
    assert!(!Arc::ptr_eq(&first, &shared.upstream(settings("two")).unwrap()));
}

#[test]
fn a_change_of_the_readings_is_one_event_each() {
    let before = JobReadings::default();
    let usage = Usage { input_tokens: 1, ..Usage::default() };
    let total = ModelUsage { usage, answers: 1, ..ModelUsage::default() };
    let (kind, message) = (FailureKind::Overloaded, "busy".to_owned());
    let problem = Some(ModelProblem { kind, message, resets_at: None });
    let warnings = vec!["most is used".to_owned()];
    let after =
        JobReadings { total, refused: 3, problem: problem.clone(), warnings, ..JobReadings::default() };
    let expected = [
        EventBody::ModelUsage(Box::new(total)),
        EventBody::Warning { message: "most is used".to_owned() },
        EventBody::ModelProblem { problem: problem.map(Box::new) },
    ];
    assert_eq!(events_between(&before, &after), expected);
    assert_eq!(events_between(&after, &JobReadings { refused: 4, ..after.clone() }), []);
}
