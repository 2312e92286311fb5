//! Text output of `relay explain`, in at most 30 lines.

use common::duration;
use common::event::{Resources, StepOutcome};
use common::record::JobRecord;
use common::{summary, text_format};

use super::{Explanation, SlowStep};
use crate::plural;
use crate::render::labeled_rows::{LabeledRows, MAX_ROW_BYTES};
use crate::render::{View, health, steps};
use crate::times::format_clock;

/// Maximum number of shares of the time that are listed; the other shares are summed up.
const MAX_SHARES: usize = 7;

/// Builds the text: one line for the job, 1 for its health, at most 8 for the time, 1 for CPU and network, 5 for steps,
/// 5 for the cause, 4 for signs, 4 for advice and 1 for the log: 30.
pub fn format_explanation(explanation: &Explanation, record: &JobRecord, view: &View) -> String {
    let mut rows = LabeledRows::new(view, format_headline(explanation, record, view));
    if !record.state.is_final() {
        let health = health::health(record, view);
        rows.add_row("health", &text_format::one_line(&health.to_string(), MAX_ROW_BYTES), |part| {
            view.paint.job_health(health.word, part)
        });
    }
    rows.add_time(explanation);
    if explanation.cpu_ms.is_some() || explanation.network_wait_ms > 0 {
        rows.add("of it", &format_usage(explanation));
    }
    rows.add_list("slowest", explanation.slowest.iter().map(format_slow_step));
    rows.add_cause(explanation);
    let signs = explanation.signs.iter().map(|sign| {
        let step = sign.step.map(|n| format!(" in step {n}")).unwrap_or_default();
        let what = sign.what.replace('_', " ");
        format!(
            "{} {what}{step}: {}",
            format_clock(sign.at, view.now, &view.zone),
            text_format::one_line(&sign.text, MAX_ROW_BYTES)
        )
    });
    rows.add_list("seen", signs);
    rows.add_list("try", explanation.tries.iter().cloned());
    rows.add_list("log", [explanation.log_path.clone()].into_iter());
    rows.finish()
}

fn format_headline(explanation: &Explanation, record: &JobRecord, view: &View) -> String {
    let total = duration::format_duration(explanation.total_ms);
    let (state, word) = if explanation.state.is_final() {
        (format!("{} {total}", record.describe_outcome()), "after")
    } else {
        (format!("{} for {total}", record.describe_outcome()), "since")
    };
    format!("{} {} {word} launch", explanation.job, view.paint.state(explanation.state, &state))
}

/// Formats the use of CPU and network: `cpu 12.8s; 1m59s waiting on the network`.
fn format_usage(explanation: &Explanation) -> String {
    let cpu = explanation.cpu_ms.map(|ms| format!("cpu {}", duration::format_duration(ms)));
    let network = (explanation.network_wait_ms > 0).then(|| {
        format!("{} waiting on the network", duration::format_duration(explanation.network_wait_ms))
    });
    cpu.into_iter().chain(network).collect::<Vec<_>>().join("; ")
}

/// Formats a slow step: `5 install 2m12s killed (limit 20m), cpu 12.3s, 240 MiB: npm ci`. Time and CPU time exclude the
/// sub-steps.
fn format_slow_step(slow_step: &SlowStep) -> String {
    let step = &slow_step.step;
    let shows_limit = !matches!(step.outcome, Some(StepOutcome::Ok));
    let limit =
        step.limit_ms.filter(|_| shows_limit).map(|ms| format!(" (limit {})", duration::format_limit(ms)));
    let used = step.resources.map(|used| Resources { cpu_ms: slow_step.own_cpu_ms, ..used });
    let used = used.map(|used| format!(", {}", summary::format_resources(&used))).unwrap_or_default();
    let (time, outcome) = (duration::format_duration(slow_step.own_ms), steps::outcome_text(step));
    format!("{} {} {time} {outcome}{}{used}: {}", step.n, step.kind, limit.unwrap_or_default(), step.title)
}

impl LabeledRows<'_> {
    fn add_time(&mut self, explanation: &Explanation) {
        let (listed, others) = explanation.time.split_at(explanation.time.len().min(MAX_SHARES));
        let others_ms: u64 = others.iter().map(|share| share.ms).sum();
        let mut shares: Vec<(u64, String)> =
            listed.iter().map(|share| (share.ms, describe_share(share.what, share.steps))).collect();
        if others_ms > 0 {
            shares.push((others_ms, "other".to_owned()));
        }
        for (i, (ms, what)) in shares.into_iter().enumerate() {
            let percent = ms.saturating_mul(100).checked_div(explanation.total_ms).unwrap_or(0);
            let line = format!("{:>7} {percent:>3} %  {what}", duration::format_duration(ms));
            self.add_unstyled(if i == 0 { "time" } else { "" }, &line);
        }
    }

    fn add_cause(&mut self, explanation: &Explanation) {
        let Some(cause) = &explanation.cause else { return };
        let kind = serde_json::to_value(cause.kind).ok();
        let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or("failed");
        let text = text_format::one_line(
            &format!("{kind}: {}", text_format::to_printable(&cause.message)),
            MAX_ROW_BYTES,
        );
        let paint = self.view.paint;
        self.add_row("cause", &text, |part| paint.alarm(part));
        for line in &cause.output {
            self.add("", &format!("| {}", text_format::one_line(line, MAX_ROW_BYTES)));
        }
    }
}

