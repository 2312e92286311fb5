//! Runs every case there is, on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Checks the cases from 0 on, each thread with a state of its own; returns descriptions of the cases that fail.
pub(crate) fn every<S>(
    cases: usize,
    make: impl Fn() -> S + Sync,
    check: impl Fn(&mut S, usize) -> Result<(), String> + Sync,
) -> Vec<String> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut state = make();
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= cases {
                        return;
                    }
                    if let Err(reason) = check(&mut state, case) {
                        wrong.lock().expect("no panic").push(format!("case {case}: {reason}"));
                    }
                }
            });
        }
    });
    wrong.into_inner().expect("no panic")
}
