//! Meter of one job: the sum of its answers, and the problem of the account with the model.

use common::budget::Budget;
use common::event::{FailureKind, Usage};
use common::ids::JobId;
use common::model_usage::{ModelProblem, ModelUsage};
use tokio::sync::watch;

use super::meter::Reading;
use crate::config::prices::Prices;

/// Readings of a job's meter. A reader may skip versions, because the counts only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobReadings {
    /// Tokens of the job so far.
    pub total: ModelUsage,
    /// Number of requests without the job's token.
    pub refused: u64,
    /// Problem of the account in the newest answer that tells one; `None` after an answer without an error.
    pub problem: Option<ModelProblem>,
    /// Warnings about the job's budget so far, at most one of each kind.
    pub warnings: Vec<String>,
}

/// Settings of a job's meter.
#[derive(Debug, Clone, Default)]
pub struct MeterSettings {
    /// Budget of the job.
    pub budget: Budget,
    /// Prices of models.
    pub prices: Prices,
    /// Model of answers that don't name theirs.
    pub model: Option<String>,
}

/// Meter of one job. All connections of the job share it.
#[derive(Debug)]
pub struct JobMeter {
    job: JobId,
    settings: MeterSettings,
    readings: watch::Sender<JobReadings>,
}

impl JobMeter {
    /// Creates the meter of a job that has these readings already.
    pub fn new(job: JobId, settings: MeterSettings, readings: JobReadings) -> Self {
        Self { job, settings, readings: watch::Sender::new(readings) }
    }

    /// Returns the readings, now and whenever they change.
    pub fn readings(&self) -> watch::Receiver<JobReadings> {
        self.readings.subscribe()
    }

    /// Returns the job.
    pub(super) fn job(&self) -> &JobId {
        &self.job
    }

    /// Counts a request without the job's token. The log gets a line for the first of them and for each tenfold.
    pub(super) fn count_refused(&self) {
        let mut refused = 0;
        self.readings.send_modify(|readings| {
            readings.refused = readings.refused.saturating_add(1);
            refused = readings.refused;
        });
        if is_power_of_ten(refused) {
            tracing::warn!("{}: {refused} requests to the model without the job's token", self.job);
        }
    }

    /// Adds the result of an answer. `problem` is the problem of the account that its error tells.
    pub(super) fn record_answer(&self, reading: &Reading, problem: Option<ModelProblem>) {
        let is_success = reading.usage.is_some() && reading.error.is_none();
        self.readings.send_modify(|readings| {
            let before = readings.total;
            match reading.usage {
                Some(usage) => self.add_answer(&mut readings.total, usage, reading.model.as_deref()),
                None => readings.total.unmetered = readings.total.unmetered.saturating_add(1),
            }
            readings.warnings.extend(self.new_warnings(&before, &readings.total));
            if is_success || problem.is_some() {
                readings.problem = problem;
            }
        });
    }

    fn add_answer(&self, total: &mut ModelUsage, usage: Usage, model: Option<&str>) {
        let model = model.or(self.settings.model.as_deref());
        let cost = model.and_then(|model| self.settings.prices.price(model)).map(|p| p.cost_micros(&usage));
        let before = if total.answers == 0 { Some(0) } else { total.cost_micros };
        total.cost_micros = before.zip(cost).map(|(before, cost)| before.saturating_add(cost));
        total.answers = total.answers.saturating_add(1);
        add_usage(&mut total.usage, usage);
    }

    /// Returns the warnings about the budget that are due since `before`.
    fn new_warnings(&self, before: &ModelUsage, total: &ModelUsage) -> Vec<String> {
        let budget = &self.settings.budget;
        let near = budget.warning(total).filter(|_| budget.warning(before).is_none());
        let has_lost_price =
            total.cost_micros.is_none() && (before.cost_micros.is_some() || before.answers == 0);
        let is_unpriced = budget.max_cost_micros.is_some() && total.answers > 0 && has_lost_price;
        let unpriced = is_unpriced.then(|| {
            "the price of the job's model is not known, so its cost can't be limited: add it to [prices] in \
             platform/relay.toml"
                .to_owned()
        });
        near.into_iter().chain(unpriced).collect()
    }

    /// Returns the reason why the job may send no further request, and records it as the job's problem.
    pub(super) fn exceeded_budget(&self) -> Option<String> {
        let reason = self.settings.budget.exceeded(&self.readings.borrow().total)?;
        let (kind, message) = (FailureKind::BudgetExceeded, reason.clone());
        self.record_problem(Some(ModelProblem { kind, message, resets_at: None }));
        Some(reason)
    }

    /// Records the problem of an answer that is an error, if it has one that is known.
    pub(super) fn record_problem(&self, problem: Option<ModelProblem>) {
        if problem.is_some() {
            self.readings.send_modify(|readings| readings.problem = problem);
        }
    }
}

fn add_usage(sum: &mut Usage, usage: Usage) {
    let counts = [
        (&mut sum.input_tokens, usage.input_tokens),
        (&mut sum.cached_input_tokens, usage.cached_input_tokens),
        (&mut sum.output_tokens, usage.output_tokens),
        (&mut sum.reasoning_output_tokens, usage.reasoning_output_tokens),
    ];
    for (sum, count) in counts {
        *sum = sum.saturating_add(count);
    }
}

fn is_power_of_ten(mut number: u64) -> bool {
    while number >= 10 && number.is_multiple_of(10) {
        number /= 10;
    }
    number == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(tokens: u64, model: Option<&str>) -> Reading {
        let usage = Some(Usage { input_tokens: tokens, ..Usage::default() });
        Reading { usage, model: model.map(str::to_owned), error: None }
    }

    fn meter(budget: Budget) -> JobMeter {
        let settings = MeterSettings { budget, model: Some("gpt-5".to_owned()), ..MeterSettings::default() };
        JobMeter::new("a#1".parse().unwrap(), settings, JobReadings::default())
    }

    #[test]
    fn a_budget_warns_once_and_then_refuses_with_its_reason_as_the_problem() {
        let meter = meter(Budget { max_tokens: Some(100), ..Budget::default() });
        for tokens in [79, 1, 5] {
            assert_eq!(meter.exceeded_budget(), None);
            meter.record_answer(&reading(tokens, None), None);
        }
        let readings = meter.readings();
        assert_eq!(readings.borrow().warnings.len(), 1, "{:?}", readings.borrow().warnings);
        meter.record_answer(&reading(15, None), None);
        let reason = meter.exceeded_budget().unwrap();
        assert!(reason.ends_with("100 of 100 tokens"), "{reason}");
        let problem = readings.borrow().problem.clone().unwrap();
        assert_eq!((problem.kind, problem.message), (FailureKind::BudgetExceeded, reason));
        assert_eq!(readings.borrow().warnings.len(), 1);
    }

    #[test]
    fn a_model_without_a_price_makes_the_cost_unknown_and_warns_once() {
        let meter = meter(Budget { max_cost_micros: Some(10_000_000), ..Budget::default() });
        let cost = || meter.readings().borrow().total.cost_micros;
        meter.record_answer(&reading(1_000_000, None), None);
        meter.record_answer(&reading(1_000_000, Some("gpt-5-mini")), None);
        assert_eq!(cost(), Some(1_250_000 + 250_000));
        for model in ["other", "gpt-5", "other"] {
            meter.record_answer(&reading(1, Some(model)), None);
            assert_eq!(cost(), None);
        }
        let warnings = meter.readings().borrow().warnings.clone();
        assert!(warnings.len() == 1 && warnings[0].contains("[prices]"), "{warnings:?}");
    }
}