fn describe_share(what: &str, steps: u32) -> String {
    let count = |one: &str, many: &str| plural::format_count(steps.into(), one, many);
    match what {
        "queued" => "queued: waiting for the platform".to_owned(),
        "held" => "held: waiting until the account can use the model".to_owned(),
        "other" => "between steps".to_owned(),
        "model" => format!("model: waiting for answers ({})", count("time", "times")),
        kind => format!("{kind} ({})", count("step", "steps")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::explain;
    use crate::render::samples;
    use common::event_line::EventLine;

    fn explain_text(events: &[EventLine], second: i64) -> String {
        let record = JobRecord::rebuild(events).unwrap();
        format_explanation(&explain(&record, events, samples::at(second)), &record, &samples::view(second))
    }

    #[test]
    fn a_stalled_job_shows_what_it_waited_for_and_what_to_try() {
        insta::assert_snapshot!(explain_text(&samples::stalled_job_events(), 200), @r#"
        abe#1 failed 2m32s after launch
        time         2m12s  86 %  install (1 step)
                     10.0s   6 %  model: waiting for answers (1 time)
                      5.0s   3 %  fetch (1 step)
                      3.0s   1 %  build (1 step)
                      1.0s   0 %  start (1 step)
                      1.0s   0 %  queued: waiting for the platform
        of it      cpu 12.8s; 1m59s waiting on the network
        slowest    5 install 2m12s killed (limit 20m), cpu 12.3s, 240 MiB: npm ci
                   4 fetch 5.0s ended (limit 10m), cpu 0.3s, 12 MiB: curl -fsSL https://example.org/tool
                   3 build 3.0s killed (limit 20m), cpu 0.1s, 250 MiB: make setup
                   1 start 1.0s ok: codex
        cause      stalled: step 5 (install: npm ci) made no progress for 2m: node (pid 312): 0.0 % CPU, 0 bytes in 2m0s, waiting on TCP 10.0.0.1:443 ESTABLISHED
        seen       03:06:35 stalled in step 5: node (pid 312): 0.0 % CPU, 0 bytes in 2m0s, waiting on TCP 10.0.0.1:443 ESTABLISHED
        try        check that 10.0.0.1:443, which it waited for, answers from where the worker runs
                   check the registry, mirror or proxy that it uses: `relay logs abe#1` shows its last output
                   if it is only slow: `relay retry abe#1 --stall install=10m`
        log        /r/abe.1.log
        "#);
    }

    #[test]
    fn a_running_job_is_explained_too() {
        insta::assert_snapshot!(explain_text(&samples::supervised_job_events(), 1000), @r#"
        abe#1 running for 16m40s since launch
        health     quiet: build 16m28s of 20m; step 5 made no progress at the last check (waiting on TCP 10.0.0.1:443 ESTABLISHED); it is ended within 4m
        time        16m20s  98 %  install (1 step)
                     10.0s   1 %  model: waiting for answers (1 time)
                      5.0s   0 %  fetch (1 step)
                      3.0s   0 %  build (1 step)
                      1.0s   0 %  start (1 step)
                      1.0s   0 %  queued: waiting for the platform
        of it      cpu 0.3s; 16m20s waiting on the network
        slowest    5 install 16m20s running (limit 20m): npm ci
                   4 fetch 5.0s ended (limit 10m), cpu 0.3s, 12 MiB: curl -fsSL https://example.org/tool
                   3 build 3.0s running (limit 20m): make setup
                   1 start 1.0s ok: codex
        seen       03:06:35 stalled in step 5: node (pid 312): 0.0 % CPU, 0 bytes in 2m0s, waiting on TCP 10.0.0.1:443 ESTABLISHED
        try        check that 10.0.0.1:443, which it waits for, answers from where the worker runs
                   `relay logs -f abe#1` shows its output; `relay cancel abe#1` ends the job
                   if it needs longer: `relay extend abe#1 --step 10m`
        log        /r/abe.1.log
        "#);
    }

    #[test]
    fn a_failed_check_shows_its_output_and_earlier_interruptions() {
        insta::assert_snapshot!(explain_text(&samples::failed_check_events(), 100), @r#"
        abe#1 failed 1m35s after launch
        time         1m00s  63 %  fetch (1 step)
                     30.0s  31 %  check (1 step)
                      3.0s   3 %  between steps
                      1.0s   1 %  start (1 step)
                      1.0s   1 %  queued: waiting for the platform
        of it      cpu 55.1s
        slowest    2 fetch 1m00s killed (limit 10m), cpu 0.1s, 9 MiB: curl https://example.org/big
                   3 check 30.0s failed (exit code 101) (limit 30m), cpu 55.0s, 900 MiB: cargo test
                   1 start 1.0s ok: codex
        cause      check_failed: check 'cargo test' ended with exit code 101
                   | assertion `left == right` failed
                   | left: 1
                   | right: 2
        seen       03:05:08 interrupted in step 2: step 2 (fetch: curl) ran over its limit of 1m
        try        the worker's changes are still there: run the check by itself with `relay run -w DIR -- CMD`
                   hand it back to a Codex worker, which remembers its work: `relay resume abe#1 'make the check pass'`
        log        /r/abe.1.log
        "#);
    }

    #[test]
    fn a_step_over_its_limit_shows_how_to_raise_the_limit() {
        insta::assert_snapshot!(explain_text(&samples::failed_job_events(), 700), @r#"
        abe#1 failed 10m11s after launch
        time        10m00s  98 %  install (1 step)
                      5.0s   0 %  clone (1 step)
                      4.0s   0 %  between steps
                      1.0s   0 %  start (1 step)
                      1.0s   0 %  queued: waiting for the platform
        slowest    3 install 10m00s killed (limit 10m): npm ci
                   2 clone 5.0s ok: git clone https://example.org/abe
                   1 start 1.0s ok: codex
        cause      step_timeout: install `npm ci` ran for 10m, its limit: raise it with --step-timeout install=20m
        try        a cache or a nearer mirror makes it faster; `--setup CMD` does it once, before the worker
                   if it needs more time: `relay retry abe#1 --step-timeout install=20m`
                   next time, while it is still running: `relay extend abe#1 --step 10m`
        log        /r/abe.1.log
        "#);
    }

    #[test]
    fn a_queued_job_shows_only_waiting_time() {
        insta::assert_snapshot!(explain_text(&samples::failed_job_events()[..1], 60), @r#"
        abe#1 queued for 1m00s since launch
        health     queued: next in line (4 of 4 slots busy)
        time         1m00s 100 %  queued: waiting for the platform
        try        `relay status abe#1` shows what it waits for
        log        /r/abe.1.log
        "#);
    }

    #[test]
    fn programs_get_the_same_explanation_as_json() {
        let events = samples::failed_check_events();
        let record = JobRecord::rebuild(&events).unwrap();
        let mut json = serde_json::to_value(explain(&record, &events, samples::at(100))).unwrap();
        // Steps have the same form as in the record, so their numbers are enough here.
        json["cause"]["step"] = json["cause"]["step"]["n"].clone();
        json["slowest"] = json["slowest"][0]["step"]["n"].clone();
        let expected = serde_json::json!({
            "job": "abe#1",
            "state": "failed",
            "total_ms": 95_000,
            "time": [
                {"what": "fetch", "ms": 60_000, "steps": 1},
                {"what": "check", "ms": 30_000, "steps": 1},
                {"what": "other", "ms": 3000, "steps": 0},
                {"what": "start", "ms": 1000, "steps": 1},
                {"what": "queued", "ms": 1000, "steps": 0},
            ],
            "cpu_ms": 55_100,
            "network_wait_ms": 0,
            "slowest": 2,
            "cause": {"kind": "check_failed", "message": "check 'cargo test' ended with exit code 101", "output": ["assertion `left == right` failed", "left: 1", "right: 2"], "step": 3},
            "signs": [
                {"at": "2026-01-02T03:05:08Z", "what": "interrupted", "step": 2, "text": "step 2 (fetch: curl) ran over its limit of 1m"},
            ],
            "tries": [
                "the worker's changes are still there: run the check by itself with `relay run -w DIR -- CMD`",
                "hand it back to a Codex worker, which remembers its work: `relay resume abe#1 'make the check pass'`",
            ],
            "log_path": "/r/abe.1.log",
        });
        assert_eq!(json.to_string(), expected.to_string());
    }

    #[test]
    fn a_hostile_log_is_explained_in_30_short_lines_without_control_characters() {
        for has_ended in [false, true] {
            let events = samples::hostile_job_events(has_ended);
            let text = explain_text(&events, 700);
            assert!(text.lines().count() <= 30, "{text}");
            assert!(text.lines().all(|line| line.len() <= MAX_ROW_BYTES + 40), "{text}");
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            assert!(!text.contains('\u{202e}'));
        }
    }
}
