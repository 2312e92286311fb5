//! Prices of models: table `[prices]` of `relay.toml`, and the defaults.

use std::collections::BTreeMap;

use common::event::Usage;
use serde::Deserialize;
use toml::Spanned;

use super::serde_util::ConfigError;

/// Default prices, in US dollars for a million tokens: read, read from the cache, written. `OpenAI`'s as of
/// December 2025, without discounts; not checked since.
const DEFAULTS: [(&str, f64, f64, f64); 12] = [
    ("gpt-5", 1.25, 0.125, 10.0),
    ("gpt-5-codex", 1.25, 0.125, 10.0),
    ("gpt-5-mini", 0.25, 0.025, 2.0),
    ("gpt-5-nano", 0.05, 0.005, 0.4),
    ("gpt-5.1", 1.25, 0.125, 10.0),
    ("gpt-5.1-codex", 1.25, 0.125, 10.0),
    ("gpt-5.1-codex-mini", 0.25, 0.025, 2.0),
    ("gpt-5.2", 1.75, 0.175, 14.0),
    ("gpt-4.1", 2.0, 0.5, 8.0),
    ("gpt-4.1-mini", 0.4, 0.1, 1.6),
    ("o3", 2.0, 0.5, 8.0),
    ("o4-mini", 1.1, 0.275, 4.4),
];
/// Maximum price, in US dollars for a million tokens. It bounds sums.
const MAX_PRICE: f64 = 1_000_000.0;

/// Price of a model, in billionths of a US dollar for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    input: u64,
    cached_input: u64,
    output: u64,
}

/// Price of a model as it is written, in US dollars for a million tokens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPrice {
    input: f64,
    /// Price of tokens read from the cache; that of `input` by default.
    cached_input: Option<f64>,
    output: f64,
}

/// Prices of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices(BTreeMap<String, Price>);

impl Default for Prices {
    fn default() -> Self {
        let price = |(model, input, cached, output): (&str, f64, f64, f64)| {
            let [input, cached_input, output] = [input, cached, output].map(nanos);
            (model.to_owned(), Price { input, cached_input, output })
        };
        Self(DEFAULTS.map(price).into_iter().collect())
    }
}

impl Prices {
    /// Adds the user's prices to the defaults.
    pub(super) fn with_configured(
        configured: BTreeMap<String, Spanned<RawPrice>>,
    ) -> Result<Self, ConfigError> {
        let mut prices = Self::default();
        for (model, price) in configured {
            let range = price.span();
            let RawPrice { input, cached_input, output } = price.into_inner();
            let cached_input = cached_input.unwrap_or(input);
            if [input, cached_input, output].iter().any(|price| !(0.0..=MAX_PRICE).contains(price)) {
                let reason = format!("[prices] {model}: a price is 0 to {MAX_PRICE} US dollars");
                return Err(ConfigError { range, reason });
            }
            let [input, cached_input, output] = [input, cached_input, output].map(nanos);
            prices.0.insert(model, Price { input, cached_input, output });
        }
        Ok(prices)
    }

    /// Returns the price of a model. A name with a date, such as `gpt-5-2025-08-07`, has the price of its model.
    pub fn price(&self, model: &str) -> Option<Price> {
        self.0.get(model).or_else(|| self.0.get(without_date(model)?)).copied()
    }
}

impl Price {
    /// Returns the cost of an answer, in millionths of a US dollar. Input that was written to a cache costs a quarter more.
    pub fn cost_micros(&self, usage: &Usage, cache_written: u64) -> u64 {
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let parts = [
            (usage.input_tokens - cached, self.input),
            (cached, self.cached_input),
            (usage.output_tokens, self.output),
            (cache_written.min(usage.input_tokens - cached).div_ceil(4), self.input),
        ];
        let nanos = parts
            .into_iter()
            .fold(0u64, |sum, (tokens, price)| sum.saturating_add(tokens.saturating_mul(price)));
        nanos.div_ceil(1000)
    }
}

/// Converts US dollars for a million tokens to billionths of a dollar for one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "prices are checked to be in range"
)]
fn nanos(price: f64) -> u64 {
    (price * 1000.0).round() as u64
}

/// Removes a date at the end of a model's name.
fn without_date(model: &str) -> Option<&str> {
    let (name, date) = model.split_at_checked(model.len().checked_sub("-2025-08-07".len())?)?;
    let is_date = date.bytes().enumerate().all(|(at, byte)| match at {
        0 | 5 | 8 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    is_date.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_have_their_own_price() {
        let usage = Usage {
            input_tokens: 1_000_000,
            cached_input_tokens: 400_000,
            output_tokens: 100_000,
            reasoning_output_tokens: 50_000,
        };
        let prices = Prices::default();
        let expected = 750_000 + 50_000 + 1_000_000;
        assert_eq!(prices.price("gpt-5").unwrap().cost_micros(&usage, 0), expected);
        let with_cache = |written| prices.price("gpt-5").unwrap().cost_micros(&usage, written);
        assert_eq!(with_cache(400_000), expected + 125_000);
        assert_eq!(with_cache(u64::MAX), expected + 187_500, "no more is written than read");
        assert_eq!(prices.price("gpt-5-2025-08-07"), prices.price("gpt-5"));
        assert_eq!((prices.price("gpt-5.9"), prices.price("gpt-5-2025-08-0x")), (None, None));
        let all = Usage { input_tokens: u64::MAX, output_tokens: u64::MAX, ..Usage::default() };
        assert_eq!(prices.price("gpt-5").unwrap().cost_micros(&all, 0), u64::MAX.div_ceil(1000));
    }
}
