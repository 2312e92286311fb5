//! Tests of `relay mcp` that write and read the lines of its stdin and stdout.

use std::time::{Duration, Instant};

use common::origin::Origin;
use common::record::State;
use jiff::SignedDuration;
use relay_tests::harness::figures::{figure, ms, percentile, times};
use relay_tests::harness::mcp::McpClient;
use relay_tests::harness::outbox::create_ended_job;
use relay_tests::harness::{Engine, Site, processes, until};
use serde_json::{Value, json};

fn text(result: &Value) -> &str {
    let text = result["content"][0]["text"].as_str().unwrap_or_default();
    assert_eq!(result["structuredContent"]["text"], text, "both forms have the same text: {result}");
    text
}

#[test]
fn tools_show_extend_cancel_and_explain_a_job() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("echo hello; sleep 1000", &[]);
    site.record_when(&job, "has a step", |record| record.step.is_some());
    let mut mcp = McpClient::start(&site);
    let status = mcp.call("status", &json!({"job": "demo"}));
    assert!(text(&status).contains("sleep 1000") && text(&status).lines().count() <= 30, "{status}");
    assert_eq!(status["structuredContent"]["records"][0]["state"], "running");
    assert_eq!(status["structuredContent"]["code"], 8);
    let list = mcp.call("status", &json!({}));
    assert_eq!(list["structuredContent"]["records"][0]["job"], job.as_str());
    until("the output is there", || {
        text(&mcp.call("logs", &json!({"job": job, "lines": 5}))).starts_with("hello\n").then_some(())
    });
    let more = mcp.call("extend", &json!({"job": job, "by": "1h"}));
    assert!(text(&more).starts_with(&format!("{job} may now take 5h (+1h)\n")), "{more}");
    assert_eq!(more["structuredContent"]["extended"]["limit_ms"], 5 * 3_600_000);
    let cancelled = mcp.call("cancel", &json!({"jobs": [job]}));
    assert_eq!(text(&cancelled), format!("{job} cancelled"));
    assert_eq!(cancelled["structuredContent"]["records"][0]["state"], "cancelled");
    let explained = mcp.call("explain", &json!({"job": job}));
    assert!(
        text(&explained).contains(" cancelled ") && text(&explained).contains(" after launch"),
        "{explained}"
    );
    assert_eq!(mcp.close(), Some(0));
}

#[test]
fn a_group_is_waited_for_and_cancelled_as_a_whole() {
    let site = Site::new(Engine::Local);
    let launch =
        |name: &str, group: &str, line: &str| site.launch_shell(line, &["--name", name, "--group", group]);
    let quick = [launch("a", "quick", "true"), launch("b", "quick", "true")];
    let endless = [launch("c", "endless", "sleep 1000"), launch("d", "endless", "sleep 1000")];
    let mut mcp = McpClient::start(&site);
    let ended = mcp.call("wait", &json!({"group": "quick", "jobs": null}));
    let jobs = |result: &Value, field: &str| -> Vec<String> {
        let records = result["structuredContent"][field].as_array().unwrap();
        let mut jobs: Vec<String> =
            records.iter().map(|record| record["job"].as_str().unwrap().to_owned()).collect();
        jobs.sort();
        jobs
    };
    assert_eq!((jobs(&ended, "ended"), &ended["structuredContent"]["code"]), (quick.to_vec(), &json!(0)));
    let cancelled = mcp.call("cancel", &json!({"group": "endless"}));
    assert_eq!(jobs(&cancelled, "records"), endless);
    assert!(endless.iter().all(|job| site.record(job).state == State::Cancelled), "{cancelled}");
    assert_eq!(mcp.close(), Some(0));
}

#[test]
fn a_failed_call_has_the_message_and_the_exit_code_of_the_command_line() {
    let site = Site::new(Engine::Local);
    let mut mcp = McpClient::start(&site);
    for (tool, input, code, line) in [
        ("status", json!({"job": "nope"}), 3, "no job 'nope': `status` lists them"),
        ("logs", json!({"lines": 0}), 2, "`lines`: 0 is not between 1 and 200"),
        ("compare", json!({"jobs": []}), 2, "no job: name at least one in `jobs`"),
        ("wait", json!({"jobs": []}), 2, "name either `jobs` or a `group`"),
        ("cancel", json!({"jobs": ["a"], "group": "g"}), 2, "name either `jobs` or a `group`"),
        ("wait", json!({"group": "g"}), 3, "no job of a group 'g': `status` JOB shows the group of a job"),
        (
            "wait",
            json!({"jobs": ["a"], "timeout": "5"}),
            2,
            "`timeout`: '5' is not a duration: write it like 90s, 10m or 1h30m",
        ),
        ("cancel", json!({"job": "a"}), 3, "no job 'a': `status` lists them"),
        ("status", json!({"job": 7}), 2, "status: wrong input: invalid type: integer `7`, expected a string"),
        ("extend", json!({"job": "a"}), 2, "extend: wrong input: missing field `by`"),
        (
            "launch",
            json!({"prompt": "-", "workspace": "."}),
            2,
            "the prompt is empty: say what the worker is to do",
        ),
    ] {
        let result = mcp.call(tool, &input);
        assert_eq!((text(&result), &result["isError"]), (line, &json!(true)), "{tool}");
        assert_eq!(result["structuredContent"]["code"], code, "{result}");
    }
    let nowhere = mcp.call("launch", &json!({"prompt": "x", "workspace": "missing"}));
    assert_eq!(site.refused(2, &["launch", "x", "-w", "missing"]), format!("relay: {}", text(&nowhere)));
    assert_eq!(site.relay(&["status"]), "", "nothing was launched");
}

