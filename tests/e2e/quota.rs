//! Usage limits of the account: the queue is held, and the jobs that hit the limit go on in their thread.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::event::{EventBody, FailureKind};
use common::record::{JobRecord, State};
use jiff::{SignedDuration, Timestamp};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, processes, programs};
use relay_tests::scripted_model::Scripts;
use relay_tests::scripted_model::script::{Act, Fault, Script};
use relay_tests::scripted_model::{ScriptedModel, write_codex_home};
use serde_json::{Value, json};

use crate::codex::launch;
use crate::model_gateway::{edit_codex_config, site, up};

/// The answer of a model whose usage limit is reached, once for each thread.
pub(crate) fn limit_once(limit: &Value) -> Act {
    let mut error = json!({"type": "usage_limit_reached", "message": "Used up."});
    error.as_object_mut().unwrap().extend(limit.as_object().unwrap().clone());
    let fault = Fault::HttpError { status: 429, body: json!({ "error": error }) };
    Act::Fault { fault, times: Some(1) }
}

/// A script that works, hits the usage limit once, and then ends its task.
fn limited(limit: &Value) -> Script {
    Script::new("limited").run("true").then(limit_once(limit)).say("Done.")
}

/// Waits until the relay has decided how long the job is held.
pub(crate) fn held(site: &Site, job: &str) -> JobRecord {
    site.record_when(job, "is held", |record| {
        record.held.as_ref().is_some_and(|hold| hold.next_try_at.is_some())
    })
}

/// Returns the Codex threads of a job's runs of Codex.
pub(crate) fn threads(site: &Site, job: &str) -> Vec<String> {
    let events = site.events(job).into_iter().filter_map(|line| line.event);
    let threads = events.filter_map(|event| match event.body {
        EventBody::Started { thread_id, .. } => thread_id,
        _ => None,
    });
    threads.collect()
}

#[test]
#[ignore = "needs the real Codex"]
fn a_job_at_the_usage_limit_goes_on_in_its_thread_once_the_limit_ends() {
    let (model, site) = site(Engine::Local, [limited(&json!({"resets_in_seconds": 3}))]);
    up(&site);
    let job = launch(&site, "[script:limited] Work.");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}\n{}", site.log(&job), site.daemon_log());
    assert_eq!((record.message.as_deref(), record.epoch, &record.held), (Some("Done."), 1, &None));
    assert_eq!(record.describe_outcome(), "completed", "a limit that has ended is no warning");
    let threads = threads(&site, &job);
    assert!(threads.len() >= 2 && threads.iter().all(|thread| Some(thread) == record.thread_id.as_ref()));
    let until =
        site.events(&job).into_iter().filter_map(|line| line.event).find_map(|event| match event.body {
            EventBody::Held { hold: Some(hold) } => hold.until,
            _ => None,
        });
    assert!(record.finished_at >= until && until.is_some(), "{until:?}");
    // The thread goes on: its last request has the task and the output of the command before the limit.
    let last = model.requests().pop().unwrap().body.to_string();
    assert!(last.contains("[script:limited] Work.") && last.contains("function_call_output"), "{last}");
    assert!(site.notices_of(&[&job]).contains(&job));
    assert!(!site.relay(&["notices"]).contains(&job));
}

