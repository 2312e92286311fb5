//! Trace: a line for each step of a seed, for analysing the seed's failure.

use crate::determinism::Digest;

/// Destination of the trace's lines.
#[derive(Debug, Clone)]
pub(crate) enum Trace {
    Silent,
    Printed,
    Digested(Digest),
}

impl Trace {
    /// Writes one line; `text` is called only if the line is used.
    #[expect(clippy::print_stdout, reason = "a user prints the trace of a seed to read it")]
    pub(crate) fn write_line(&self, step: u64, text: impl FnOnce() -> String) {
        match self {
            Self::Silent => {}
            Self::Printed => println!("{step:5} {}", text()),
            Self::Digested(digest) => digest.add(&format!("{step} {}", text())),
        }
    }
}

/// Numbers of actions, faults and results, over one seed or many.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) seeds: u64,
    pub(crate) steps: u64,
    pub(crate) frames: u64,
    pub(crate) cuts: u64,
    pub(crate) kills: u64,
    pub(crate) power_losses: u64,
    pub(crate) jobs: u64,
    pub(crate) events: u64,
    pub(crate) freezes: u64,
    pub(crate) clocks_set: u64,
    pub(crate) bad_files: u64,
    pub(crate) cancels: u64,
    pub(crate) left_requests: u64,
    pub(crate) timeouts: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.frames += other.frames;
        self.cuts += other.cuts;
        self.kills += other.kills;
        self.power_losses += other.power_losses;
        self.jobs += other.jobs;
        self.events += other.events;
        self.freezes += other.freezes;
        self.clocks_set += other.clocks_set;
        self.bad_files += other.bad_files;
        self.cancels += other.cancels;
        self.left_requests += other.left_requests;
        self.timeouts += other.timeouts;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seeds, steps, frames, cuts, kills, power_losses, jobs, events, .. } = self;
        let Self { freezes, clocks_set, bad_files, cancels, left_requests, timeouts, .. } = self;
        write!(
            f,
            "{seeds} seeds, {steps} steps, {frames} frames, connections cut {cuts}, crashes {}, of them power \
             losses {power_losses}, freezes {freezes}, clocks set {clocks_set}, files damaged {bad_files}, requests \
             left {left_requests}, {jobs} jobs, of them cancelled {cancels}, over their limit {timeouts}, {events} \
             events",
            kills + power_losses
        )
    }
}
