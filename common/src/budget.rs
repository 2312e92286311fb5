//! Budget of a job for the model: tokens, and cost in millionths of a US dollar.

use serde::{Deserialize, Serialize};

use crate::model_usage::ModelUsage;

/// Share of a budget at which a warning is due, in percent.
const WARNING_PERCENT: u64 = 80;
/// Millionths of a dollar in a dollar.
const MICROS: u64 = 1_000_000;
/// Maximum cost that can be set, in dollars. It bounds sums.
const MAX_DOLLARS: u64 = 1_000_000;

/// Beginning of the reason why a job may send no further request; what is used follows.
pub const USED_UP: &str = "the job's budget for the model is used up: ";

/// Budget of a job. Without a value there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// Maximum number of tokens, read and written.
    pub max_tokens: Option<u64>,
    /// Maximum cost, in millionths of a US dollar.
    pub max_cost_micros: Option<u64>,
}

/// One limit of a budget, with what is used of it.
struct Use {
    used: u64,
    limit: u64,
    text: String,
}

impl Budget {
    /// Returns true if the budget has no limit.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the reason why no further request is allowed, one line without the job's name.
    pub fn exceeded(&self, total: &ModelUsage) -> Option<String> {
        Some(format!("{USED_UP}{}", self.used_up(total)?))
    }

    /// Describes the limit that is used up: `100 of 100 tokens`.
    pub fn used_up(&self, total: &ModelUsage) -> Option<String> {
        self.uses(total).find(|part| part.used >= part.limit).map(|part| part.text)
    }

    /// Returns a warning once most of the budget is used, one line.
    pub fn warning(&self, total: &ModelUsage) -> Option<String> {
        let text = self.nearly_used_up(total)?;
        Some(format!("{WARNING_PERCENT}% or more of the job's budget for the model is used: {text}"))
    }

    /// Describes the limit of which most is used: `80 of 100 tokens`.
    pub fn nearly_used_up(&self, total: &ModelUsage) -> Option<String> {
        let is_due =
            |part: &Use| u128::from(part.used) * 100 >= u128::from(part.limit) * u128::from(WARNING_PERCENT);
        self.uses(total).find(is_due).map(|part| part.text)
    }

    fn uses(&self, total: &ModelUsage) -> impl Iterator<Item = Use> + use<> {
        let counted = total.usage.input_tokens.saturating_add(total.usage.output_tokens);
        let used = counted.saturating_add(total.estimated_tokens);
        let estimated = |estimate: u64, text: String| match estimate {
            0 => String::new(),
            _ => format!(", of which {text} are estimated"),
        };
        let estimated_tokens = estimated(total.estimated_tokens, total.estimated_tokens.to_string());
        let estimated_cost = total.estimated_cost_micros;
        let cost = total.cost_micros.unwrap_or_default().saturating_add(estimated_cost);
        let estimated_cost = estimated(estimated_cost, format_cost(estimated_cost));
        let tokens = self.max_tokens.map(|limit| {
            let text = format!("{used} of {limit} tokens{estimated_tokens}");
            Use { used, limit, text }
        });
        let cost = self.max_cost_micros.map(|limit| {
            let text = format!("{} of {}{estimated_cost}", format_cost(cost), format_cost(limit));
            Use { used: cost, limit, text }
        });
        tokens.into_iter().chain(cost)
    }
}

/// Formats a cost in dollars: `$0.42`.
pub fn format_cost(micros: u64) -> String {
    let cents = micros.saturating_add(MICROS / 200) / (MICROS / 100);
    format!("${}.{:02}", cents / 100, cents % 100)
}

/// Parses a cost in dollars, such as `5` or `0.25`, with at most six decimals.
///
/// # Errors
/// One line that says how to write it.
pub fn parse_cost(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no cost in US dollars: write it like 5 or 0.25");
    let (dollars, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(dollars) || !is_number(decimals) || decimals.len() > 6 {
        return Err(wrong());
    }
    let dollars: u64 = dollars.parse().map_err(|_| wrong())?;
    let micros: u64 = format!("{decimals:0<6}").parse().map_err(|_| wrong())?;
    match dollars.checked_mul(MICROS).map(|cost| cost + micros) {
        Some(cost) if cost > 0 && dollars < MAX_DOLLARS => Ok(cost),
        _ => Err(format!("'{text}': a cost is more than 0 and less than {MAX_DOLLARS} US dollars")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Usage;

    fn total(tokens: u64, cost_micros: Option<u64>) -> ModelUsage {
        let usage = Usage { input_tokens: tokens, output_tokens: 10, ..Usage::default() };
        ModelUsage { usage, cost_micros, ..ModelUsage::default() }
    }

    #[test]
    fn a_budget_warns_at_80_percent_and_ends_at_its_limit() {
        let tokens = Budget { max_tokens: Some(100), ..Budget::default() };
        let told = |tokens_read| {
            let total = total(tokens_read, None);
            (tokens.warning(&total).is_some(), tokens.exceeded(&total).is_some())
        };
        assert_eq!(
            [told(69), told(70), told(89), told(90)].map(|(warned, _)| warned),
            [false, true, true, true]
        );
        assert_eq!([told(70), told(89), told(90)].map(|(_, ended)| ended), [false, false, true]);
        let cost = Budget { max_cost_micros: Some(2_000_000), ..Budget::default() };
        let reason = cost.exceeded(&total(0, Some(2_000_000))).unwrap();
        assert_eq!(reason, "the job's budget for the model is used up: $2.00 of $2.00");
        assert_eq!((cost.warning(&total(9, None)), cost.exceeded(&total(9, None))), (None, None));
        assert_eq!(Budget::default().warning(&total(u64::MAX, Some(u64::MAX))), None);
    }

    #[test]
    fn costs_are_written_in_dollars() {
        for (text, micros) in [("5", 5_000_000), ("0.25", 250_000), ("0.000001", 1), ("12.5", 12_500_000)] {
            assert_eq!(parse_cost(text), Ok(micros), "{text}");
        }
        for text in ["", "0", "-1", "1e3", "$5", "0.0000001", ".5", "5.", "1000000", "99999999999999999999"] {
            assert!(parse_cost(text).is_err(), "{text}");
        }
        assert_eq!([0, 4_999, 5_000, 1_234_567].map(format_cost), ["$0.00", "$0.00", "$0.01", "$1.23"]);
    }
}
