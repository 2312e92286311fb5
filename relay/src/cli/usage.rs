//! The command `relay usage`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use common::budget::format_cost;
use common::duration;
use common::event::Usage;
use common::ids::JobId;
use common::record::JobRecord;
use common::text_format;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::help::after_help;
use super::{Context, view_context};
use crate::config::prices::Prices;
use crate::exit::{ExitCode, Failure};
use crate::registry::{Registry, read};
use crate::render::table;

/// Period without `--since`.
const DEFAULT_PERIOD: Duration = Duration::from_secs(7 * 24 * 3600);
/// Maximum length of a model's name in the table, in bytes.
const MAX_MODEL_NAME: usize = 40;
/// Name of the model of jobs that don't name theirs.
const DEFAULT_MODEL: &str = "(default)";

/// Flags of `relay usage`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Sums up the jobs of the registry and its archive, but not pruned ones. A value with ~ is partly estimated: from \
     the sizes of answers without token counts, or, without the gateway, from Codex's own counts and the prices.",
    ["relay usage", "relay usage --since 30d --by model --json"]
))]
pub struct UsageArgs {
    /// Include jobs active within this time [default: 7d]
    #[arg(long, value_name = "D", value_parser = duration::parse_duration)]
    since: Option<Duration>,
    /// Group by day (on which the job ended), job or model
    #[arg(long, value_enum, default_value_t = GroupBy::Day, hide_possible_values = true, value_name = "day|job|model")]
    by: GroupBy,
}

/// Rows of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
enum GroupBy {
    /// A row for each day
    Day,
    /// A row for each job
    Job,
    /// A row for each model
    Model,
}

/// Use of the model by some jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Sum {
    /// Number of jobs.
    jobs: u64,
    input_tokens: u64,
    /// Tokens of `input_tokens` that were read from the cache.
    cached_input_tokens: u64,
    output_tokens: u64,
    /// Tokens of answers without counts, in addition to the others.
    estimated_tokens: u64,
    /// Cost in millionths of a US dollar; `null` if no price is known.
    cost_micros: Option<u64>,
    /// True if the counts or the cost are partly estimated.
    is_estimate: bool,
}

/// A row of `--json`.
#[derive(Debug, Serialize)]
struct JsonRow<'a> {
    /// `day`, `job`, `model`, or `total` for the last row.
    by: &'static str,
    /// The day, job or model; `null` for the last row.
    key: Option<&'a str>,
    #[serde(flatten)]
    sum: Sum,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_input_tokens = self.cached_input_tokens.saturating_add(other.cached_input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.estimated_tokens = self.estimated_tokens.saturating_add(other.estimated_tokens);
        self.cost_micros = match (self.cost_micros, other.cost_micros) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        self.is_estimate |= other.is_estimate;
    }

    /// Returns the use of one job. `earlier` is the use of the thread before the job.
    fn of_job(record: &JobRecord, earlier: Option<Usage>, prices: &Prices) -> Option<Self> {
        let usage = record.usage?;
        if let Some(total) = record.model_usage {
            let cost = total.cost_micros.unwrap_or_default().saturating_add(total.estimated_cost_micros);
            let is_priced = total.cost_micros.is_some() || total.estimated_cost_micros > 0;
            return Some(Self {
                estimated_tokens: total.estimated_tokens,
                cost_micros: is_priced.then_some(cost),
                is_estimate: total.unmetered > 0 || total.unpriced > 0,
                ..Self::of_tokens(usage)
            });
        }
        let usage = earlier.map_or(usage, |earlier| difference(usage, earlier));
        let price = record.model.as_deref().and_then(|model| prices.price(model));
        let cost_micros = price.map(|price| price.cost_micros(&usage, 0));
        Some(Self { cost_micros, is_estimate: true, ..Self::of_tokens(usage) })
    }

    fn of_tokens(usage: Usage) -> Self {
        Self {
            jobs: 1,
            input_tokens: usage.input_tokens,
            cached_input_tokens: usage.cached_input_tokens,
            output_tokens: usage.output_tokens,
            ..Self::default()
        }
    }

    /// Returns the cells of the table after the key.
    fn cells(&self) -> [String; 6] {
        let mark = if self.is_estimate { "~" } else { "" };
        let cost =
            self.cost_micros.map_or_else(|| "-".to_owned(), |cost| format!("{mark}{}", format_cost(cost)));
        let estimated = match self.estimated_tokens {
            0 => "-".to_owned(),
            tokens => format!("~{tokens}"),
        };
        [
            self.jobs.to_string(),
            self.input_tokens.to_string(),
            self.cached_input_tokens.to_string(),
            self.output_tokens.to_string(),
            estimated,
            cost,
        ]
    }
}

