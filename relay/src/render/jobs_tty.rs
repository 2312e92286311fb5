//! Several jobs on a terminal, for people: one line each if the width allows, else two.
//!
//! ```text
//! ● running    abe#2  install: npm ci  ███░░░░░░░ 1m03s/10m  fix the tests     wide
//!
//! ● abe#2 running 1m11s                                                        narrow
//!   install 1m03s/10m ███░░░░░ npm ci
//! ```

use common::duration;
use common::record::{JobRecord, State};

use super::health::{self, Running, Word};
use super::{Relay, View, status, width};
use crate::registry::lease::PlatformStatus;
use crate::times::{ago, between};
use crate::{failure_text, machine_text, plural};

/// Width below which a job takes two lines, in columns.
const NARROW_WIDTH: usize = 72;
/// Width of the bar, of the widest time beside it, and of the longest state with its mark, in columns.
const BAR_WIDTH: usize = 10;
const TIME_WIDTH: usize = 13;
const STATE_WIDTH: usize = 11;
/// Maximum width of a job's id beside other columns; longer ones are cut.
const JOB_WIDTH: usize = 24;

/// Builds the list of these jobs for a terminal of `columns`.
pub fn render(records: &[JobRecord], view: &View, columns: usize) -> String {
    let mut lines = vec![view.paint.dim(&width::fit(&headline(records, view), columns))];
    let job = records.iter().map(|record| width::of(&record.job.to_string())).max().unwrap_or(0);
    let job = job.min(JOB_WIDTH).min(columns / 5);
    for record in records {
        if columns < NARROW_WIDTH {
            lines.extend(narrow(record, view, columns));
        } else {
            lines.push(wide(record, view, columns, job));
        }
    }
    lines.join("\n") + "\n"
}

/// `relay ready, 4 jobs at once · 2 running · 1 queued · load 0.52 on 4 cores, 2.1 of 7.8 GiB memory free, 31 GiB disk
/// free`
pub fn headline(records: &[JobRecord], view: &View) -> String {
    let mut parts = vec![match &view.relay {
        Relay::Down => "no relay is running (`relay up`)".to_owned(),
        Relay::Silent { for_ms, .. } => format!("relay silent for {}", duration::short(*for_ms)),
        Relay::Up(PlatformStatus::Ready { max_jobs, agents, .. }) => match agents {
            1 => format!("relay ready, {}", plural::at_once(*max_jobs)),
            agents => format!("relay ready, {agents} agents"),
        },
        Relay::Up(PlatformStatus::Starting { detail }) => format!("platform is starting: {detail}"),
        Relay::Up(PlatformStatus::Failed { detail }) => format!("platform can't be started: {detail}"),
        Relay::Up(PlatformStatus::Stopped) => "platform stopped (`relay up`)".to_owned(),
    }];
    for state in [State::Starting, State::Running, State::Stopping, State::Queued] {
        let count = records.iter().filter(|record| record.state == state).count();
        if count > 0 {
            parts.push(format!("{count} {}", state.as_str()));
        }
    }
    if let Relay::Up(PlatformStatus::Ready { vitals: Some(vitals), .. }) = &view.relay {
        parts.push(machine_text::brief(vitals));
    }
    parts.join(" · ")
}

/// Mark of a state, in front of its name.
pub fn mark(state: State) -> &'static str {
    match state {
        State::Queued => "○",
        State::Starting | State::Running => "●",
        State::Stopping => "◐",
        State::Completed => "✓",
        State::Failed => "✗",
        State::Cancelled => "■",
    }
}

fn wide(record: &JobRecord, view: &View, columns: usize, job: usize) -> String {
    let health = health::health(record, view);
    let near = gauge(record, view, health.word);
    let fixed = STATE_WIDTH + 2 + job + 2 + 2 + BAR_WIDTH + 1 + TIME_WIDTH + 2;
    let flexible = columns.saturating_sub(fixed);
    let doing = flexible * 3 / 5;
    let paint = view.paint;
    let state = width::pad(&format!("{} {}", mark(record.state), record.state.as_str()), STATE_WIDTH);
    let doing_now = doing_now(record, view, health.word);
    let brush = |text: &str| {
        if attention(record, health.word) {
            paint.health_or_state(record, health.word, text)
        } else {
            text.to_owned()
        }
    };
    // Text may take the place of a missing bar.
    let doing = match near {
        Some(near) => {
            let bar = width::bar(near.spent_ms, near.limit_ms, BAR_WIDTH);
            let words = brush(&width::pad(&doing_now, doing));
            format!("{words}  {}", paint.health(health.word, &bar))
        }
        None => brush(&width::pad(&doing_now, doing + 2 + BAR_WIDTH)),
    };
    let line = format!(
        "{}  {}  {doing} {:>TIME_WIDTH$}  {}",
        paint.state(record.state, &state),
        paint.bold(&width::pad(&record.job.to_string(), job)),
        time(record, view, near),
        paint.dim(&width::fit(&record.prompt_summary, flexible - flexible * 3 / 5)),
    );
    line.trim_end().to_owned()
}

