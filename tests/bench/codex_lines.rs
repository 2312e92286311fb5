//! Latency and throughput of Codex's lines on their way through the agent, its spool, the relay and the synchronised
//! event log to `relay events -f` (the follower).

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::event::EventBody;
use common::record::State;
use relay_tests::harness::Site;
use relay_tests::harness::processes::OwnedChild;

use crate::peers::Nats;
use crate::samples::Samples;
use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, crowd, stop};

/// Rates at which the latency is measured: events per second, milliseconds between two lines (each command gives two
/// lines and four events), and the number of measured commands.
const PACES: [(u32, u64, usize); 2] = [(10, 200, 100), (1_000, 2, 2_000)];
/// Number of commands that are written while the follower starts, and not measured.
const WARM_UP: usize = 10;
/// Number of commands of a flood. Each gives two lines and four events: two of the step, two of the wait for the model.
const FLOOD_COMMANDS: u32 = 250_000;
/// Number of events of a flood that `JetStream` gets, which is slower.
const NATS_EVENTS: usize = 100_000;
/// Number of floods of each kind, which run in turn; odd, so that there is a median.
const FLOODS: usize = 3;
/// Maximum time of a flood.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Measures the group `lines` and adds its rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let site = crowd::empty_site(1)?;
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
        logs.push(rate_to_log(&site)?);
        follows.push(rate_to_follower(&site)?);
    }
    // The same bytes as in the event log of the last flood.
    let payloads = newest_log_lines(&site)?;
    let nats = Nats::start(site.root()).and_then(|mut nats| nats.publish(&payloads));
    report.section(
        &format!(
            "{} lines of Codex as fast as they are taken, medians of {FLOODS} in turn; beside them {NATS_EVENTS} of \
             the same events as JetStream takes them (a file, sync_interval: always, acknowledged)",
            2 * FLOOD_COMMANDS
        ),
        [
            Row::new("events: Codex → log, synchronised", Figure::PerSecond(median(logs))),
            Row::new("events: Codex → log, synchronised → follower", Figure::PerSecond(median(follows)))
                .beside("nats-server", nats.map(Figure::PerSecond).map_err(|error| error.to_string()))
                .target(Target::AtLeast(100_000.0)),
        ],
    );
    Ok(())
}

/// A running `relay events -f`.
struct Follower(OwnedChild);

impl Follower {
    fn start(site: &Site, job: &str) -> Fallible<Self> {
        let mut command = site.command(&["events", "-f", "--json", job]);
        Ok(Self(OwnedChild(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)))
    }

    /// Calls `on_line` for each line when it arrives, until the job has ended.
    fn read_lines(&mut self, mut on_line: impl FnMut(&str)) -> Fallible<()> {
        let mut out = BufReader::new(self.0.stdout.take().ok_or("the follower is read already")?);
        let mut line = String::new();
        while out.read_line(&mut line)? > 0 && !stop::is_requested() {
            on_line(&line);
            line.clear();
        }
        Ok(())
    }
}

/// Runs a job of the stand-in and returns the times from the writing of each command to its arrival at a follower.
fn latency(site: &Site, pause: u64, count: usize) -> Fallible<Samples> {
    let job = crowd::launch(site, &format!("ticks {} {pause}", count + WARM_UP));
    let mut times = Vec::new();
    Follower::start(site, &job)?.read_lines(|line| times.extend(since_written(line)))?;
    check_completed(site, &job)?;
    let mut samples = Samples::default();
    times.into_iter().skip(WARM_UP).for_each(|time| samples.push(time));
    Ok(samples)
}

/// Returns the time since the stand-in wrote a command; `None` for an event without the title that contains that time.
fn since_written(line: &str) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let (_, title) = line.split_once("\"title\":\"echo ")?;
    let (nanos, _) = title.split_once('"')?;
    now.checked_sub(Duration::from_nanos(nanos.parse().ok()?))
}

/// Returns the first lines of the newest job's event log.
fn newest_log_lines(site: &Site) -> Fallible<Vec<Vec<u8>>> {
    let record = fs::read_link(site.registry().join("latest"))?;
    let log = fs::read(site.registry().join(record.with_extension("events.jsonl")))?;
    let lines = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.take(NATS_EVENTS).map(<[u8]>::to_vec).collect())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[FLOODS / 2]
}

/// Measures how many events per second reach the log.
fn rate_to_log(site: &Site) -> Fallible<f64> {
    let job = crowd::launch(site, &format!("flood {FLOOD_COMMANDS}"));
    let path = site.registry().join(format!("{}.events.jsonl", job.replace('#', ".")));
    let (mut len, mut last_growth) = (0, (SystemTime::now(), Instant::now()));
    // Only the length of the log is read, which takes almost no CPU time.
    stop::until("the end of a flood", Duration::from_millis(1), TIMEOUT, || {
        let now = fs::metadata(&path).map_or(0, |log| log.len());
        if now > len {
            (len, last_growth) = (now, (SystemTime::now(), Instant::now()));
        }
        // A flood has ended if the log has not grown for this time.
        (last_growth.1.elapsed() > Duration::from_secs(1)).then_some(())
    })?;
    rate(site, &job, last_growth.0)
}

/// Measures how many events per second reach a follower.
fn rate_to_follower(site: &Site) -> Fallible<f64> {
    let job = crowd::launch(site, &format!("flood {FLOOD_COMMANDS}"));
    let mut last = SystemTime::now();
    Follower::start(site, &job)?.read_lines(|_| last = SystemTime::now())?;
    rate(site, &job, last)
}

/// Returns the number of events of a job, divided by the seconds from the job's `Started` event to `ended`.
fn rate(site: &Site, job: &str, ended: SystemTime) -> Fallible<f64> {
    check_completed(site, job)?;
    let lines = site.events(job);
    let started = lines.iter().filter_map(|line| line.event.as_ref());
    let mut started = started.filter(|event| matches!(event.body, EventBody::Started { .. }));
    let begun = started.next().ok_or("the job never started")?.at.as_millisecond();
    let time = ended.duration_since(UNIX_EPOCH + Duration::from_millis(begun.try_into()?))?;
    Ok(f64::from(u32::try_from(lines.len())?) / time.as_secs_f64())
}

/// Fails if a job did not complete.
fn check_completed(site: &Site, job: &str) -> Fallible<()> {
    let record = site.record(job);
    if record.state == State::Completed {
        return Ok(());
    }
    Err(format!("{job} is {:?}: {:?}", record.state, record.error).into())
}
