//! Medians, and commands that take turns so that noise of the machine affects all of them alike.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::stop;
use crate::table::Figure;

/// Pause between two commands, in which the work that the last one left to its daemon is done (a log to synchronise, a
/// task to note).
const GAP: Duration = Duration::from_millis(10);

/// Measured values, in seconds.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64());
    }

    pub(crate) fn median(&self) -> Fallible<Figure> {
        self.quantile(0.5)
    }

    /// Value below which this part of the samples lies: the nearest sample, never an interpolated value.
    pub(crate) fn quantile(&self, part: f64) -> Fallible<Figure> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1).ok_or("nothing was measured")?;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index into at most some thousand samples"
        )]
        let place = (last as f64 * part).round() as usize;
        Ok(Figure::Millis(sorted[place.min(last)] * 1000.0))
    }
}

/// A command that takes part, and its results.
pub(crate) struct Contender<'a> {
    name: &'static str,
    make: Box<dyn Fn() -> Command + 'a>,
    outcome: Result<Samples, String>,
}

impl<'a> Contender<'a> {
    /// Creates a contender; `name` is its name in the table.
    pub(crate) fn new(name: &'static str, make: impl Fn() -> Command + 'a) -> Self {
        Self { name, make: Box::new(make), outcome: Ok(Samples::default()) }
    }

    /// Creates a contender of another tool, which may be missing.
    pub(crate) fn of<T>(
        name: &'static str,
        tool: &'a Result<T, String>,
        make: impl Fn(&'a T) -> Command + 'a,
    ) -> Self {
        match tool {
            Ok(tool) => Self::new(name, move || make(tool)),
            Err(reason) => {
                Self { name, make: Box::new(|| Command::new("true")), outcome: Err(reason.clone()) }
            }
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Its median, or the reason why there is none.
    pub(crate) fn median(&self) -> Result<Figure, String> {
        let samples = self.outcome.as_ref().map_err(Clone::clone)?;
        samples.median().map_err(|e| e.to_string())
    }
}

/// Runs each command once a round, in order; each round begins with the next command, so that the one after a heavy
/// command is not always the same.
pub(crate) fn take_turns(contenders: &mut [Contender<'_>], rounds: usize) -> Fallible<()> {
    for round in 0..=rounds {
        for i in 0..contenders.len() {
            let place = (round + i) % contenders.len();
            let contender = &mut contenders[place];
            let Ok(samples) = &mut contender.outcome else { continue };
            match time(&mut (contender.make)()) {
                // The first round warms up the caches and does not count.
                Ok(_) if round == 0 => {}
                Ok(time) => samples.push(time),
                Err(error) => contender.outcome = Err(error.to_string()),
            }
            stop::pause(GAP)?;
        }
    }
    Ok(())
}

/// Time of a command from spawn to exit.
pub(crate) fn time(command: &mut Command) -> Fallible<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let status = command.status()?;
    let time = begun.elapsed();
    if status.success() {
        Ok(time)
    } else {
        Err(format!("{}: {status}", command.get_program().display()).into())
    }
}
