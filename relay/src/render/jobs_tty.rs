//! List of several jobs on a terminal, for people: one line each if the width allows, else two.
//!
//! ```text
//! ● running    abe#2  install: npm ci  ███░░░░░░░ 1m03s/10m  fix the tests     wide
//!
//! ● abe#2 running 1m11s                                                        narrow
//!   install 1m03s/10m ███░░░░░ npm ci
//! ```

use common::duration;
use common::record::{JobRecord, State};

use super::health::{self, HealthWord, RunningStep};
use super::hold_text::{hold_of_jobs, hold_text};
use super::{RelayState, View, status, width};
use crate::registry::lease::PlatformStatus;
use crate::times::{format_ago, millis_between};
use crate::{failure_text, machine_text, plural};

/// Width below which a job takes two lines, in columns.
const NARROW_WIDTH: usize = 72;
/// Width of the bar that shows the used part of the limit, in columns.
const BAR_WIDTH: usize = 10;
/// Width of the longest time beside the bar, in columns.
const TIME_WIDTH: usize = 13;
/// Width of the longest state with its mark, in columns.
const STATE_WIDTH: usize = 11;
/// Maximum width of a job's id beside other columns, in columns; longer ids are truncated.
const MAX_JOB_WIDTH: usize = 24;

/// Builds the list of these jobs for a terminal that is `columns` wide.
pub fn render_list(records: &[JobRecord], view: &View, columns: usize) -> String {
    let mut lines = vec![view.paint.dim(&width::fit(&format_headline(records, view), columns))];
    let widest_id =
        records.iter().map(|record| width::display_width(&record.job.to_string())).max().unwrap_or(0);
    let job_width = widest_id.min(MAX_JOB_WIDTH).min(columns / 5);
    for record in records {
        if columns < NARROW_WIDTH {
            lines.extend(narrow_rows(record, view, columns));
        } else {
            lines.push(wide_row(record, view, columns, job_width));
        }
    }
    lines.join("\n") + "\n"
}

/// Formats the headline: `relay ready, 4 jobs at once · 2 running · 1 queued · load 0.52 on 4 cores, 2.1 of 7.8 GiB
/// memory free, 31 GiB disk free`.
pub fn format_headline(records: &[JobRecord], view: &View) -> String {
    let mut parts = vec![match &view.relay {
        RelayState::Down => "no relay is running (`relay up`)".to_owned(),
        RelayState::Silent { for_ms, .. } => {
            format!("relay silent for {}", duration::format_duration(*for_ms))
        }
        RelayState::Up(PlatformStatus::Ready { max_jobs, agents, .. }) => match agents {
            1 => format!("relay ready, {}", plural::format_capacity(*max_jobs)),
            agents => format!("relay ready, {agents} agents"),
        },
        RelayState::Up(PlatformStatus::Starting { detail }) => format!("platform is starting: {detail}"),
        RelayState::Up(PlatformStatus::Failed { detail }) => format!("platform can't be started: {detail}"),
        RelayState::Up(PlatformStatus::Stopped) => "platform stopped (`relay up`)".to_owned(),
    }];
    for state in [State::Starting, State::Running, State::Stopping, State::Queued] {
        let count = records.iter().filter(|record| record.state == state).count();
        if count > 0 {
            parts.push(format!("{count} {}", state.as_str()));
        }
    }
    parts.extend(hold_of_jobs(records).map(|hold| hold_text(hold, view)));
    if let RelayState::Up(PlatformStatus::Ready { vitals: Some(vitals), .. }) = &view.relay {
        parts.push(machine_text::short_text(vitals));
    }
    parts.join(" · ")
}

/// Returns the mark that is shown in front of the name of a state.
pub fn state_mark(state: State) -> &'static str {
    match state {
        State::Queued => "○",
        State::Starting | State::Running => "●",
        State::Stopping => "◐",
        State::Completed => "✓",
        State::Failed => "✗",
        State::Cancelled => "■",
    }
}

