//! Tests that draw the screen in every relevant state, on terminals of several sizes.

use common::record::{JobRecord, State};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::draw::draw;
use super::keys::Action;
use super::model::tests::{self as model_tests, with_job_id};
use super::model::{Model, Pane, Update};
use crate::render::{Paint, RelayState, samples, width};

fn sample_update() -> Update {
    let update = model_tests::sample_update();
    let [abe2, bea, cid, abe1] = <[JobRecord; 4]>::try_from(update.records).unwrap();
    let (dan, eva) = (
        with_job_id(samples::lost_link_record(), "dan#3"),
        with_job_id(samples::completed_record(), "eva#7"),
    );
    let newest_log_lines = vec!["npm warn deprecated".into(), "added 12 packages".into()];
    Update { records: vec![abe2, bea, dan, cid, abe1, eva], newest_log_lines, ..update }
}

fn screen_text(model: &Model, columns: u16, rows: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(model, frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..rows).map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_ordinary_terminal_shows_the_list_and_the_details_of_one_job() {
    insta::assert_snapshot!(screen_text(&Model::new(sample_update()), 80, 24), @r#"
    relay ready, 4 jobs at once · 3 running · 1 queued                      03:06:45
      STATE        JOB    STEP                                   TIME  TASK
    ▸ ● running    abe#2  install: npm ci    ██░░░░░░░░     2m30s/10m  fix the tests
      ● running    bea#1  quiet: install: n… █░░░░░░░░░     2m28s/20m  fix the tests
      ● running    dan#3  stale: last heard of 2m ago           2m39s  fix the tests
      ○ queued     cid#1  next in line (4 of 4 slots b…         2m40s  fix the tests
      ✗ failed     abe#1  just now: step_timeout               10m10s  fix the tests
      ✓ completed  eva#7  just now                             10m10s  fix the tests
     abe#2 details ─────────────────────────────────────────────────────────────────
    abe#2 running for 2m39s
    task       fix the tests
    workspace  /home/u/work/abe (engine docker, isolation: container)
    times      launched 03:04:05, started 03:04:06, last event 03:04:15 (2m ago)
    link       connected
    step       3 install 2m30s of 10m: npm ci
               ██████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
    health     healthy: install 2m30s of 10m; next event expected within 8m
    steps      ✓ 1 start 0.9s ok: codex
               ✓ 2 clone 5.0s ok: git clone https://example.org/abe
    plan       1 of 2 done, next: fix
    said       The clone is there.
               Now the packages.
    thread     0199-t
    q quit  ? help  ↑↓ select  enter details  l log  e events  c cancel  x +10m
    "#);
}

#[test]
fn a_wide_terminal_shows_resources_last_message_and_details_beside_the_list() {
    insta::assert_snapshot!(screen_text(&Model::new(sample_update()), 300, 20), @r#"
    relay ready, 4 jobs at once · 3 running · 1 queued                                                                                                                                                                                                                                                  03:06:45
      STATE        JOB    STEP                                                      TIME  USED                 TASK                      SAID                            ┌ abe#2 details ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    ▸ ● running    abe#2  install: npm ci                       ██░░░░░░░░     2m30s/10m                       fix the tests             The clone is there.             │abe#2 running for 2m39s
      ● running    bea#1  quiet: install: npm ci                █░░░░░░░░░     2m28s/20m                       fix the tests                                             │task       fix the tests
      ● running    dan#3  stale: last heard of 2m ago                              2m39s                       fix the tests             The clone is there.             │workspace  /home/u/work/abe (engine docker, isolation: container)
      ○ queued     cid#1  next in line (4 of 4 slots busy)                         2m40s                       fix the tests                                             │times      launched 03:04:05, started 03:04:06, last event 03:04:15 (2m ago)
      ✗ failed     abe#1  just now: step_timeout                                  10m10s                       fix the tests             The clone is there.             │link       connected
      ✓ completed  eva#7  just now                                                10m10s                       fix the tests             The clone is there.             │step       3 install 2m30s of 10m: npm ci
                                                                                                                                                                         │           ██████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
                                                                                                                                                                         │health     healthy: install 2m30s of 10m; next event expected within 8m
                                                                                                                                                                         │steps      ✓ 1 start 0.9s ok: codex
                                                                                                                                                                         │           ✓ 2 clone 5.0s ok: git clone https://example.org/abe
                                                                                                                                                                         │plan       1 of 2 done, next: fix
                                                                                                                                                                         │said       The clone is there.
                                                                                                                                                                         │           Now the packages.
                                                                                                                                                                         │thread     0199-t
                                                                                                                                                                         │log        /r/abe.1.log
                                                                                                                                                                         │────────────────────────────────────────
                                                                                                                                                                         │added 12 packages
    q quit  ? help  ↑↓ select  enter details  l log  e events  c cancel  x +10m  / filter
    "#);
}

#[test]
fn a_list_that_does_not_fit_scrolls_and_says_how_many_jobs_are_hidden() {
    let mut update = sample_update();
    update.records = (1..=12).map(|n| with_job_id(samples::running_record(), &format!("abe#{n}"))).collect();
    let mut model = Model::new(update);
    let line = |model: &Model| {
        screen_text(model, 80, 24).lines().find(|line| line.contains(" more ")).map(str::to_owned)
    };
    assert_eq!(line(&model).as_deref(), Some("  7 more below"));
    (0..8).for_each(|_| drop(model.apply(Action::Move(1))));
    assert_eq!(line(&model).as_deref(), Some("  4 more above, 3 more below"));
    (0..3).for_each(|_| drop(model.apply(Action::Move(1))));
    assert_eq!(line(&model).as_deref(), Some("  7 more above"));
    let last = screen_text(&model, 80, 24).lines().last().unwrap().to_owned();
    assert_eq!(last, "q quit  ? help  ↑↓ select  enter details  l log  e events  c cancel  x +10m");
}

#[test]
fn an_empty_list_says_how_to_launch_a_job() {
    let mut update = sample_update();
    update.records.clear();
    let shown = screen_text(&Model::new(update), 80, 24);
    assert!(shown.contains("no jobs yet: `relay launch -w DIR \"task\"` starts one"), "{shown}");
}

#[test]
fn a_list_on_a_large_screen_uses_its_whole_width() {
    let shown = screen_text(&Model::new(sample_update()), 200, 60);
    let header = shown.lines().nth(1).unwrap();
    assert!(header.contains("SAID") && width::display_width(header) > 140, "{header}");
}

#[test]
fn a_failed_job_shows_its_error_and_what_to_try() {
    let mut update = sample_update();
    update.advice = vec!["a cache or a nearer mirror makes it faster".into()];
    let mut model = Model::new(update);
    (0..4).for_each(|_| drop(model.apply(Action::Move(1))));
    insta::assert_snapshot!(screen_text(&model, 80, 30), @r#"
    relay ready, 4 jobs at once · 3 running · 1 queued                      03:06:45
      STATE        JOB    STEP                                   TIME  TASK
      ● running    abe#2  install: npm ci    ██░░░░░░░░     2m30s/10m  fix the tests
      ● running    bea#1  quiet: install: n… █░░░░░░░░░     2m28s/20m  fix the tests
      ● running    dan#3  stale: last heard of 2m ago           2m39s  fix the tests
      ○ queued     cid#1  next in line (4 of 4 slots b…         2m40s  fix the tests
    ▸ ✗ failed     abe#1  just now: step_timeout               10m10s  fix the tests
      ✓ completed  eva#7  just now                             10m10s  fix the tests
     abe#1 details ─────────────────────────────────────────────────────────────────
    abe#1 failed after 10m10s (just now)
    task       fix the tests
    workspace  /home/u/work/abe (engine docker, isolation: container)
    times      launched 03:04:05, started 03:04:06, ended 03:14:16
    steps      ✓ 1 start 0.9s ok: codex
               ✓ 2 clone 5.0s ok: git clone https://example.org/abe
               ■ 3 install 10m00s killed: npm ci
    plan       1 of 2 done, next: fix
    said       The clone is there.
               Now the packages.
    error      step_timeout in step 3: install `npm ci` ran for 10m, its limit:
               raise it with --step-timeout install=20m
    next       `relay explain abe#1`
    usage      1200 tokens in (0 cached), 50 out (0 reasoning)
    changes    3 files (+10 -2)
    thread     0199-t
    cleanup    2 processes killed, 0 left
    log        /r/abe.1.log
    try        a cache or a nearer mirror makes it faster

    q quit  ? help  ↑↓ select  enter details  l log  e events  c cancel  x +10m
    "#);
}

#[test]
fn questions_filters_and_notes_appear_in_the_last_line() {
    let mut model = Model::new(sample_update());
    let last = |model: &Model| screen_text(model, 80, 24).lines().last().unwrap_or_default().to_owned();
    model.apply(Action::Cancel);
    let mut last_lines = vec![last(&model)];
    model.apply(Action::Back);
    last_lines.push(last(&model));
    model.apply(Action::Filter);
    model.apply(Action::Type('b'));
    last_lines.push(last(&model));
    model.apply(Action::Accept);
    last_lines.push(last(&model));
    insta::assert_snapshot!(last_lines.join("\n"), @r#"
    cancel abe#2 and everything it started? y/n
    abe#2 goes on
    /b▏ enter: keep, esc: all
    only jobs with 'b' (esc: all)  q quit  ? help
    "#);
}

#[test]
fn the_log_replaces_the_details_and_scrolls() {
    let mut model = Model::new(sample_update());
    model.update.newest_log_lines = (0..50).map(|n| format!("line {n}")).collect();
    model.apply(Action::Log);
    let end = screen_text(&model, 60, 16);
    model.apply(Action::Scroll(-10));
    let scrolled = screen_text(&model, 60, 16);
    let shown = |text: &str| {
        text.lines().filter(|line| line.starts_with("line ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(shown(&end).last().map(String::as_str), Some("line 49"));
    assert_eq!(shown(&scrolled).last().map(String::as_str), Some("line 39"));
    model.apply(Action::Scroll(-1000));
    assert_eq!(shown(&screen_text(&model, 60, 16)).first().map(String::as_str), Some("line 0"));
}

#[test]
fn the_help_lists_the_main_keys() {
    let mut model = Model::new(sample_update());
    model.apply(Action::Help);
    insta::assert_snapshot!(screen_text(&model, 64, 14), @r#"
    relay ready, 4 jobs at once · 3 running · 1 queued      03:06:45
      ┌ keys ────────────────────────────────────────────────────┐
    ▸ │ ↑ ↓ j k    select a job (Home End: first, last)          │h…
      │ enter      details on and off                            │h…
      │ l  e       its log, its events                           │h…
      │ PgUp PgDn  scroll the details or the log                 │h…
      │ c          cancel the job (asks first)                   │h…
      │ x          10m more for its step, or for the job         │h…
      │ /          list only matching jobs (esc: all)            │
      │ ctrl-l     redraw the screen                             │
      │ q          quit; ctrl-z: back to the shell, fg returns   │
      └──────────────────────────────────────────────────────────┘

    q quit  ? help  ↑↓ select  enter details  l log  e events
    "#);
}

#[test]
fn without_jobs_or_a_relay_the_screen_says_what_to_do() {
    let mut update = sample_update();
    update.records.clear();
    update.view.relay = RelayState::Down;
    insta::assert_snapshot!(screen_text(&Model::new(update), 60, 6), @r#"
    no relay is running (`relay up`)                    03:06:45
      STATE        JOB  STEP                        TIME  TASK
      no jobs yet: `relay launch -w DIR "task"` starts one


    q quit  ? help  ↑↓ select  enter details  l log  e events
    "#);
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    assert_eq!(screen_text(&Model::new(sample_update()), 28, 2), "relay top needs 30x6\n");
}

#[test]
fn no_size_no_state_and_no_text_of_a_worker_breaks_the_screen() {
    let mut update = sample_update();
    for state in [State::Running, State::Failed] {
        let mut record = samples::hostile_record();
        record.state = state;
        update.records.insert(0, record);
    }
    update.newest_log_lines = vec!["a\u{301}日本".repeat(100)];
    let mut model = Model::new(update);
    for pane in [Pane::Status, Pane::Log, Pane::Events, Pane::Closed] {
        model.pane = pane;
        for (columns, rows) in [(1, 1), (30, 6), (31, 7), (79, 14), (80, 24), (121, 30), (181, 60)] {
            let text = screen_text(&model, columns, rows);
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'));
            assert!(text.split('\n').count() == usize::from(rows), "{text}");
        }
    }
}

#[test]
fn without_color_every_state_is_shown_as_a_word() {
    let mut model = Model::new(sample_update());
    let plain = screen_text(&model, 100, 24);
    model.update.view.paint = Paint::new(true);
    assert_eq!(screen_text(&model, 100, 24), plain);
    for word in ["running", "queued", "failed", "completed", "stale", "quiet"] {
        assert!(plain.contains(word), "{word}: {plain}");
    }
    assert!(plain.lines().all(|line| width::display_width(line) <= 100));
}
