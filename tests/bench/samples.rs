//! Medians of measured times, and commands that run in turn, so that other load on the machine affects all alike.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::stop;
use crate::table::Figure;

/// Pause between two commands. Meanwhile the daemon finishes the work that the last command has caused.
const PAUSE: Duration = Duration::from_millis(10);

/// Measured times, in seconds.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64());
    }

    pub(crate) fn median(&self) -> Fallible<Figure> {
        self.quantile(0.5)
    }

    /// Returns the value that `part` of the samples (0 to 1) do not exceed: a sample, not an interpolated value.
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
        let index = (last as f64 * part).round() as usize;
        Ok(Figure::Millis(sorted[index.min(last)] * 1000.0))
    }
}

/// A command that is compared with others, and its measured times.
pub(crate) struct Contender<'a> {
    name: &'static str,
    new_command: Box<dyn Fn() -> Command + 'a>,
    samples: Result<Samples, String>,
}

impl<'a> Contender<'a> {
    /// Creates a contender; `name` is its name in the table.
    pub(crate) fn new(name: &'static str, new_command: impl Fn() -> Command + 'a) -> Self {
        Self { name, new_command: Box::new(new_command), samples: Ok(Samples::default()) }
    }

    /// Creates a contender of another tool, which may be missing.
    pub(crate) fn of<T>(
        name: &'static str,
        tool: &'a Result<T, String>,
        new_command: impl Fn(&'a T) -> Command + 'a,
    ) -> Self {
        match tool {
            Ok(tool) => Self::new(name, move || new_command(tool)),
            Err(reason) => {
                Self { name, new_command: Box::new(|| Command::new("true")), samples: Err(reason.clone()) }
            }
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the median of the command's times, or the reason why there is none.
    pub(crate) fn median(&self) -> Result<Figure, String> {
        let samples = self.samples.as_ref().map_err(Clone::clone)?;
        samples.median().map_err(|e| e.to_string())
    }
}

/// Runs each command once per round. Each round begins with another command, so that none always follows a heavy one.
pub(crate) fn take_turns(contenders: &mut [Contender<'_>], rounds: usize) -> Fallible<()> {
    for round in 0..=rounds {
        for i in 0..contenders.len() {
            let index = (round + i) % contenders.len();
            let contender = &mut contenders[index];
            let Ok(samples) = &mut contender.samples else { continue };
            match time(&mut (contender.new_command)()) {
                // The first round only warms up the caches.
                Ok(_) if round == 0 => {}
                Ok(time) => samples.push(time),
                Err(error) => contender.samples = Err(error.to_string()),
            }
            stop::pause(PAUSE)?;
        }
    }
    Ok(())
}

/// Runs a command; returns the time from spawn to exit.
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