#[test]
fn a_wait_reports_the_outcome_or_says_still_running_after_its_timeout() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("until test -e go; do sleep 0.05; done; echo done", &[]);
    site.record_when(&job, "has a step", |record| record.step.is_some());
    let mut mcp = McpClient::start(&site);
    let early = mcp.call("wait", &json!({"jobs": [job], "timeout": "1s"}));
    assert!(text(&early).starts_with(&format!("{job} still running; healthy: ")), "{early}");
    assert_eq!((&early["structuredContent"]["code"], &early["isError"]), (&json!(8), &json!(false)));
    let waiting = mcp.start_call("wait", &json!({"jobs": [job], "timeout": "50s"}));
    // Other calls are answered during a wait.
    assert!(text(&mcp.call("status", &json!({"job": job}))).contains("running"));
    site.write("workspace-projects/demo/go", "");
    let end = mcp.answer(waiting)["result"].take();
    assert!(text(&end).contains("completed"), "{end}");
    assert_eq!(end["structuredContent"]["ended"][0]["state"], "completed");
    let shown = site.registry().join(format!("outbox/{}.shown", job.replace('#', ".")));
    let shown: Value = serde_json::from_slice(&std::fs::read(shown).unwrap()).unwrap();
    assert_eq!(shown["by"], "mcp");
    let other = site.launch_shell("sleep 1000", &[]);
    let first = mcp.call("wait", &json!({"jobs": [other, job], "any": true}));
    assert_eq!(
        first["structuredContent"]["code"], 0,
        "one job has ended, which is enough with `any`: {first}"
    );
    let both = mcp.call("wait", &json!({"jobs": [other, job], "timeout": "1s"}));
    assert_eq!(both["structuredContent"]["code"], 8, "{both}");
    site.relay(&["cancel", "--grace", "1s", &other]);
}

#[test]
fn a_notice_is_shown_once() {
    let site = Site::new(Engine::Local);
    let mut mcp = McpClient::start(&site);
    let mut notices = |peek: bool| text(&mcp.call("notices", &json!({"peek": peek}))).to_owned();
    let nothing = "nothing new";
    assert_eq!(notices(false), nothing);
    create_ended_job(&site, "abe#9", &Origin::default(), SignedDuration::from_mins(1));
    assert!(notices(true).contains("abe#9"));
    assert!(notices(false).contains("abe#9"));
    assert_eq!(notices(false), nothing);
}

#[test]
fn a_cancelled_wait_is_not_answered_and_does_not_count_as_shown() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("until test -e go; do sleep 0.05; done", &[]);
    let mut mcp = McpClient::start(&site);
    let waiting = mcp.start_call("wait", &json!({"jobs": [job], "timeout": "280s"}));
    mcp.call("status", &json!({}));
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
                        "params": {"requestId": waiting, "reason": "the user pressed Esc"}});
    mcp.send_line(&cancel.to_string());
    let threads = || std::fs::read_dir(format!("/proc/{}/task", mcp.pid())).unwrap().count();
    let busy = threads();
    site.write("workspace-projects/demo/go", "");
    site.ended(&job);
    until("the waiting thread has ended", || {
        // The wait's inotify thread ends with it.
        (threads() < busy).then_some(())
    });
    assert!(!mcp.receives_message_within(Duration::from_millis(300)));
    assert!(!site.registry().join(format!("outbox/{}.shown", job.replace('#', "."))).exists());
    let again = mcp.call("wait", &json!({"jobs": [job]}));
    assert!(text(&again).contains("completed"), "{again}");
}