#[test]
#[ignore = "needs the real Codex"]
fn five_jobs_wait_for_the_end_of_a_limit_also_while_the_relay_is_killed() {
    let plain = Script::new("plain").say("Hello.");
    let (_model, site) = site(Engine::Local, [limited(&json!({"resets_in_seconds": 7200})), plain]);
    up(&site);
    let job = launch(&site, "[script:limited] Work.");
    let until = held(&site, &job).held.unwrap().until.unwrap();
    let queued: Vec<String> = (0..5).map(|_| launch(&site, "[script:plain] Greet.")).collect();
    for queued in &queued {
        assert_eq!(
            (held(&site, queued).state, held(&site, queued).held.unwrap().until),
            (State::Queued, Some(until))
        );
    }
    let shell = site.launch_shell("true", &[]);
    assert_eq!(site.ended(&shell).state, State::Completed);

    // People read the time in their own zone; programs read the instant.
    let in_zone = |zone: &str, args: &[&str]| {
        let output = site.command(args).env("TZ", zone).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let minute = until.checked_add(SignedDuration::from_millis(59_999)).unwrap();
    for (zone, hours) in [("<+09>-9", 9), ("<-03>3", -3)] {
        let shown =
            minute.checked_add(SignedDuration::from_hours(hours)).unwrap().strftime("%H:%M").to_string();
        for args in [&["status", &*job][..], &["status", &*queued[0]], &["status"], &["explain", &*job]] {
            let text = in_zone(zone, args);
            assert!(text.contains("held: usage limit until ") && text.contains(&shown), "{shown}: {text}");
        }
    }
    let record: Value = serde_json::from_str(&site.relay(&["status", &job, "--json"])).unwrap();
    assert_eq!(record["held"]["until"], until.to_string());

    processes::kill(site.daemon_pid());
    up(&site);
    let next = launch(&site, "[script:plain] Greet.");
    assert_eq!(held(&site, &next).held.unwrap().until, Some(until));
    // `relay up` while the relay runs tries at once.
    up(&site);
    for job in [&job, &next].into_iter().chain(&queued) {
        let record = site.ended(job);
        assert_eq!(outcome(&record), (State::Completed, None), "{}\n{}", site.log(job), site.daemon_log());
    }
}

#[test]
#[ignore = "needs the real Codex"]
fn without_the_gateway_the_time_that_codex_prints_in_its_zone_ends_the_hold() {
    let resets_at = Timestamp::now().as_second() + 2 * 24 * 3600;
    let site = Site::new(Engine::Local);
    let scripts: Scripts = [limited(&json!({"resets_at": resets_at}))].into_iter().collect();
    let model = ScriptedModel::start_on_thread(scripts).unwrap();
    write_codex_home(site.codex_home(), &model.base_url()).unwrap();
    let codex = programs::codex();
    site.configure(&format!("[codex]\nsandbox = \"off\"\nprogram = \"{}\"\n", codex.display()));
    let target = ["launch", "-q", "--share", "-w", "workspace-projects/demo"];
    let flags = ["--env", "TZ=Asia/Tokyo", "[script:limited] Work."];
    let job = site.relay(&[&target[..], &flags].concat()).trim().to_owned();
    let until = held(&site, &job).held.unwrap().until.unwrap();
    let minute = until.as_second() - resets_at;
    assert!((0..=60).contains(&minute), "{until} is {minute} s after the end");
    site.relay(&["cancel", &job]);
    assert_eq!(outcome(&site.ended(&job)), (State::Cancelled, None));
    let failing = site.relay(&[&target[..], &["--on-quota", "fail", "[script:limited] Again."]].concat());
    let record = site.ended(failing.trim());
    assert_eq!(
        outcome(&record),
        (State::Failed, Some(FailureKind::UsageLimit)),
        "{}",
        site.log(failing.trim())
    );
}

#[test]
#[ignore = "needs the real Codex"]
fn a_used_up_budget_of_the_day_ends_running_jobs_and_holds_the_queue() {
    let script = Script::new("works").run("true").run("true").run("true").say("Done.");
    let (_model, site) = site(Engine::Local, [script]);
    let path = site.root().join("platform/relay.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{settings}\n[budget]\nday_tokens = 200\n")).unwrap();
    up(&site);
    let job = launch(&site, "[script:works] Work.");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::BudgetExceeded)), "{}", site.log(&job));
    let message = record.error.unwrap().message;
    assert_eq!(message, "the day's budget for the model ([budget] day) is used up: 240 of 200 tokens");
    let next = launch(&site, "[script:works] Work again.");
    assert_eq!(held(&site, &next).held.unwrap().kind, FailureKind::BudgetExceeded);
    let status = site.relay(&["status", &next]);
    assert!(status.contains("held: budget of the day until "), "{status}");

    // The sum of the day survives the relay, and `relay usage` shows it.
    processes::kill(site.daemon_pid());
    up(&site);
    let last = launch(&site, "[script:works] Work once more.");
    assert_eq!(held(&site, &last).state, State::Queued);
    let usage = site.relay(&["usage", "--by", "job", "--json"]);
    let rows: Vec<Value> = usage.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let tokens = |row: &Value| (row["input_tokens"].clone(), row["output_tokens"].clone());
    assert_eq!((rows.len(), &rows[0]["key"], &rows[1]["by"]), (2, &json!(job), &json!("total")));
    assert_eq!((tokens(&rows[0]), tokens(&rows[1])), ((json!(200), json!(40)), (json!(200), json!(40))));
}