fn narrow(record: &JobRecord, view: &View, columns: usize) -> [String; 2] {
    let health = health::health(record, view);
    let near = gauge(record, view, health.word);
    let (paint, state) = (view.paint, record.state);
    let elapsed = duration::short(status::elapsed(record, view));
    let rest = format!(" {} {elapsed}", state.as_str());
    let job = width::fit(&record.job.to_string(), columns.saturating_sub(2 + width::of(&rest)));
    let first =
        format!("{} {}{}", paint.state(state, mark(state)), paint.bold(&job), paint.state(state, &rest));
    let (mut second, mut room) = ("  ".to_owned(), columns.saturating_sub(2));
    if let Some(near) = near {
        let lead = format!("{} {} ", near.kind, time(record, view, Some(near)));
        second += &lead;
        second += &paint.health(health.word, &width::bar(near.spent_ms, near.limit_ms, BAR_WIDTH));
        second.push(' ');
        room = room.saturating_sub(width::of(&lead) + BAR_WIDTH + 1);
        second += &width::fit(record.step.as_ref().map_or("", |step| &step.title), room);
    } else {
        second += &width::fit(&doing_now(record, view, health.word), room);
    }
    [first, second.trim_end().to_owned()]
}

/// Step whose limit is shown as a bar; `None` without current information.
pub fn gauge(record: &JobRecord, view: &View, word: Word) -> Option<Running> {
    let known = matches!(word, Word::Healthy | Word::Slow | Word::Quiet | Word::Over);
    health::nearest(record, view.now).filter(|_| known)
}

/// `1m03s/10m`, or the duration of the job.
pub fn time(record: &JobRecord, view: &View, near: Option<Running>) -> String {
    match near {
        Some(near) => format!("{}/{}", duration::short(near.spent_ms), duration::limit(near.limit_ms)),
        None => duration::short(status::elapsed(record, view)),
    }
}

/// Current activity of a job, or its outcome.
pub fn doing_now(record: &JobRecord, view: &View, word: Word) -> String {
    let when = || ago(record.finished_at.unwrap_or(record.last_event_at), view.now);
    match (word, &record.step) {
        (Word::Ended, _) => match failure_text::failure_kind(record) {
            kind if !kind.is_empty() => format!("{}: {kind}", when()),
            _ => match record.warnings.count_text().filter(|_| record.state == State::Completed) {
                Some(warnings) => format!("{}: {warnings}", when()),
                None => when(),
            },
        },
        (Word::Stale, _) => format!("stale: last heard of {}", when()),
        (Word::Queued, _) => match between(record.created_at, view.now) {
            0..1000 => "waits".to_owned(),
            _ => health::health(record, view).rest,
        },
        (Word::Quiet, Some(step)) => format!("quiet: {}: {}", step.kind, step.title),
        (_, Some(step)) => format!("{}: {}", step.kind, step.title),
        (word, None) => word.as_str().to_owned(),
    }
}

fn attention(record: &JobRecord, word: Word) -> bool {
    record.state == State::Failed || matches!(word, Word::Quiet | Word::Over | Word::Stale)
}

#[cfg(test)]
mod tests {
    use common::vitals::MachineVitals;

    use super::super::{Paint, samples};
    use super::*;

    fn all() -> Vec<JobRecord> {
        let mut long = samples::running();
        long.job = "a-very-long-name-of-a-job-that-goes-on#12".parse().unwrap_or(long.job);
        long.prompt_summary = "修复测试 and everything else that is broken in this repository".into();
        let records = [samples::supervised(), samples::link_lost(), samples::queued()];
        let ended = [samples::completed(), samples::warned(), samples::failed(), samples::cancelled()];
        std::iter::once(long).chain(records).chain(ended).collect()
    }

    fn show(columns: usize) -> String {
        let mut view = samples::view(190);
        view.columns = Some(columns);
        render(&all(), &view, columns)
    }

    #[test]
    fn the_head_line_ends_with_the_vitals_of_the_machine() {
        let mut view = samples::view(73);
        let Relay::Up(PlatformStatus::Ready { vitals, .. }) = &mut view.relay else { panic!("{view:?}") };
        *vitals = Some(Box::new(MachineVitals { cores: 4, load_milli: 520, ..MachineVitals::default() }));
        let expected = "relay ready, 4 jobs at once · 1 running · load 0.52 on 4 cores";
        assert_eq!(headline(&[samples::running()], &view), expected);
    }

    #[test]
    fn a_line_each_where_there_is_room() {
        insta::assert_snapshot!(show(100), @r#"
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
    fn two_lines_each_on_a_narrow_terminal() {
        insta::assert_snapshot!(show(40), @r#"
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
        let mut records = all();
        records.push(samples::hostile());
        for columns in 20..240 {
            let mut view = samples::view(190);
            view.columns = Some(columns);
            for relay in [view.relay.clone(), Relay::Down] {
                view.relay = relay;
                let text = render(&records, &view, columns);
                assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
                let widest = text.lines().map(width::of).max();
                assert!(widest <= Some(columns.max(34)), "{widest:?} of {columns}:\n{text}");
            }
        }
    }

    #[test]
    fn colour_comes_with_a_word_that_says_the_same() {
        let mut view = samples::view(190);
        view.paint = Paint::new(true);
        let text = render(&[samples::failed()], &view, 100);
        assert!(text.contains("\u{1b}[31m✗ failed   \u{1b}[0m"), "{text:?}");
    }
}
