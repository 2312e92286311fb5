//! Effect of keys and news on the screen.

use super::*;
use crate::render::samples;

pub(in crate::top) fn named(mut record: JobRecord, job: &str) -> JobRecord {
    record.job = job.parse().unwrap();
    record
}

pub(in crate::top) fn update() -> Update {
    Update {
        records: vec![
            named(samples::running(), "abe#2"),
            named(samples::supervised(), "bea#1"),
            named(samples::queued(), "cid#1"),
            named(samples::failed(), "abe#1"),
        ],
        view: samples::view(160),
        tail: Vec::new(),
        advice: Vec::new(),
        error: None,
    }
}

fn selected(model: &Model) -> String {
    model.selected.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn the_selection_follows_its_job_and_stays_inside_the_list() {
    let mut model = Model::new(update());
    assert_eq!(selected(&model), "abe#2");
    for (action, expected) in [
        (Action::Move(-1), "abe#2"),
        (Action::Move(1), "bea#1"),
        (Action::Last, "abe#1"),
        (Action::Move(7), "abe#1"),
        (Action::Move(-2), "bea#1"),
    ] {
        assert_eq!(model.apply(action), Some(Effect::Reload));
        assert_eq!(selected(&model), expected, "{action:?}");
    }
    let mut later = update();
    later.records.reverse();
    model.update(later.clone());
    assert_eq!(selected(&model), "bea#1");
    later.records.retain(|record| record.job.to_string() != "bea#1");
    model.update(later);
    assert_eq!(selected(&model), "abe#1");
}

#[test]
fn a_job_is_ended_by_yes_alone() {
    let mut model = Model::new(update());
    assert_eq!(model.apply(Action::Cancel), None);
    assert_eq!(model.mode, Mode::Confirm("abe#2".parse().unwrap()));
    assert_eq!(model.apply(Action::Back), None);
    assert_eq!((model.mode.clone(), model.note.as_deref()), (Mode::Browse, Some("abe#2 goes on")));
    assert_eq!(model.apply(Action::Yes), None);
    model.apply(Action::Cancel);
    assert_eq!(model.apply(Action::Yes), Some(Effect::Cancel("abe#2".parse().unwrap())));
    assert_eq!(model.mode, Mode::Browse);
}

#[test]
fn the_question_is_about_the_job_it_was_asked_for_whatever_the_list_does_meanwhile() {
    let mut model = Model::new(update());
    model.apply(Action::Cancel);
    let mut later = update();
    later.records.remove(0);
    model.update(later);
    assert_eq!(model.apply(Action::Yes), Some(Effect::Cancel("abe#2".parse().unwrap())));
}

#[test]
fn what_has_ended_is_neither_cancelled_nor_extended() {
    let mut model = Model::new(update());
    model.apply(Action::Last);
    for action in [Action::Cancel, Action::Extend] {
        assert_eq!(model.apply(action), None);
        assert_eq!((&model.mode, model.note.as_deref()), (&Mode::Browse, Some("abe#1 has ended: failed")));
    }
}

#[test]
fn more_time_is_for_the_step_where_it_has_a_limit_and_else_for_the_job() {
    let mut model = Model::new(update());
    let job = || "abe#2".parse().unwrap();
    assert_eq!(model.apply(Action::Extend), Some(Effect::Extend { job: job(), step: true }));
    model.update.records[0].step = None;
    assert_eq!(model.apply(Action::Extend), Some(Effect::Extend { job: job(), step: false }));
}

#[test]
fn a_filter_lists_what_has_its_text_and_escape_lists_all_again() {
    let mut model = Model::new(update());
    model.apply(Action::Filter);
    for c in "BEa".chars() {
        model.apply(Action::Type(c));
    }
    assert_eq!((model.listed().len(), selected(&model).as_str()), (1, "bea#1"));
    model.apply(Action::Accept);
    assert_eq!((&model.mode, model.filter.as_str()), (&Mode::Browse, "BEa"));
    model.apply(Action::Back);
    assert_eq!((model.listed().len(), selected(&model).as_str()), (4, "bea#1"));
    model.apply(Action::Filter);
    (0..200).for_each(|_| drop(model.apply(Action::Type('z'))));
    assert_eq!((model.filter.chars().count(), model.selected.clone()), (MAX_FILTER, None));
    assert_eq!((model.apply(Action::Cancel), model.apply(Action::Move(1))), (None, None));
}

#[test]
fn log_and_events_are_a_key_away_and_back() {
    let mut model = Model::new(update());
    for (action, pane) in [
        (Action::Log, Pane::Log),
        (Action::Events, Pane::Events),
        (Action::Events, Pane::Status),
        (Action::Log, Pane::Log),
        (Action::Back, Pane::Status),
        (Action::Details, Pane::Closed),
        (Action::Details, Pane::Status),
    ] {
        model.apply(action);
        assert_eq!(model.pane, pane, "{action:?}");
    }
}