#[test]
#[ignore = "needs the real Codex"]
fn a_refused_key_holds_the_queue_until_there_is_another_one() {
    let body = json!({"error": {"code": "invalid_api_key", "message": "Wrong key."}});
    let refused = Script::new("refused").fault(Fault::HttpError { status: 401, body });
    let (model, site) = site(Engine::Local, [refused, Script::new("plain").say("Hello.")]);
    up(&site);
    let job = launch(&site, "[script:refused] Work.");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Failed, Some(FailureKind::Auth)), "{}", site.log(&job));
    let queued: Vec<String> = (0..2).map(|_| launch(&site, "[script:plain] Greet.")).collect();
    for job in &queued {
        let record = site.record_when(job, "is held", |record| record.held.is_some());
        let hold = record.held.unwrap();
        assert_eq!((record.state, hold.kind, hold.next_try_at), (State::Queued, FailureKind::Auth, None));
    }
    let advice = "held: log in with `codex login`";
    for args in [&["status"][..], &["status", &*queued[0]], &["status", &*queued[1]]] {
        let shown = site.relay(args);
        assert!(shown.contains(advice), "{shown}");
    }
    let shell = site.launch_shell("true", &[]);
    assert_eq!(site.ended(&shell).state, State::Completed);

    let key = "experimental_bearer_token = \"sk-second-4712\"";
    edit_codex_config(&site, "env_key = \"SCRIPTED_KEY\"", key);
    for job in &queued {
        let record = site.ended(job);
        assert_eq!(outcome(&record), (State::Completed, None), "{}\n{}", site.log(job), site.daemon_log());
    }
    let keys: Vec<_> = model.requests().into_iter().filter_map(|request| request.authorization).collect();
    let second = "Bearer sk-second-4712";
    assert_eq!((keys[0] == second, keys[1..].to_vec()), (false, vec![second.to_owned(); 2]));
}

/// Returns a script in place of Codex that reports a usage limit once, and then is Codex.
fn forging_codex(mark: &Path) -> String {
    let lines = [
        json!({"type": "thread.started", "thread_id": "019a0000-0000-7000-8000-000000000001"}),
        json!({"type": "turn.started"}),
        json!({"type": "turn.failed", "error": {
            "message": "You've hit your usage limit. Try again at Jan 1st, 2099 1:00 AM."
        }}),
    ];
    let lines = lines.map(|line| format!("{line}\n")).concat();
    let (mark, codex) = (mark.display(), programs::codex());
    format!(
        "#!/bin/sh\nif [ \"$1\" = exec ] && [ ! -e '{mark}' ]; then\n>'{mark}'\ncat >/dev/null\n\
         cat <<'END'\n{lines}END\nexit 1\nfi\nexec '{}' \"$@\"\n",
        codex.display()
    )
}

#[test]
#[ignore = "needs the real Codex"]
fn a_forged_report_of_a_limit_holds_no_other_job_with_the_gateway() {
    let (model, site) = site(Engine::Local, [Script::new("plain").say("Hello.")]);
    site.write_home("bin/codex", &forging_codex(&site.home().join("forged")));
    let program = site.home().join("bin/codex");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let codex = format!("[codex]\nsandbox = \"off\"\nprogram = \"{}\"\n", program.display());
    site.configure(&format!("{codex}[model]\ngateway = true\n"));
    up(&site);
    let job = launch(&site, "[script:plain] Greet.");
    let hold = held(&site, &job).held.unwrap();
    assert_eq!((hold.kind, hold.until), (FailureKind::UsageLimit, None));
    assert_eq!(model.requests().len(), 0);
    let next = launch(&site, "[script:plain] Greet.");
    let record = site.ended(&next);
    assert_eq!(outcome(&record), (State::Completed, None), "{}\n{}", site.log(&next), site.daemon_log());
    assert!(site.record(&job).held.is_some());
    site.relay(&["cancel", &job]);
    assert_eq!(outcome(&site.ended(&job)), (State::Cancelled, None));
}