/// Returns the part of a thread's tokens that a later job of the thread has used.
fn difference(usage: Usage, earlier: Usage) -> Usage {
    Usage {
        input_tokens: usage.input_tokens.saturating_sub(earlier.input_tokens),
        cached_input_tokens: usage.cached_input_tokens.saturating_sub(earlier.cached_input_tokens),
        output_tokens: usage.output_tokens.saturating_sub(earlier.output_tokens),
        reasoning_output_tokens: usage
            .reasoning_output_tokens
            .saturating_sub(earlier.reasoning_output_tokens),
    }
}

/// Prints the use of the model.
///
/// # Errors
/// Exit code 2 if `relay.toml` is wrong, 5 if the registry can't be read.
pub fn run(args: &UsageArgs, context: &Context) -> Result<ExitCode, Failure> {
    let prices = context.read_config()?.prices;
    let view = view_context::current_view(context);
    let period =
        SignedDuration::try_from(args.since.unwrap_or(DEFAULT_PERIOD)).unwrap_or(SignedDuration::MAX);
    let since = view.now.checked_sub(period).unwrap_or(Timestamp::MIN);
    let records = read_records(&context.registry)?;
    let rows = sum_up(&records, since, args.by, &prices, &view.zone);
    let total = total_of(&rows);
    if context.output.json {
        for (key, sum) in &rows {
            context.output.print_json(&JsonRow { by: args.by.into(), key: Some(key.as_str()), sum: *sum });
        }
        context.output.print_json(&JsonRow { by: "total", key: None, sum: total });
    } else {
        context.output.print(&format_report(args.by, &rows, &total, view.paint));
    }
    Ok(ExitCode::Done)
}

/// Reads all records that have tokens, also those of the archive.
fn read_records(registry: &Registry) -> Result<BTreeMap<JobId, JobRecord>, Failure> {
    let unreadable = |e: std::io::Error| {
        Failure::unreachable(format!("the registry {} can't be read: {e}", registry.dir().display()))
    };
    let mut records = BTreeMap::new();
    for registry in [registry.archive_registry(), registry.clone()] {
        for stored in read::read_records(&registry).map_err(unreadable)?.iter() {
            if stored.record.usage.is_some() {
                records.insert(stored.record.job.clone(), stored.record);
            }
        }
    }
    Ok(records)
}

/// Adds up the jobs of each key.
fn sum_up(
    records: &BTreeMap<JobId, JobRecord>,
    since: Timestamp,
    by: GroupBy,
    prices: &Prices,
    zone: &TimeZone,
) -> BTreeMap<String, Sum> {
    let mut rows: BTreeMap<String, Sum> = BTreeMap::new();
    for record in records.values().filter(|record| record.last_event_at >= since) {
        let follows = record.origin.follows.as_ref().filter(|_| record.has_usage_of_thread());
        let earlier = follows.and_then(|follows| records.get(&follows.job)?.usage);
        let Some(sum) = Sum::of_job(record, earlier, prices) else { continue };
        let key = match by {
            GroupBy::Day => {
                let ended_at = record.finished_at.unwrap_or(record.last_event_at);
                ended_at.to_zoned(zone.clone()).date().to_string()
            }
            GroupBy::Job => record.job.to_string(),
            GroupBy::Model => {
                text_format::one_line(record.model.as_deref().unwrap_or(DEFAULT_MODEL), MAX_MODEL_NAME)
            }
        };
        rows.entry(key).or_default().add(sum);
    }
    rows
}

fn total_of(rows: &BTreeMap<String, Sum>) -> Sum {
    rows.values().fold(Sum::default(), |mut total, sum| {
        total.add(*sum);
        total
    })
}

