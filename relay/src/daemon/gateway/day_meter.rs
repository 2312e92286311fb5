//! Meter of the local day: the use of the model by all jobs, against `[budget] day`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::budget::Budget;
use common::event::FailureKind;
use common::hold::Hold;
use common::model_usage::ModelUsage;
use jiff::civil::Date;
use jiff::{ToSpan, Zoned};
use tokio::sync::watch;

/// Meter of the local day. All jobs share it.
#[derive(Debug)]
pub struct DayMeter {
    budget: Budget,
    day: Mutex<Day>,
    /// Hold of the queue, once the budget of a day is used up.
    hold: watch::Sender<Option<Hold>>,
}

#[derive(Debug)]
struct Day {
    date: Date,
    total: ModelUsage,
}

impl DayMeter {
    /// Creates the meter of a day of which `total` is used already.
    pub fn new(budget: Budget, total: ModelUsage, now: &Zoned) -> Self {
        let day = Mutex::new(Day { date: now.date(), total });
        let meter = Self { budget, day, hold: watch::Sender::new(None) };
        meter.publish_hold(now);
        meter
    }

    /// Returns the hold of the queue, now and whenever it changes.
    pub fn hold(&self) -> watch::Receiver<Option<Hold>> {
        self.hold.subscribe()
    }

    /// Returns true if the cost of a day has a limit.
    pub(super) fn has_cost_limit(&self) -> bool {
        self.budget.max_cost_micros.is_some()
    }

    /// Adds what a job has used between two readings. Returns a warning if it is due now.
    pub(super) fn add(&self, before: &ModelUsage, after: &ModelUsage, now: &Zoned) -> Option<String> {
        let warning = {
            let mut day = self.today(now);
            let is_warned = self.budget.nearly_used_up(&day.total).is_some();
            day.total = day.total.add_difference(before, after);
            self.budget.nearly_used_up(&day.total).filter(|_| !is_warned)
        };
        self.publish_hold(now);
        warning.map(|used| format!("{used} of the day's budget for the model ([budget] day)"))
    }

    /// Returns the reason why no further request is allowed today.
    pub(super) fn exceeded(&self, now: &Zoned) -> Option<String> {
        let used_up = self.budget.used_up(&self.today(now).total)?;
        Some(format!("the day's budget for the model ([budget] day) is used up: {used_up}"))
    }

    fn publish_hold(&self, now: &Zoned) {
        let hold = self.exceeded(now).map(|message| {
            let midnight = now.start_of_day().and_then(|start| start.checked_add(1.day())).ok();
            let until = midnight.map(|midnight| midnight.timestamp());
            Hold { kind: FailureKind::BudgetExceeded, message, until, next_try_at: until }
        });
        self.hold.send_if_modified(|published| {
            let is_new = published.as_ref().map(|hold| hold.until) != hold.as_ref().map(|hold| hold.until);
            if is_new {
                *published = hold;
            }
            is_new
        });
    }

    /// Returns the day, which begins anew at midnight.
    fn today(&self, now: &Zoned) -> MutexGuard<'_, Day> {
        let mut day = self.day.lock().unwrap_or_else(PoisonError::into_inner);
        if day.date != now.date() {
            *day = Day { date: now.date(), total: ModelUsage::default() };
        }
        day
    }
}

#[cfg(test)]
mod tests {
    use common::event::Usage;

    use super::*;

    fn total(input_tokens: u64) -> ModelUsage {
        ModelUsage { usage: Usage { input_tokens, ..Usage::default() }, ..ModelUsage::default() }
    }

    #[test]
    fn a_day_s_budget_warns_once_holds_until_midnight_and_begins_anew() {
        let at = |text: &str| text.parse::<Zoned>().unwrap();
        let (evening, night) = (at("2026-01-02T22:00[+01:00]"), at("2026-01-03T00:00[+01:00]"));
        let budget = Budget { max_tokens: Some(100), ..Budget::default() };
        let meter = DayMeter::new(budget, total(30), &evening);
        let readings = meter.hold();
        // Two jobs: each has its own readings.
        assert_eq!(meter.add(&total(0), &total(40), &evening), None);
        let warning = meter.add(&total(5), &total(15), &evening).unwrap();
        assert!(warning.starts_with("80 of 100 tokens of the day's budget"), "{warning}");
        assert_eq!((meter.add(&total(40), &total(45), &evening), meter.exceeded(&evening)), (None, None));
        assert!(readings.borrow().is_none());
        assert_eq!(meter.add(&total(45), &total(60), &evening), None);
        assert!(meter.exceeded(&evening).unwrap().ends_with("is used up: 100 of 100 tokens"));
        let held = readings.borrow().clone().unwrap();
        assert_eq!((held.kind, held.until), (FailureKind::BudgetExceeded, Some(night.timestamp())));
        assert_eq!((meter.exceeded(&night), meter.add(&total(60), &total(61), &night)), (None, None));
        assert!(readings.borrow().is_none());
    }
}
