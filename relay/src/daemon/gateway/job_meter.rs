//! Meter of one job: the sum of its answers, and the problem of the account with the model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::budget::Budget;
use common::event::{FailureKind, Usage};
use common::ids::JobId;
use common::model_usage::{ModelProblem, ModelUsage};
use common::text_format;
use jiff::Zoned;
use tokio::sync::watch;

use super::day_meter::DayMeter;
use super::reading::Reading;
use super::request_check::RequestRules;
use crate::config::prices::Prices;

/// Maximum length of a model's name in messages, in bytes. The worker can choose the name.
const MAX_MODEL_NAME: usize = 80;

/// Readings of a job's meter. A reader may skip versions, because the counts only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobReadings {
    /// Tokens of the job so far.
    pub total: ModelUsage,
    /// Number of requests without the job's token.
    pub refused: u64,
    /// First model whose price is not known.
    pub unpriced_model: Option<String>,
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
    /// Meter of the day, if the day has a budget.
    pub day: Option<Arc<DayMeter>>,
    /// Processing tier that the user's own Codex is set to.
    pub service_tier: Option<String>,
    /// True if the job reaches only the hosts of a list.
    pub has_allowed_hosts: bool,
}

/// Meter of one job. All connections of the job share it.
#[derive(Debug)]
pub struct JobMeter {
    job: JobId,
    settings: MeterSettings,
    readings: watch::Sender<JobReadings>,
    is_closed: AtomicBool,
}

impl JobMeter {
    /// Creates the meter of a job that has these readings already.
    pub fn new(job: JobId, settings: MeterSettings, readings: JobReadings) -> Self {
        Self { job, settings, readings: watch::Sender::new(readings), is_closed: AtomicBool::new(false) }
    }

    /// Ends the job's use of the model: no further request is admitted.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// Returns true after [`Self::close`].
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Returns the rules for the job's requests.
    pub(super) fn rules(&self) -> RequestRules {
        RequestRules {
            has_cost_limit: self.has_cost_limit(),
            own_tier: self.settings.service_tier.clone(),
            has_allowed_hosts: self.settings.has_allowed_hosts,
        }
    }