fn format_report(
    by: GroupBy,
    rows: &BTreeMap<String, Sum>,
    total: &Sum,
    paint: crate::render::Paint,
) -> String {
    if rows.is_empty() {
        return "no job used the model in this time\n".to_owned();
    }
    let name = <&str>::from(by).to_uppercase();
    let row = |key: &str, sum: &Sum| {
        let [jobs, input, cached, output, estimated, cost] = sum.cells();
        [key.to_owned(), jobs, input, cached, output, estimated, cost]
    };
    let mut lines: Vec<[String; 7]> = rows.iter().map(|(key, sum)| row(key, sum)).collect();
    lines.push(row("total", total));
    table::format_table([&name, "JOBS", "INPUT", "CACHED", "OUTPUT", "ESTIMATED", "COST"], &lines, paint)
}

#[cfg(test)]
mod tests {
    use common::model_usage::ModelUsage;
    use common::origin::{FollowUp, Follows};
    use common::record::State;

    use super::*;
    use crate::render::{Paint, samples};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn usage(input_tokens: u64) -> Usage {
        Usage { input_tokens, cached_input_tokens: 10, output_tokens: 20, ..Usage::default() }
    }

    fn record(job: &str, ended_at: &str, model: Option<&str>, tokens: u64) -> JobRecord {
        let model = model.map(str::to_owned);
        let (last_event_at, finished_at) = (at(ended_at), Some(at(ended_at)));
        let record = samples::minimal_record(job, State::Completed);
        JobRecord { usage: Some(usage(tokens)), model, last_event_at, finished_at, ..record }
    }

    fn counted(record: JobRecord, total: ModelUsage) -> JobRecord {
        JobRecord { model_usage: Some(ModelUsage { usage: record.usage.unwrap(), ..total }), ..record }
    }

    fn records() -> BTreeMap<JobId, JobRecord> {
        let first = record("a#1", "2026-01-01T23:30:00Z", Some("gpt-5"), 1_000_000);
        let follows = Some(Follows { job: "a#1".parse().unwrap(), how: FollowUp::Resume });
        let resumed = record("a#2", "2026-01-02T12:00:00Z", Some("gpt-5"), 1_500_000);
        let resumed =
            JobRecord { origin: common::origin::Origin { follows, ..resumed.origin.clone() }, ..resumed };
        let total = ModelUsage { answers: 1, cost_micros: Some(420_000), ..ModelUsage::default() };
        let exact = counted(record("b#1", "2026-01-02T12:00:00Z", None, 500), total);
        let total = ModelUsage { unmetered: 1, estimated_tokens: 70, ..ModelUsage::default() };
        let partly = counted(record("c#1", "2026-01-02T13:00:00Z", Some("own"), 100), total);
        let old = record("d#1", "2025-01-02T13:00:00Z", Some("own"), 9);
        [first, resumed, exact, partly, old].map(|record| (record.job.clone(), record)).into()
    }

    fn report(by: GroupBy, zone: &TimeZone) -> String {
        let rows = sum_up(&records(), at("2026-01-01T00:00:00Z"), by, &Prices::default(), zone);
        format_report(by, &rows, &total_of(&rows), Paint::new(false))
    }

    #[test]
    fn a_resumed_job_counts_only_its_own_tokens_and_estimates_are_marked() {
        insta::assert_snapshot!(report(GroupBy::Job, &TimeZone::UTC), @r"
        JOB    JOBS  INPUT    CACHED  OUTPUT  ESTIMATED  COST
        a#1    1     1000000  10      20      -          ~$1.25
        a#2    1     500000   0       0       -          ~$0.63
        b#1    1     500      10      20      -          $0.42
        c#1    1     100      10      20      ~70        -
        total  4     1500600  30      60      ~70        ~$2.30
        ");
        insta::assert_snapshot!(report(GroupBy::Model, &TimeZone::UTC), @r"
        MODEL      JOBS  INPUT    CACHED  OUTPUT  ESTIMATED  COST
        (default)  1     500      10      20      -          $0.42
        gpt-5      2     1500000  10      20      -          ~$1.88
        own        1     100      10      20      ~70        -
        total      4     1500600  30      60      ~70        ~$2.30
        ");
    }

    #[test]
    fn days_are_those_of_the_reader() {
        let days = |zone| {
            let text = report(GroupBy::Day, &zone);
            text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(days(TimeZone::UTC), ["DAY", "2026-01-01", "2026-01-02", "total"]);
        let east = TimeZone::fixed(jiff::tz::Offset::constant(2));
        assert_eq!(days(east), ["DAY", "2026-01-02", "total"]);
        let none = format_report(GroupBy::Day, &BTreeMap::new(), &Sum::default(), Paint::new(false));
        assert!(none.starts_with("no job"));
    }
}
