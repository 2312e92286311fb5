//! Latency and throughput of Codex's lines: agent → spool → relay → log, synchronised → `relay events -f`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::event::EventBody;
use common::record::State;
use relay_tests::harness::Site;
use relay_tests::harness::processes::Owned;

use crate::peers::Nats;
use crate::samples::Samples;
use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, crowd, stop};

/// Rates at which lines are timed: events a second, milliseconds between two lines (each command makes two lines and
/// four events), and the number of timed commands.
const PACES: [(u32, u64, usize); 2] = [(10, 200, 100), (1_000, 2, 2_000)];
/// Number of commands that are written while the follower starts.
const WARM_UP: usize = 10;
/// Commands of a flood: two lines each, and four events (the model's step before it, and its own).
const FLOOD: u32 = 250_000;
/// Number of a flood's events that go to `JetStream`, which takes them slowly.
const BESIDE: usize = 100_000;
/// Floods of each kind, in turn; an odd number has a middle.
const FLOODS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// Adds the rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let site = crowd::empty(1)?;
    site.relay(&["up"]);
    for (rate, pause, count) in PACES {
        let latency = latency(&site, pause, count)?;
        report.section(
            &format!(
                "a line of Codex on its way at {rate} events a second, written by a stand-in: {count} timed"
            ),
            [
                Row::new("line → log, synchronised → follower: p50", latency.median()?)
                    .target(Target::AtMost(5.0)),
                Row::new("line → log, synchronised → follower: p99", latency.quantile(0.99)?)
                    .target(Target::AtMost(25.0)),
            ],
        );
    }
    let (mut logs, mut follows) = (Vec::new(), Vec::new());
    for _ in 0..FLOODS {
        logs.push(logged(&site)?);
        follows.push(followed(&site)?);
    }
    // Events that the last flood left in the log, byte for byte.
    let payloads = payloads(&site)?;
    let nats = Nats::start(site.root()).and_then(|mut nats| nats.publish(&payloads));
    report.section(
        &format!(
            "{} lines of Codex as fast as they are taken, medians of {FLOODS} in turn; beside them {BESIDE} of the \
             same events as JetStream takes them (a file, sync_interval: always, acknowledged)",
            2 * FLOOD
        ),
        [
            Row::new("events: Codex → log, synchronised", Figure::PerSecond(middle(logs))),
            Row::new("events: Codex → log, synchronised → follower", Figure::PerSecond(middle(follows)))
                .beside("nats-server", nats.map(Figure::PerSecond).map_err(|error| error.to_string()))
                .target(Target::AtLeast(100_000.0)),
        ],
    );
    Ok(())
}

/// A running `relay events -f`.
struct Follower(Owned);

impl Follower {
    fn start(site: &Site, job: &str) -> Fallible<Self> {
        let mut command = site.command(&["events", "-f", "--json", job]);
        Ok(Self(Owned(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)))
    }

    /// Passes on each line as it arrives, until the job has ended.
    fn lines(&mut self, mut take: impl FnMut(&str)) -> Fallible<()> {
        let mut out = BufReader::new(self.0.stdout.take().ok_or("the follower is read already")?);
        let mut line = String::new();
        while out.read_line(&mut line)? > 0 && !stop::is_asked() {
            take(&line);
            line.clear();
        }
        Ok(())
    }
}

/// Measures the latency of each line.
fn latency(site: &Site, pause: u64, count: usize) -> Fallible<Samples> {
    let job = crowd::launch(site, &format!("ticks {} {pause}", count + WARM_UP));
    let mut times = Vec::new();
    Follower::start(site, &job)?.lines(|line| times.extend(since_written(line)))?;
    check(site, &job)?;
    let mut samples = Samples::default();
    times.into_iter().skip(WARM_UP).for_each(|time| samples.push(time));
    Ok(samples)
}

/// Time since the line was written, whose time is in this event's title.
fn since_written(line: &str) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let (_, title) = line.split_once("\"title\":\"echo ")?;
    let (nanos, _) = title.split_once('"')?;
    now.checked_sub(Duration::from_nanos(nanos.parse().ok()?))
}

/// Returns the first lines of the newest job's event log.
fn payloads(site: &Site) -> Fallible<Vec<Vec<u8>>> {
    let record = fs::read_link(site.registry().join("latest"))?;
    let log = fs::read(site.registry().join(record.with_extension("events.jsonl")))?;
    let lines = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.take(BESIDE).map(<[u8]>::to_vec).collect())
}

fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[FLOODS / 2]
}

/// Measures the events a second that reach the log.
fn logged(site: &Site) -> Fallible<f64> {
    let job = crowd::launch(site, &format!("flood {FLOOD}"));
    let path = site.registry().join(format!("{}.events.jsonl", job.replace('#', ".")));
    let (mut len, mut grown) = (0, (SystemTime::now(), Instant::now()));
    // Only the length is read, which costs the machine next to nothing.
    stop::until("the end of a flood", Duration::from_millis(1), PATIENCE, || {
        let now = fs::metadata(&path).map_or(0, |log| log.len());
        if now > len {
            (len, grown) = (now, (SystemTime::now(), Instant::now()));
        }
        // A flood counts as over after a pause of this length.
        (grown.1.elapsed() > Duration::from_secs(1)).then_some(())
    })?;
    rate(site, &job, grown.0)
}

/// Measures the events a second that reach a follower.
fn followed(site: &Site) -> Fallible<f64> {
    let job = crowd::launch(site, &format!("flood {FLOOD}"));
    let mut last = SystemTime::now();
    Follower::start(site, &job)?.lines(|_| last = SystemTime::now())?;
    rate(site, &job, last)
}

/// Number of all events of a job, divided by the time from its `Started` event to `ended`.
fn rate(site: &Site, job: &str, ended: SystemTime) -> Fallible<f64> {
    check(site, job)?;
    let lines = site.events(job);
    let started = lines.iter().filter_map(|line| line.event.as_ref());
    let mut started = started.filter(|event| matches!(event.body, EventBody::Started { .. }));
    let begun = started.next().ok_or("the job never started")?.at.as_millisecond();
    let time = ended.duration_since(UNIX_EPOCH + Duration::from_millis(begun.try_into()?))?;
    Ok(f64::from(u32::try_from(lines.len())?) / time.as_secs_f64())
}

/// Refuses to take a figure from a job that did not complete.
fn check(site: &Site, job: &str) -> Fallible<()> {
    let record = site.record(job);
    if record.state == State::Completed {
        return Ok(());
    }
    Err(format!("{job} is {:?}: {:?}", record.state, record.error).into())
}