fn wide_row(record: &JobRecord, view: &View, columns: usize, job_width: usize) -> String {
    let health = health::health(record, view);
    let bar_step = step_for_bar(record, view, health.word);
    let fixed = STATE_WIDTH + 2 + job_width + 2 + 2 + BAR_WIDTH + 1 + TIME_WIDTH + 2;
    let flexible = columns.saturating_sub(fixed);
    let activity_width = flexible * 3 / 5;
    let paint = view.paint;
    let state = width::pad(&format!("{} {}", state_mark(record.state), record.state.as_str()), STATE_WIDTH);
    let activity = current_activity(record, view, health.word);
    let style = |text: &str| {
        if needs_attention(record, health.word) {
            paint.health_or_state(record, health.word, text)
        } else {
            text.to_owned()
        }
    };
    // The activity may fill the space of a missing bar.
    let activity_and_bar = match bar_step {
        Some(bar_step) => {
            let bar = width::bar(bar_step.elapsed_ms, bar_step.limit_ms, BAR_WIDTH);
            let activity = style(&width::pad(&activity, activity_width));
            format!("{activity}  {}", paint.job_health(health.word, &bar))
        }
        None => style(&width::pad(&activity, activity_width + 2 + BAR_WIDTH)),
    };
    let line = format!(
        "{}  {}  {activity_and_bar} {:>TIME_WIDTH$}  {}",
        paint.state(record.state, &state),
        paint.bold(&width::pad(&record.job.to_string(), job_width)),
        time_text(record, view, bar_step),
        paint.dim(&width::fit(&record.prompt_summary, flexible - flexible * 3 / 5)),
    );
    line.trim_end().to_owned()
}

fn narrow_rows(record: &JobRecord, view: &View, columns: usize) -> [String; 2] {
    let health = health::health(record, view);
    let bar_step = step_for_bar(record, view, health.word);
    let (paint, state) = (view.paint, record.state);
    let elapsed = duration::format_duration(status::elapsed_ms(record, view));
    let state_text = format!(" {} {elapsed}", state.as_str());
    let job =
        width::fit(&record.job.to_string(), columns.saturating_sub(2 + width::display_width(&state_text)));
    let first_line = format!(
        "{} {}{}",
        paint.state(state, state_mark(state)),
        paint.bold(&job),
        paint.state(state, &state_text)
    );
    let (mut second_line, mut columns_left) = ("  ".to_owned(), columns.saturating_sub(2));
    if let Some(bar_step) = bar_step {
        let kind_and_time = format!("{} {} ", bar_step.kind, time_text(record, view, Some(bar_step)));
        second_line += &kind_and_time;
        second_line +=
            &paint.job_health(health.word, &width::bar(bar_step.elapsed_ms, bar_step.limit_ms, BAR_WIDTH));
        second_line.push(' ');
        columns_left = columns_left.saturating_sub(width::display_width(&kind_and_time) + BAR_WIDTH + 1);
        second_line += &width::fit(record.step.as_ref().map_or("", |step| &step.title), columns_left);
    } else {
        second_line += &width::fit(&current_activity(record, view, health.word), columns_left);
    }
    [first_line, second_line.trim_end().to_owned()]
}

/// Returns the step whose limit is shown as a bar; `None` without current information.
pub fn step_for_bar(record: &JobRecord, view: &View, word: HealthWord) -> Option<RunningStep> {
    let is_current =
        matches!(word, HealthWord::Healthy | HealthWord::Slow | HealthWord::Quiet | HealthWord::Over);
    health::step_with_nearest_limit(record, view.now).filter(|_| is_current)
}

/// Formats the time and the limit of a step, `1m03s/10m`, or the duration of the job.
pub fn time_text(record: &JobRecord, view: &View, running_step: Option<RunningStep>) -> String {
    match running_step {
        Some(bar_step) => format!(
            "{}/{}",
            duration::format_duration(bar_step.elapsed_ms),
            duration::format_limit(bar_step.limit_ms)
        ),
        None => duration::format_duration(status::elapsed_ms(record, view)),
    }
}

/// Returns the current activity of a job, or its outcome.
pub fn current_activity(record: &JobRecord, view: &View, word: HealthWord) -> String {
    let when = || format_ago(record.finished_at.unwrap_or(record.last_event_at), view.now);
    match (word, &record.step) {
        (HealthWord::Ended, _) => match failure_text::failure_kind(record) {
            kind if !kind.is_empty() => format!("{}: {kind}", when()),
            _ => match record.warnings.count_text().filter(|_| record.state == State::Completed) {
                Some(warnings) => format!("{}: {warnings}", when()),
                None => when(),
            },
        },
        (HealthWord::Stale, _) => format!("stale: last heard of {}", when()),
        (HealthWord::Queued, _) => match millis_between(record.created_at, view.now) {
            0..1000 => "waits".to_owned(),
            _ => health::health(record, view).explanation,
        },
        (HealthWord::Held, _) => record.held.as_ref().map(|hold| hold_text(hold, view)).unwrap_or_default(),
        (HealthWord::Quiet, Some(step)) => format!("quiet: {}: {}", step.kind, step.title),
        (_, Some(step)) => format!("{}: {}", step.kind, step.title),
        (word, None) => word.as_str().to_owned(),
    }
}

