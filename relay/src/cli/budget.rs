//! Checks of a job's budget for the model at its launch.

use common::budget::Budget;
use common::job::Runner;

use crate::config::Config;
use crate::engine_kind::EngineKind;
use crate::exit::Failure;

/// Checks that the budget can be enforced. `default_model` is the model of a job that names none, if it is known.
///
/// # Errors
/// Exit code 2 with one line that says what is missing.
pub(super) fn check_budget(
    budget: &Budget,
    runner: Runner,
    model: Option<&str>,
    default_model: impl FnOnce() -> Option<String>,
    (engine, config): (EngineKind, &Config),
) -> Result<(), Failure> {
    if budget.is_unlimited() {
        return Ok(());
    }
    if runner == Runner::Shell {
        return Err(Failure::usage(
            "--max-tokens and --max-cost are for codex: omit them with --runner shell",
        ));
    }
    if !config.has_model_gateway(engine) {
        return Err(Failure::usage(
            "--max-tokens, --max-cost and [budget] need [model] gateway = true in platform/relay.toml: only the \
             gateway counts tokens",
        ));
    }
    if budget.max_cost_micros.is_none() {
        return Ok(());
    }
    let model = model.map(str::to_owned).or_else(default_model);
    match model.filter(|model| config.prices.price(model).is_none()) {
        Some(model) => Err(Failure::usage(format!(
            "no price is known for the model {model}, so its cost can't be limited: add \
             \"{model}\" = {{ input = USD, cached_input = USD, output = USD }} (for a million tokens) to [prices] in \
             platform/relay.toml, or use --max-tokens"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_can_t_be_enforced_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::load(dir.path()).unwrap();
        let cost = Budget { max_cost_micros: Some(1), ..Budget::default() };
        let check_with = |budget: &Budget, runner, model, default: Option<&str>, model_gateway| {
            let config = Config { model_gateway: Some(model_gateway), ..config.clone() };
            let settings = (EngineKind::Local, &config);
            let default = || default.map(str::to_owned);
            check_budget(budget, runner, model, default, settings).map_err(|failure| failure.message)
        };
        let check = |budget: &Budget, runner, model, model_gateway| {
            check_with(budget, runner, model, None, model_gateway)
        };
        assert_eq!(check(&Budget::default(), Runner::Shell, None, false), Ok(()));
        assert!(check(&cost, Runner::Codex, None, false).unwrap_err().contains("[model] gateway = true"));
        assert!(check(&cost, Runner::Shell, None, true).unwrap_err().contains("--runner shell"));
        assert!(check(&cost, Runner::Codex, Some("m"), true).unwrap_err().contains("the model m,"));
        let tokens = Budget { max_tokens: Some(1), ..Budget::default() };
        for (budget, model) in [(&tokens, Some("m")), (&cost, Some("gpt-5")), (&cost, None)] {
            assert_eq!(check(budget, Runner::Codex, model, true), Ok(()));
        }
        let with_default = |model, default| check_with(&cost, Runner::Codex, model, Some(default), true);
        assert!(with_default(None, "own").unwrap_err().contains("the model own,"));
        assert_eq!((with_default(None, "gpt-5"), with_default(Some("gpt-5"), "own")), (Ok(()), Ok(())));
    }
}