    /// Returns true if the cost of the job, or of the day, has a limit.
    fn has_cost_limit(&self) -> bool {
        let day = self.settings.day.as_ref();
        self.settings.budget.max_cost_micros.is_some() || day.is_some_and(|day| day.has_cost_limit())
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

    /// Adds the result of an answer. `estimate` counts for the budget if the answer has no token counts, unless it is an
    /// error. `problem` is the problem of the account that its error tells.
    pub(super) fn record_answer(&self, reading: &Reading, estimate: Usage, problem: Option<ModelProblem>) {
        let is_success = reading.usage.is_some() && reading.error.is_none();
        self.readings.send_modify(|readings| {
            let before = readings.total;
            self.add_answer(readings, reading, estimate);
            readings.warnings.extend(self.new_warnings(&before, readings));
            let day = self.settings.day.as_ref();
            readings.warnings.extend(day.and_then(|day| day.add(&before, &readings.total, &Zoned::now())));
            if is_success || problem.is_some() {
                set_problem(readings, problem);
            }
        });
    }

    fn add_answer(&self, readings: &mut JobReadings, reading: &Reading, estimate: Usage) {
        let total = &mut readings.total;
        let model = reading.model.as_deref().or(self.settings.model.as_deref());
        let price = model.and_then(|model| self.settings.prices.price(model));
        let cost =
            |usage: &Usage, cache_written| price.map_or(0, |price| price.cost_micros(usage, cache_written));
        if let Some(usage) = reading.usage {
            total.answers = total.answers.saturating_add(1);
            add_usage(&mut total.usage, usage);
            if price.is_some() {
                total.cost_micros = Some(
                    total.cost_micros.unwrap_or_default().saturating_add(cost(&usage, reading.cache_written)),
                );
            }
        } else {
            total.unmetered = total.unmetered.saturating_add(1);
            if reading.error.is_some() {
                return;
            }
            let tokens = estimate.input_tokens.saturating_add(estimate.output_tokens);
            total.estimated_tokens = total.estimated_tokens.saturating_add(tokens);
            total.estimated_cost_micros = total.estimated_cost_micros.saturating_add(cost(&estimate, 0));
        }
        if price.is_none() {
            total.unpriced = total.unpriced.saturating_add(1);
            readings.unpriced_model = readings.unpriced_model.take().or_else(|| model.map(str::to_owned));
        }
    }

    /// Returns the warnings about the budget that are due since `before`.
    fn new_warnings(&self, before: &ModelUsage, readings: &JobReadings) -> Vec<String> {
        let budget = &self.settings.budget;
        let near = budget.warning(&readings.total).filter(|_| budget.warning(before).is_none());
        let unpriced = self.unpriced_reason(readings).filter(|_| before.unpriced == 0);
        near.into_iter().chain(unpriced).collect()
    }

    /// Returns the reason why the job's cost can't be limited, if it has a limit.
    fn unpriced_reason(&self, readings: &JobReadings) -> Option<String> {
        if !self.has_cost_limit() || readings.total.unpriced == 0 {
            return None;
        }
        let model =
            text_format::one_line(readings.unpriced_model.as_deref().unwrap_or("MODEL"), MAX_MODEL_NAME);
        Some(format!(
            "the job's cost can't be limited, because the price of its model is not known: add \"{model}\" = {{ input = \
             USD, cached_input = USD, output = USD }} (for a million tokens) to [prices] in platform/relay.toml, run \
             `relay restart`, and launch the job again"
        ))
    }

    /// Returns the reason why the job may send no further request, and records it as the job's problem.
    pub(super) fn exceeded_budget(&self) -> Option<String> {
        let reason = {
            let readings = self.readings.borrow();
            let job = self.settings.budget.exceeded(&readings.total);
            let day = || self.settings.day.as_ref()?.exceeded(&Zoned::now());
            job.or_else(|| self.unpriced_reason(&readings)).or_else(day)?
        };
        let (kind, message) = (FailureKind::BudgetExceeded, reason.clone());
        self.record_problem(Some(ModelProblem { kind, message, resets_at: None }));
        Some(reason)
    }

    /// Records the problem of an answer that is an error, if it has one that is known.
    pub(super) fn record_problem(&self, problem: Option<ModelProblem>) {
        if problem.is_some() {
            self.readings.send_modify(|readings| set_problem(readings, problem));
        }
    }
}

/// Sets the problem of the newest answer. An exceeded budget stays: answers that were open before end after it.
fn set_problem(readings: &mut JobReadings, problem: Option<ModelProblem>) {
    let is_over = |problem: &ModelProblem| problem.kind == FailureKind::BudgetExceeded;
    if !readings.problem.as_ref().is_some_and(is_over) {
        readings.problem = problem;
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
    use super::super::reading::ErrorFields;
    use super::*;

    fn reading(tokens: u64, model: Option<&str>) -> Reading {
        let usage = Some(Usage { input_tokens: tokens, ..Usage::default() });
        Reading { usage, model: model.map(str::to_owned), ..Reading::default() }
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
            meter.record_answer(&reading(tokens, None), Usage::default(), None);
        }
        let readings = meter.readings();
        assert_eq!(readings.borrow().warnings.len(), 1, "{:?}", readings.borrow().warnings);
        meter.record_answer(&reading(15, None), Usage::default(), None);
        let reason = meter.exceeded_budget().unwrap();
        assert!(reason.ends_with("100 of 100 tokens"), "{reason}");
        let problem = readings.borrow().problem.clone().unwrap();
        assert_eq!((problem.kind, problem.message), (FailureKind::BudgetExceeded, reason));
        assert_eq!(readings.borrow().warnings.len(), 1);
    }

    #[test]
    fn the_known_cost_stays_and_an_unknown_price_ends_a_job_with_a_cost_limit() {
        let meter = meter(Budget { max_cost_micros: Some(10_000_000), ..Budget::default() });
        let record = |tokens, model| meter.record_answer(&reading(tokens, model), Usage::default(), None);
        let total = || meter.readings().borrow().total;
        record(1_000_000, None);
        record(1_000_000, Some("gpt-5-mini"));
        assert_eq!((total().cost_micros, meter.exceeded_budget()), (Some(1_250_000 + 250_000), None));
        for model in ["other", "gpt-5", "third"] {
            record(8, Some(model));
        }
        assert_eq!((total().cost_micros, total().unpriced), (Some(1_250_000 + 250_000 + 10), 2));
        let reason = meter.exceeded_budget().unwrap();
        assert!(reason.contains("\"other\" = {") && reason.contains("relay restart"), "{reason}");
        assert_eq!(meter.readings().borrow().warnings, [reason]);
    }

    #[test]
    fn answers_without_counts_are_estimated_for_the_budget() {
        let meter = meter(Budget { max_tokens: Some(100), max_cost_micros: Some(1_000_000) });
        let estimate = Usage { input_tokens: 80, output_tokens: 20, ..Usage::default() };
        let unmetered = |error| Reading { error, ..Reading::default() };
        meter.record_answer(&unmetered(Some(ErrorFields::default())), estimate, None);
        assert_eq!((meter.readings().borrow().total.unmetered, meter.exceeded_budget()), (1, None));
        meter.record_answer(&unmetered(None), estimate, None);
        let total = meter.readings().borrow().total;
        assert_eq!((total.usage, total.unmetered, total.estimated_tokens), (Usage::default(), 2, 100));
        assert_eq!(total.estimated_cost_micros, 300);
        assert!(meter.exceeded_budget().unwrap().ends_with("100 of 100 tokens, of which 100 are estimated"));
    }

    #[test]
    fn an_exceeded_budget_stays_the_problem_when_a_parallel_answer_ends() {
        let meter = meter(Budget { max_tokens: Some(1), ..Budget::default() });
        meter.record_answer(&reading(1, None), Usage::default(), None);
        assert!(meter.exceeded_budget().is_some());
        meter.record_answer(&reading(1, None), Usage::default(), None);
        let (kind, message) = (FailureKind::Overloaded, "busy".to_owned());
        meter.record_problem(Some(ModelProblem { kind, message, resets_at: None }));
        let problem = meter.readings().borrow().problem.clone();
        assert_eq!(problem.map(|problem| problem.kind), Some(FailureKind::BudgetExceeded));
    }
}