fn needs_attention(record: &JobRecord, word: HealthWord) -> bool {
    record.state == State::Failed || matches!(word, HealthWord::Quiet | HealthWord::Over | HealthWord::Stale)
}

#[cfg(test)]
mod tests {
    use common::vitals::MachineVitals;

    use super::super::{Paint, samples};
    use super::*;

    fn sample_records() -> Vec<JobRecord> {
        let mut with_long_texts = samples::running_record();
        with_long_texts.job =
            "a-very-long-name-of-a-job-that-goes-on#12".parse().unwrap_or(with_long_texts.job);
        with_long_texts.prompt_summary =
            "修复测试 and everything else that is broken in this repository".into();
        let records = [samples::stalling_record(), samples::lost_link_record(), samples::queued_record()];
        let ended = [
            samples::completed_record(),
            samples::record_with_warnings(),
            samples::failed_record(),
            samples::cancelled_record(),
        ];
        std::iter::once(with_long_texts).chain(records).chain(ended).collect()
    }

    fn list_text(columns: usize) -> String {
        let mut view = samples::view(190);
        view.columns = Some(columns);
        render_list(&sample_records(), &view, columns)
    }

    #[test]
    fn the_head_line_ends_with_the_vitals_of_the_machine() {
        let mut view = samples::view(73);
        let RelayState::Up(PlatformStatus::Ready { vitals, .. }) = &mut view.relay else {
            panic!("{view:?}")
        };
        *vitals = Some(Box::new(MachineVitals { cores: 4, load_milli: 520, ..MachineVitals::default() }));
        let expected = "relay ready, 4 jobs at once · 1 running · load 0.52 on 4 cores";
        assert_eq!(format_headline(&[samples::running_record()], &view), expected);
    }

    #[test]
    fn each_job_has_one_line_on_a_wide_terminal() {
        insta::assert_snapshot!(list_text(100), @r#"
        relay ready, 4 jobs at once · 3 running · 1 queued
        ● running    a-very-long-name-of…  install: npm ci         ███░░░░░░░     3m00s/10m  修复测试 and e…
        ● running    abe#1                 quiet: install: npm ci  █░░░░░░░░░     2m58s/20m  fix the tests
        ● running    abe#1                 stale: last heard of 2m ago                3m09s  fix the tests
        ○ queued     abe#1                 next in line (4 of 4 slots busy)           3m10s  fix the tests
        ✓ completed  abe#1                 just now                                  10m10s  fix the tests
        ✓ completed  abe#1                 just now: 4 warnings                      10m10s  fix the tests
        ✗ failed     abe#1                 just now: step_timeout                    10m10s  fix the tests
        ■ cancelled  abe#1                 just now                                  10m10s  fix the tests
        "#);
    }

    #[test]
    fn each_job_has_two_lines_on_a_narrow_terminal() {
        insta::assert_snapshot!(list_text(40), @r#"
        relay ready, 4 jobs at once · 3 running…
        ● a-very-long-name-of-a-j… running 3m09s
          install 3m00s/10m ███░░░░░░░ npm ci
        ● abe#1 running 3m09s
          build 2m58s/20m █░░░░░░░░░ npm ci
        ● abe#1 running 3m09s
          stale: last heard of 2m ago
        ○ abe#1 queued 3m10s
          next in line (4 of 4 slots busy)
        ✓ abe#1 completed 10m10s
          just now
        ✓ abe#1 completed 10m10s
          just now: 4 warnings
        ✗ abe#1 failed 10m10s
          just now: step_timeout
        ■ abe#1 cancelled 10m10s
          just now
        "#);
    }

    #[test]
    fn no_line_is_wider_than_its_terminal_whatever_a_record_holds() {
        let mut records = sample_records();
        records.push(samples::hostile_record());
        for columns in 20..240 {
            let mut view = samples::view(190);
            view.columns = Some(columns);
            for relay in [view.relay.clone(), RelayState::Down] {
                view.relay = relay;
                let text = render_list(&records, &view, columns);
                assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
                let widest = text.lines().map(width::display_width).max();
                assert!(widest <= Some(columns.max(34)), "{widest:?} of {columns}:\n{text}");
            }
        }
    }

    #[test]
    fn color_comes_with_a_word_of_the_same_meaning() {
        let mut view = samples::view(190);
        view.paint = Paint::new(true);
        let text = render_list(&[samples::failed_record()], &view, 100);
        assert!(text.contains("\u{1b}[31m✗ failed   \u{1b}[0m"), "{text:?}");
    }
}
