//! A small part of fuzzing in every run of the tests: calls each check of `tests/fuzz` with its seeds and with mutated
//! seeds. The mutations are the same in every run, so a failure can be repeated. `tests/fuzz.sh` searches for longer,
//! guided by coverage.

#![expect(clippy::expect_used, reason = "a panic in a helper fails the test")]

use std::fs;
use std::path::Path;

use fastrand::Rng;

#[expect(unreachable_pub, reason = "the library of the fuzz targets")]
#[path = "../fuzz/src/lib.rs"]
mod relay_fuzz;

/// Maximum number of mutations of one input.
const MAX_MUTATIONS: usize = 8;
/// Maximum length of an input, in bytes.
const MAX_BYTES: usize = 128 << 10;
/// Bytes that parsers often treat specially.
const SPECIAL_BYTES: [u8; 10] = [0, 1, b'\n', b'\r', b'"', b'\\', b'{', 0x7f, 0x80, 0xff];

/// Calls a check with every seed of a target, and with `rounds` mutated seeds.
fn run_check(target: &str, rounds: usize, check: fn(&[u8])) {
    let seeds = read_seeds(target);
    for seed in &seeds {
        check(seed);
    }
    let mut rng = Rng::with_seed(0);
    for _ in 0..rounds {
        let mut input = rng.choice(&seeds).expect("a seed").clone();
        for _ in 0..rng.usize(1..=MAX_MUTATIONS) {
            mutate(&mut input, &seeds, &mut rng);
        }
        input.truncate(MAX_BYTES);
        check(&input);
    }
}

fn read_seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("seeds").map(|entry| entry.expect("a seed").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a seed")).collect()
}

/// Applies one random mutation to an input.
fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut Rng) {
    let (from, to) = random_range(input.len(), rng);
    match rng.u8(0..7) {
        0 if from < input.len() => input[from] ^= 1 << rng.u8(0..8),
        1 if from < input.len() => input[from] = *rng.choice(&SPECIAL_BYTES).expect("a byte"),
        2 => drop(input.drain(from..to)),
        3 => input.truncate(from),
        4 => {
            let copy = input[from..to].to_vec();
            input.splice(to..to, copy);
        }
        5 => {
            let other = rng.choice(seeds).expect("a seed");
            let (start, end) = random_range(other.len(), rng);
            input.splice(from..to, other[start..end].iter().copied());
        }
        _ => input.insert(from, rng.u8(..)),
    }
}

/// Returns the bounds of a random range of a sequence of this length. The range may be empty.
fn random_range(len: usize, rng: &mut Rng) -> (usize, usize) {
    let (a, b) = (rng.usize(0..=len), rng.usize(0..=len));
    (a.min(b), a.max(b))
}

macro_rules! targets {
    ($($test:ident: $target:literal, $rounds:literal, $check:ident;)+) => {$(
        #[test]
        fn $test() {
            run_check($target, $rounds, relay_fuzz::$check::check);
        }
    )+};
}

// The numbers of rounds, each of which takes some seconds.
targets! {
    a_frame_of_an_agent_is_refused_or_decoded_correctly: "agent-frame", 200_000, agent_frame;
    a_frame_of_a_relay_is_refused_or_decoded_correctly: "relay-frame", 200_000, relay_frame;
    events_of_codex_do_not_depend_on_the_chunks_of_its_output: "codex", 500, codex;
    any_text_is_a_valid_configuration_or_refused_in_one_line: "config", 5_000, config;
    every_byte_of_an_event_log_is_read_or_reported: "event-log", 2_000, event_log;
    a_request_is_refused_or_read_as_it_was_written: "requests", 50_000, requests;
    a_record_is_refused_or_read_as_it_was_written: "records", 20_000, records;
    a_spool_reads_a_segment_up_to_damage_and_appends_to_it: "spool", 500, spool;
}
