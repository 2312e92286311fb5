//! A bounded share of fuzzing for every run: each check of `tests/fuzz` on its seeds and on mutations of them. The same
//! ones each time: a failure repeats. `tests/fuzz.sh` searches for longer, guided by coverage.

#![expect(clippy::expect_used, reason = "a panic in a helper fails the test")]

use std::fs;
use std::path::Path;

use fastrand::Rng;

#[expect(unreachable_pub, reason = "the library of the fuzz targets")]
#[path = "../fuzz/src/lib.rs"]
mod relay_fuzz;

/// Maximum number of mutations of one input.
const MOST_MUTATIONS: usize = 8;
/// Maximum length of an input, in bytes.
const MOST_BYTES: usize = 128 << 10;
/// Bytes that readers tend to treat specially.
const SPECIAL: [u8; 10] = [0, 1, b'\n', b'\r', b'"', b'\\', b'{', 0x7f, 0x80, 0xff];

/// Runs a check on every seed of a target, and on `rounds` mutated ones.
fn feed(target: &str, rounds: usize, check: fn(&[u8])) {
    let seeds = seeds(target);
    for seed in &seeds {
        check(seed);
    }
    let mut rng = Rng::with_seed(0);
    for _ in 0..rounds {
        let mut input = rng.choice(&seeds).expect("a seed").clone();
        for _ in 0..rng.usize(1..=MOST_MUTATIONS) {
            mutate(&mut input, &seeds, &mut rng);
        }
        input.truncate(MOST_BYTES);
        check(&input);
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("seeds").map(|entry| entry.expect("a seed").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a seed")).collect()
}

/// Changes one thing of an input.
fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut Rng) {
    let (from, to) = range(input.len(), rng);
    match rng.u8(0..7) {
        0 if from < input.len() => input[from] ^= 1 << rng.u8(0..8),
        1 if from < input.len() => input[from] = *rng.choice(&SPECIAL).expect("a byte"),
        2 => drop(input.drain(from..to)),
        3 => input.truncate(from),
        4 => {
            let copy = input[from..to].to_vec();
            input.splice(to..to, copy);
        }
        5 => {
            let other = rng.choice(seeds).expect("a seed");
            let (start, end) = range(other.len(), rng);
            input.splice(from..to, other[start..end].iter().copied());
        }
        _ => input.insert(from, rng.u8(..)),
    }
}

/// Returns a range within a length; it may be empty.
fn range(len: usize, rng: &mut Rng) -> (usize, usize) {
    let (a, b) = (rng.usize(0..=len), rng.usize(0..=len));
    (a.min(b), a.max(b))
}

macro_rules! targets {
    ($($test:ident: $target:literal, $rounds:literal, $check:ident;)+) => {$(
        #[test]
        fn $test() {
            feed($target, $rounds, relay_fuzz::$check::check);
        }
    )+};
}

// As many rounds as take some seconds each.
targets! {
    frames_of_agents_are_refused_or_read_back: "agent-frame", 200_000, agent_frame;
    frames_of_relays_are_refused_or_read_back: "relay-frame", 200_000, relay_frame;
    lines_of_codex_do_not_depend_on_their_pieces: "codex", 500, codex;
    any_text_is_a_configuration_or_one_line_of_reason: "config", 5_000, config;
    every_byte_of_an_event_log_is_accounted_for: "event-log", 2_000, event_log;
    requests_are_refused_or_read_back: "requests", 50_000, requests;
    records_are_refused_or_read_back: "records", 20_000, records;
    a_spool_ends_at_damage_and_goes_on: "spool", 500, spool;
}
