//! Text of an event, on one line.

use common::duration;
use common::event::{Event, EventBody, FinalState, StepOutcome};
use common::event_line::EventLine;
use common::record::State;
use common::{summary, text_format};

use super::View;
use super::health::HealthWord;
use super::hold_text::hold_reason;
use crate::times::format_clock;
use crate::{machine_text, plural};

/// Maximum length of a line, in bytes: three lines of a terminal.
const MAX_LINE_BYTES: usize = 240;

/// Options for the text of an event.
#[derive(Debug, Clone, Copy, Default)]
pub struct RenderOptions {
    /// True if the text shows the job before the type of the event.
    pub shows_job_name: bool,
    /// True if the event's step is a sub-step of another step.
    pub is_nested_step: bool,
}

/// Formats an event: `12:00:01 step_started 3 clone git clone …`.
pub fn event_line(raw: &[u8], event: &EventLine, options: RenderOptions, view: &View) -> String {
    let job = if options.shows_job_name { format!("{} ", event.job) } else { String::new() };
    let kind = text_format::one_line(&event_type(raw), MAX_LINE_BYTES);
    let Some(Event { at, body }) = &event.event else {
        return format!("{job}{kind} (event of a newer version)");
    };
    let time = format_clock(*at, view.now, &view.zone);
    let max_details_bytes = MAX_LINE_BYTES.saturating_sub(time.len() + job.len() + kind.len() + 3);
    let details = text_format::truncate(
        &text_format::to_printable(&event_details(body, options.is_nested_step, view)),
        max_details_bytes,
    );
    // Color is applied after the text was sanitized and truncated.
    let (paint, emphasis) = (view.paint, emphasis_of(body));
    let details = if emphasis == Emphasis::Minor { paint.dim(&details) } else { details };
    let kind = match emphasis {
        Emphasis::Minor => paint.dim(&kind),
        Emphasis::Normal => kind,
        Emphasis::Health(word) => paint.job_health(word, &kind),
        Emphasis::State(state) => paint.state(state, &kind),
    };
    format!("{} {job}{kind} {details}", paint.dim(&time)).trim_end().to_owned()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Emphasis {
    /// Less important than other events.
    Minor,
    /// A milestone.
    Normal,
    /// The color of this health word.
    Health(HealthWord),
    /// The color of this state.
    State(State),
}

fn emphasis_of(body: &EventBody) -> Emphasis {
    match body {
        EventBody::Accepted { .. }
        | EventBody::Started { .. }
        | EventBody::Usage(_)
        | EventBody::ModelUsage(_)
        | EventBody::Vitals(_)
        | EventBody::Evidence(_)
        | EventBody::Cleanup { survivors: 0, .. }
        | EventBody::StepFinished { outcome: StepOutcome::Ok | StepOutcome::Unknown, .. } => Emphasis::Minor,
        EventBody::Queued(_)
        | EventBody::Message { .. }
        | EventBody::Plan { .. }
        | EventBody::FileChange { .. }
        | EventBody::Extended { .. }
        | EventBody::Waiting { .. }
        | EventBody::FolderShared { .. }
        | EventBody::ModelProblem { problem: None }
        | EventBody::Held { hold: None }
        | EventBody::Result(_) => Emphasis::Normal,
        EventBody::StepStarted { .. } => Emphasis::State(State::Running),
        EventBody::LinkRestored { .. } => Emphasis::Health(HealthWord::Healthy),
        EventBody::Warning { .. }
        | EventBody::Stalled { .. }
        | EventBody::LinkLost { .. }
        | EventBody::Stopping { .. }
        | EventBody::ModelProblem { .. }
        | EventBody::Held { .. }
        | EventBody::NetworkRefused(_)
        | EventBody::Interrupted { .. } => Emphasis::Health(HealthWord::Quiet),
        EventBody::StepFinished { .. } | EventBody::Cleanup { .. } => Emphasis::Health(HealthWord::Over),
        EventBody::Finished { state, .. } => Emphasis::State((*state).into()),
    }
}

/// Returns the type of an event as the line of the log names it, so that types of newer programs are shown, too.
fn event_type(raw: &[u8]) -> String {
    let line: Option<serde_json::Value> = serde_json::from_slice(raw).ok();
    let kind = line.as_ref().and_then(|line| line.get("type")?.as_str());
    kind.unwrap_or("unknown").to_owned()
}

fn event_details(body: &EventBody, is_nested_step: bool, view: &View) -> String {
    match body {
        EventBody::Queued(queued) => queued.prompt_summary.clone(),
        EventBody::Accepted { agent, .. } | EventBody::LinkRestored { agent } => format!("by agent {agent}"),
        EventBody::Started { pid, thread_id } => {
            let thread = thread_id.as_ref().map(|id| format!(", thread {id}")).unwrap_or_default();
            format!("pid {pid}{thread}")
        }
        EventBody::StepStarted { n, kind, title, limit_ms, parent } => {
            let limit = limit_ms.map(|ms| format!("limit {}", duration::format_limit(ms)));
            let parent = parent.map(|n| format!("in step {n}"));
            let notes: Vec<String> = limit.into_iter().chain(parent).collect();
            let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
            format!("{n} {kind} {title}{notes}")
        }
        EventBody::StepFinished { n, outcome, exit_code, elapsed_ms, resources } => {
            let outcome = match outcome {
                StepOutcome::Ok => "ok",
                StepOutcome::Failed => "failed",
                StepOutcome::Killed => "killed",
                StepOutcome::Unknown if is_nested_step => "ended",
                StepOutcome::Unknown => "still running when the worker ended",
            };
            let used =
                resources.map(|used| format!(", {}", summary::format_resources(&used))).unwrap_or_default();
            format!(
                "{n} {outcome} after {}{}{used}",
                duration::format_duration(*elapsed_ms),
                exit_code_text(*exit_code)
            )
        }
        EventBody::Message { text } | EventBody::Warning { message: text } => one_line(text),
        EventBody::Plan { items } => {
            format!("{} of {} done", items.iter().filter(|item| item.completed).count(), items.len())
        }
        EventBody::FileChange { files } => {
            let files: Vec<_> = files.iter().map(|file| format!("{} {}", file.kind, file.path)).collect();
            files.join(", ")
        }
        EventBody::Usage(usage) => {
            format!("{} tokens in, {} out", usage.input_tokens, usage.output_tokens)
        }
        EventBody::ModelUsage(total) => {
            let answers = plural::format_count(total.answers, "answer", "answers");
            format!(
                "{} tokens in, {} out, {answers} so far",
                total.usage.input_tokens, total.usage.output_tokens
            )
        }
        EventBody::ModelProblem { problem: None } => "over: the model answers again".to_owned(),
        EventBody::ModelProblem { problem: Some(problem) } => one_line(&problem.describe()),
        EventBody::Held { hold: None } => "over: the job goes on".to_owned(),
        EventBody::Held { hold: Some(hold) } => {
            format!("{}: {}", hold_reason(hold, view), one_line(&hold.message))
        }
        EventBody::NetworkRefused(refused) => one_line(&refused.to_string()),
        EventBody::Stalled { n, evidence } => format!("step {n}: {}", one_line(evidence)),
        EventBody::LinkLost { reason } | EventBody::Stopping { reason } => one_line(reason),
        EventBody::Extended { n: Some(n), limit_ms } => {
            format!("step {n} may now take {}", duration::format_limit(*limit_ms))
        }
        EventBody::Extended { n: None, limit_ms } => {
            format!("the job may now take {}", duration::format_limit(*limit_ms))
        }
        EventBody::Interrupted { n, reason } => format!("step {n}: {}", one_line(reason)),
        EventBody::Vitals(vitals) => machine_text::full_text(vitals),
        EventBody::Result(result) => one_line(&result.describe()),
        EventBody::Evidence(evidence) => {
            let passed = evidence.checks.iter().filter(|check| check.has_passed()).count();
            format!(
                "{passed} of {} passed",
                plural::format_count(evidence.checks.len() as u64, "check", "checks")
            )
        }
        EventBody::Waiting { reason: Some(reason) } => reason.to_string(),
        EventBody::Waiting { reason: None } => "only for a free slot".to_owned(),
        EventBody::FolderShared { jobs } if jobs.is_empty() => "with no other job".to_owned(),
        EventBody::FolderShared { jobs } => {
            format!("with {}", jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
        EventBody::Cleanup { killed, survivors } => {
            format!(
                "{} killed, {survivors} left",
                plural::format_count((*killed).into(), "process", "processes")
            )
        }
        EventBody::Finished { state, error, exit_code, .. } => {
            let state = match state {
                FinalState::Completed => "completed",
                FinalState::Failed => "failed",
                FinalState::Cancelled => "cancelled",
            };
            let error = error.as_ref().map(|error| format!(": {}", one_line(&error.message)));
            format!("{state}{}{}", exit_code_text(*exit_code), error.unwrap_or_default())
        }
    }
}

fn exit_code_text(exit_code: Option<i32>) -> String {
    exit_code.map(|code| format!(" (exit code {code})")).unwrap_or_default()
}

/// Returns the first line of a text that is not empty.
fn one_line(text: &str) -> String {
    text_format::one_line(text, MAX_LINE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn event_lines(events: &[EventLine]) -> String {
        let view = samples::view(73);
        let event_lines = events.iter().map(|event| {
            let is_nested_step = matches!(
                event.event.as_ref().map(|event| &event.body),
                Some(EventBody::StepFinished { n: 4 | 5, .. })
            );
            event_line(
                &event.to_bytes().unwrap(),
                event,
                RenderOptions { shows_job_name: false, is_nested_step },
                &view,
            )
        });
        event_lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_events_of_a_supervised_job_are_described() {
        insta::assert_snapshot!(event_lines(&samples::stalled_job_events()[3..]), @r#"
        03:04:07 started pid 7, thread 0199-t
        03:04:07 step_finished 1 ok after 0.9s
        03:04:07 step_started 2 model waiting for the model (limit 10m)
        03:04:17 step_finished 2 ok after 10.0s
        03:04:17 step_started 3 build make setup (limit 20m)
        03:04:18 step_started 4 fetch curl -fsSL https://example.org/tool (limit 10m, in step 3)
        03:04:23 step_finished 4 ended after 5.0s, cpu 0.3s, 12 MiB
        03:04:25 step_started 5 install npm ci (limit 10m, in step 3)
        03:05:45 extended step 5 may now take 20m
        03:06:35 stalled step 5: node (pid 312): 0.0 % CPU, 0 bytes in 2m0s, waiting on TCP 10.0.0.1:443 ESTABLISHED
        03:06:35 stopping step 5 stalled
        03:06:37 step_finished 5 killed after 2m12s, cpu 12.3s, 240 MiB
        03:06:37 step_finished 3 killed after 2m20s, cpu 12.8s, 250 MiB
        03:06:37 cleanup 3 processes killed, 0 left
        03:06:37 finished failed: step 5 (install: npm ci) made no progress for 2m: node (pid 312): 0.0 % CPU, 0 bytes in 2m0s, waiting on TCP 10.0.0.1:443 ESTABLISHED
        "#);
    }

    #[test]
    fn every_event_of_a_failed_job_is_described_on_one_line() {
        insta::assert_snapshot!(event_lines(&samples::failed_job_events()), @r#"
        03:04:05 queued fix the tests
        03:04:06 accepted by agent a1
        03:04:06 step_started 1 start codex (limit 1m)
        03:04:07 started pid 7, thread 0199-t
        03:04:07 step_finished 1 ok after 0.9s
        03:04:07 plan 1 of 2 done
        03:04:08 step_started 2 clone git clone https://example.org/abe (limit 5m)
        03:04:13 step_finished 2 ok after 5.0s (exit code 0)
        03:04:14 message The clone is there.
        03:04:15 step_started 3 install npm ci (limit 10m)
        03:14:15 step_finished 3 killed after 10m00s
        03:14:15 usage 1200 tokens in, 50 out
        03:14:16 cleanup 2 processes killed, 0 left
        03:14:16 finished failed: install `npm ci` ran for 10m, its limit: raise it with --step-timeout install=20m
        "#);
    }

    #[test]
    fn on_a_terminal_color_marks_a_failure_and_changes_no_text() {
        let mut view = samples::view(200);
        view.paint = crate::render::Paint::new(true);
        let events = samples::stalled_job_events();
        let colored = |n: usize| {
            event_line(&events[n].to_bytes().unwrap(), &events[n], RenderOptions::default(), &view)
        };
        let plain = |text: &str| {
            let codes = ["\u{1b}[2m", "\u{1b}[31m", "\u{1b}[33m", "\u{1b}[36m", "\u{1b}[0m"];
            codes.iter().fold(text.to_owned(), |text, code| text.replace(code, ""))
        };
        let plain_view = samples::view(200);
        for (n, event) in events.iter().enumerate() {
            let expected =
                event_line(&event.to_bytes().unwrap(), event, RenderOptions::default(), &plain_view);
            assert_eq!(plain(&colored(n)), expected);
        }
        let last = colored(events.len() - 1);
        assert!(last.contains("\u{1b}[31mfinished\u{1b}[0m failed"), "{last:?}");
    }

    #[test]
    fn an_event_of_a_newer_program_is_named() {
        let raw = br#"{"type":"levitated"}"#;
        let mut event = samples::failed_job_events().remove(0);
        event.event = None;
        let text = event_line(
            raw,
            &event,
            RenderOptions { shows_job_name: true, is_nested_step: false },
            &samples::view(0),
        );
        assert_eq!(text, "abe#1 levitated (event of a newer version)");
    }
}
