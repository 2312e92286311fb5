//! Tests of the changes that keys and new data make in the screen's model.

use super::*;
use crate::render::samples;

pub(in crate::top) fn with_job_id(mut record: JobRecord, job: &str) -> JobRecord {
    record.job = job.parse().unwrap();
    record
}

pub(in crate::top) fn sample_update() -> Update {
    Update {
        records: vec![
            with_job_id(samples::running_record(), "abe#2"),
            with_job_id(samples::stalling_record(), "bea#1"),
            with_job_id(samples::queued_record(), "cid#1"),
            with_job_id(samples::failed_record(), "abe#1"),
        ],
        view: samples::view(160),
        newest_log_lines: Vec::new(),
        advice: Vec::new(),
        error: None,
    }
}

fn selected_job_text(model: &Model) -> String {
    model.selected_job.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn the_selection_follows_its_job_and_stays_inside_the_list() {
    let mut model = Model::new(sample_update());
    assert_eq!(selected_job_text(&model), "abe#2");
    for (action, expected) in [
        (Action::Move(-1), "abe#2"),
        (Action::Move(1), "bea#1"),
        (Action::Last, "abe#1"),
        (Action::Move(7), "abe#1"),
        (Action::Move(-2), "bea#1"),
    ] {
        assert_eq!(model.apply(action), Some(Effect::Reload));
        assert_eq!(selected_job_text(&model), expected, "{action:?}");
    }
    let mut later_update = sample_update();
    later_update.records.reverse();
    model.update(later_update.clone());
    assert_eq!(selected_job_text(&model), "bea#1");
    later_update.records.retain(|record| record.job.to_string() != "bea#1");
    model.update(later_update);
    assert_eq!(selected_job_text(&model), "abe#1");
}

#[test]
fn a_job_is_cancelled_only_after_the_answer_yes() {
    let mut model = Model::new(sample_update());
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
fn yes_cancels_the_job_of_the_question_even_if_the_list_has_changed() {
    let mut model = Model::new(sample_update());
    model.apply(Action::Cancel);
    let mut later_update = sample_update();
    later_update.records.remove(0);
    model.update(later_update);
    assert_eq!(model.apply(Action::Yes), Some(Effect::Cancel("abe#2".parse().unwrap())));
}

#[test]
fn an_ended_job_is_neither_cancelled_nor_extended() {
    let mut model = Model::new(sample_update());
    model.apply(Action::Last);
    for action in [Action::Cancel, Action::Extend] {
        assert_eq!(model.apply(action), None);
        assert_eq!((&model.mode, model.note.as_deref()), (&Mode::Browse, Some("abe#1 has ended: failed")));
    }
}

#[test]
fn an_extension_is_for_the_step_if_it_has_a_limit_and_else_for_the_job() {
    let mut model = Model::new(sample_update());
    let job = || "abe#2".parse().unwrap();
    assert_eq!(model.apply(Action::Extend), Some(Effect::Extend { job: job(), is_for_step: true }));
    model.update.records[0].step = None;
    assert_eq!(model.apply(Action::Extend), Some(Effect::Extend { job: job(), is_for_step: false }));
}

#[test]
fn a_filter_lists_jobs_that_contain_its_text_and_escape_lists_all_again() {
    let mut model = Model::new(sample_update());
    model.apply(Action::Filter);
    for c in "BEa".chars() {
        model.apply(Action::Type(c));
    }
    assert_eq!((model.listed_records().len(), selected_job_text(&model).as_str()), (1, "bea#1"));
    model.apply(Action::Accept);
    assert_eq!((&model.mode, model.filter.as_str()), (&Mode::Browse, "BEa"));
    model.apply(Action::Back);
    assert_eq!((model.listed_records().len(), selected_job_text(&model).as_str()), (4, "bea#1"));
    model.apply(Action::Filter);
    (0..200).for_each(|_| drop(model.apply(Action::Type('z'))));
    assert_eq!((model.filter.chars().count(), model.selected_job.clone()), (MAX_FILTER, None));
    assert_eq!((model.apply(Action::Cancel), model.apply(Action::Move(1))), (None, None));
}

#[test]
fn one_key_opens_the_log_or_the_events_and_closes_them_again() {
    let mut model = Model::new(sample_update());
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