#[test]
fn invalid_input_is_answered_and_the_server_goes_on() {
    let site = Site::new(Engine::Local);
    let mut mcp = McpClient::without_handshake(&mut site.command(&["mcp"]));
    mcp.send_line(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    mcp.send_line("this is not JSON");
    let answer = mcp.next_message();
    assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32700), &Value::Null));
    let early = mcp.send_request("tools/list", &json!({}));
    assert!(mcp.answer(early)["error"]["code"].is_i64());
    let about = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let id = mcp.send_request("initialize", &about);
    let instructions = mcp.answer(id)["result"]["instructions"].take();
    assert!(instructions.as_str().is_some_and(|text| text.len() <= 1024), "{instructions}");
    mcp.send_line(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    for (line, code) in [
        ("{\"jsonrpc\":\"2.0\",\"id\":", -32700),
        ("[1,2,3]", -32600),
        ("\u{1}\u{0}", -32700),
        (&"[".repeat(10_000), -32700),
        (&format!("{{\"jsonrpc\":\"2.0\",\"x\":\"{}\"}}", "y".repeat(5_000_000)), -32600),
    ] {
        mcp.send_line(line);
        let answer = mcp.next_message();
        assert_eq!(answer["error"]["code"], code, "{answer}");
    }
    // A message with an id gets an answer with this id.
    mcp.send_line(&format!("{{\"jsonrpc\":\"2.0\",\"id\":99,\"x\":\"{}\"}}", "y".repeat(5_000_000)));
    assert_eq!(mcp.answer(99)["error"]["code"], -32600);
    mcp.send_line("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":100,\"method\":\"ping\"}");
    assert!(mcp.answer(100)["result"].is_object());
    mcp.send_line(r#"{"jsonrpc":"2.0","id":4711,"method":"tools/call","params":{"name":5}}"#);
    let line = "unknown method 'tools/call', or wrong params";
    assert_eq!(mcp.answer(4711)["error"]["message"], line);
    let unknown = mcp.start_call("lunch", &json!({}));
    assert_eq!(mcp.answer(unknown)["error"]["message"], "no tool 'lunch': tools/list names them");
    for line in ["", "   ", r#"{"jsonrpc":"2.0","method":"notifications/unheard_of"}"#] {
        mcp.send_line(line);
    }
    assert!(text(&mcp.call("status", &json!({}))).contains("no jobs yet"));
    assert_eq!(mcp.close(), Some(0));
}

#[test]
fn the_server_ends_with_its_stdin_although_calls_are_waiting() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("sleep 1000", &[]);
    let mut mcp = McpClient::start(&site);
    for _ in 0..3 {
        mcp.start_call("wait", &json!({"jobs": [job], "timeout": "280s"}));
    }
    mcp.call("status", &json!({}));
    let closed = Instant::now();
    assert_eq!(mcp.close(), Some(0));
    assert!(closed.elapsed() < Duration::from_secs(60), "{:?}", closed.elapsed());
    site.relay(&["cancel", "--grace", "1s", &job]);
}

#[test]
fn many_calls_at_once_are_answered_and_too_many_are_refused() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("until test -e go; do sleep 0.05; done", &[]);
    let mut mcp = McpClient::start(&site);
    let waits: Vec<u64> =
        (0..20).map(|_| mcp.start_call("wait", &json!({"jobs": [job], "timeout": "280s"}))).collect();
    let statuses: Vec<u64> = (0..10).map(|_| mcp.start_call("status", &json!({"job": job}))).collect();
    for id in statuses {
        assert_eq!(mcp.answer(id)["result"]["isError"], false);
    }
    let more_waits: Vec<u64> =
        (0..20).map(|_| mcp.start_call("wait", &json!({"jobs": [job], "timeout": "280s"}))).collect();
    // The server has read all calls before this one, and the job ends after them.
    let ping = mcp.send_request("ping", &json!({}));
    assert!(mcp.answer(ping)["result"].is_object());
    site.write("workspace-projects/demo/go", "");
    let answers: Vec<Value> = waits.into_iter().chain(more_waits).map(|id| mcp.answer(id)).collect();
    let (busy, waited): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer["result"]["isError"] == true);
    assert_eq!((waited.len(), busy.len()), (32, 8), "{busy:?}");
    assert_eq!(busy[0]["result"]["structuredContent"]["code"], 5);
}

#[test]
fn many_tool_calls_are_answered_and_an_idle_server_uses_no_cpu_time() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("true", &[]);
    site.ended(&job);
    let mut mcp = McpClient::start(&site);
    let mut took = Vec::new();
    for _ in 0..times(200, 2000) {
        let started = Instant::now();
        mcp.call("status", &json!({"job": job}));
        took.push(started.elapsed());
    }
    let (p50, p99) = (percentile(took.clone(), 50), percentile(took, 99));
    figure(&format!("mcp: a call of status takes p50 {} us, p99 {}", p50.as_micros(), ms(p99)));
    // After the last answer the server may be busy for a moment.
    until("the server uses no CPU time for two seconds", || {
        let before = processes::cpu_ticks(mcp.pid());
        std::thread::park_timeout(Duration::from_secs(2));
        (processes::cpu_ticks(mcp.pid()) == before).then_some(())
    });
}
