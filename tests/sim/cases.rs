//! Runs numbered cases on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use relay_tests::harness::figures::times;

/// Runs the cases below `cases`, each thread with a state of its own; returns the results in the order of the cases.
pub(crate) fn run_cases<S, R: Send>(
    cases: u64,
    make: impl Fn() -> S + Sync,
    run: impl Fn(&mut S, u64) -> Option<R> + Sync,
) -> Vec<(u64, R)> {
    let (next, found) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut state = make();
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= cases {
                        return;
                    }
                    if let Some(result) = run(&mut state, case) {
                        found.lock().expect("no panic").push((case, result));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no panic");
    found.sort_unstable_by_key(|(case, _)| *case);
    found
}

/// Checks cases like [`run_cases`]; returns a description of each case that fails.
pub(crate) fn failing_cases<S>(
    cases: usize,
    make: impl Fn() -> S + Sync,
    check: impl Fn(&mut S, usize) -> Result<(), String> + Sync,
) -> Vec<String> {
    let run = |state: &mut S, case| check(state, usize::try_from(case).ok()?).err();
    let wrong = run_cases(cases as u64, make, run);
    wrong.into_iter().map(|(case, reason)| format!("case {case}: {reason}")).collect()
}

/// One bit to flip in a file.
pub(crate) struct BitFlip {
    pub(crate) byte: usize,
    pub(crate) mask: u8,
}

/// Returns the bits to flip in a file of `size` bytes: one bit of each byte, and every bit in nightly runs.
pub(crate) fn bit_flips(size: usize) -> Vec<BitFlip> {
    let flip = |byte: usize, bit: usize| BitFlip { byte, mask: 1 << (bit % 8) };
    times(
        // Neighbouring bytes get different bits.
        (0..size).map(|byte| flip(byte, byte * 3)).collect(),
        (0..size * 8).map(|bit| flip(bit / 8, bit)).collect(),
    )
}
