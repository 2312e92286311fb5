//! Tests that read a log after it was cut at any byte, or after any single bit was flipped. Each line must be read
//! exactly as it was written, or not at all.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::event::{Event, EventBody, Queued};
use common::event_line::{EventLine, Source};
use common::job::Runner;
use jiff::Timestamp;
use relay::internals::{LogContent, SimRelay, read_log};
use relay_tests::harness::figures::{figure, times};

use crate::cases::{BitFlip, bit_flips, failing_cases};
use crate::create_folder;

/// Size of the log, in bytes.
const SIZE: usize = 64 * 1024;

/// A log of exactly [`SIZE`] bytes, with the position after each of its lines.
struct SampleLog {
    lines: Vec<EventLine>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl SampleLog {
    fn new() -> Self {
        let mut sample = Self { lines: Vec::new(), bytes: Vec::new(), ends: Vec::new() };
        sample.push(EventBody::Queued(Box::new(Queued {
            workspace: "/w".to_owned(),
            prompt_summary: "true".to_owned(),
            runner: Runner::Shell,
            engine: "local".to_owned(),
            log_path: "/l".to_owned(),
            events_path: "/e".to_owned(),
            ..Queued::default()
        })));
        // The lines have many lengths, so that in each field every position gets a wrong bit in some line.
        while sample.bytes.len() < SIZE - 4500 {
            let n = sample.lines.len();
            sample.push(EventBody::Message { text: format!("{n} ").repeat(1 + n * 997 % 1000) });
        }
        // The last two lines share the remaining space.
        let left = SIZE - sample.bytes.len();
        let message = |text: String| EventBody::Message { text };
        let empty = sample.line(message(String::new())).to_bytes().expect("a line").len();
        sample.push(message("x".repeat(left / 2 - empty)));
        let left = SIZE - sample.bytes.len();
        let empty = sample.line(message(String::new())).to_bytes().expect("a line").len();
        sample.push(message("y".repeat(left - empty)));
        assert_eq!(sample.bytes.len(), SIZE);
        sample
    }

    fn line(&self, body: EventBody) -> EventLine {
        let n = self.lines.len() as u64;
        let relay = n == 0;
        EventLine {
            id: 1000 + n,
            job: "log#1".parse().expect("a job"),
            epoch: u32::from(!relay),
            seq: n.max(1),
            source: if relay { Source::Relay } else { Source::Agent },
            event: Some(Event { at: Timestamp::UNIX_EPOCH, body }),
        }
    }

    fn push(&mut self, body: EventBody) {
        let line = self.line(body);
        self.bytes.extend(line.to_bytes().expect("a line"));
        self.lines.push(line);
        self.ends.push(self.bytes.len());
    }

    /// Index of the line that contains a byte.
    fn line_of(&self, byte: usize) -> usize {
        self.ends.partition_point(|end| *end <= byte)
    }
}

/// A file with a copy of the sample log.
struct LogCopy {
    path: PathBuf,
    file: File,
    /// Folder of the file; it is removed when the copy is dropped.
    _folder: tempfile::TempDir,
}

impl LogCopy {
    fn of(sample: &SampleLog) -> Self {
        let folder = create_folder();
        let path = folder.path().join("log");
        fs::write(&path, &sample.bytes).expect("a file");
        let file = File::options().write(true).open(&path).expect("a file");
        Self { path, file, _folder: folder }
    }

    fn read(&self) -> Result<LogContent, String> {
        read_log(&self.path).map_err(|e| e.to_string())
    }
}

/// Checks that a log with damage in line `damaged` holds all other lines and reports the damage.
fn check_damaged_log(sample: &SampleLog, log: &LogContent, damaged: usize) -> Result<(), String> {
    if log.valid_bytes + log.torn_bytes != SIZE as u64 {
        return Err(format!("{} good and {} torn bytes", log.valid_bytes, log.torn_bytes));
    }
    // If the newline between two lines is damaged, both are lost.
    let lost = if sample.lines.len() - log.lines.len() == 2 { 2 } else { 1 };
    let (before, after) = (&sample.lines[..damaged], sample.lines.get(damaged + lost..).unwrap_or_default());
    if !log.lines.iter().eq(before.iter().chain(after)) {
        return Err(format!("{} lines are kept, not all but {lost} from {damaged} on", log.lines.len()));
    }
    let is_tail = damaged + lost == sample.lines.len();
    let is_reported =
        if is_tail { log.torn_bytes > 0 && log.bad_lines.is_empty() } else { !log.bad_lines.is_empty() };
    if is_reported { Ok(()) } else { Err(format!("line {damaged} is not reported: {:?}", log.bad_lines)) }
}

#[test]
fn s03_a_log_cut_anywhere_gives_exactly_its_whole_lines() {
    let sample = SampleLog::new();
    let wrong = failing_cases(
        SIZE + 1,
        || LogCopy::of(&sample),
        |copy, case| {
            let length = SIZE - case;
            // Each thread gets increasing cases, so that its copy only becomes shorter.
            copy.file.set_len(length as u64).expect("a file can be cut");
            let log = copy.read()?;
            let whole = sample.ends.partition_point(|end| *end <= length);
            let good = whole.checked_sub(1).map_or(0, |last| sample.ends[last]);
            let has_right_sizes = (log.valid_bytes, log.torn_bytes) == (good as u64, (length - good) as u64);
            if has_right_sizes && log.lines == sample.lines[..whole] && log.bad_lines.is_empty() {
                Ok(())
            } else {
                Err(format!("{} lines, {} torn bytes", log.lines.len(), log.torn_bytes))
            }
        },
    );
    figure(&format!(
        "log of {SIZE} bytes truncated (fault S03): {} lengths, wrong {}",
        SIZE + 1,
        wrong.len()
    ));
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn s04_a_log_with_any_single_bit_flipped_is_never_accepted_altered() {
    let sample = SampleLog::new();
    let cases = bit_flips(SIZE);
    let wrong = failing_cases(
        cases.len(),
        || LogCopy::of(&sample),
        |copy, case| {
            let BitFlip { byte, mask } = cases[case];
            let write = |value: u8| copy.file.write_all_at(&[value], byte as u64).expect("a file");
            write(sample.bytes[byte] ^ mask);
            let log = copy.read();
            write(sample.bytes[byte]);
            check_damaged_log(&sample, &log?, sample.line_of(byte))
        },
    );
    let count = wrong.len();
    figure(&format!(
        "bits of a log of {SIZE} bytes flipped (fault S04): {} bits, accepted or lost without a report {count}",
        cases.len()
    ));
    assert_eq!(wrong, Vec::<String>::new());
}

/// Creates a registry of one job, whose log is the sample followed by `tail`. Returns its folder and the log's path.
fn registry_with_log(sample: &SampleLog, tail: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = create_folder();
    let path = folder.path().join("platform/workers/log.1.events.jsonl");
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(&path, [&sample.bytes, tail].concat()).expect("a file");
    (folder, path)
}

#[test]
fn s05_zeroes_after_the_last_line_are_cut_off_as_a_torn_tail() {
    let sample = SampleLog::new();
    for zeroes in [1, 4096, 1024 * 1024] {
        let (folder, path) = registry_with_log(&sample, &vec![0; zeroes]);
        let log = read_log(&path).expect("a log");
        assert_eq!((log.torn_bytes, log.lines.len()), (zeroes as u64, sample.lines.len()));
        drop(SimRelay::open(folder.path()).expect("a relay"));
        let log = read_log(&path).expect("a log");
        assert_eq!((log.torn_bytes, &log.bad_lines), (0, &Vec::new()));
        assert_eq!(log.lines[..sample.lines.len()], sample.lines);
        figure(&format!(
            "{zeroes} zeroes after a log (fault S05): cut off, {} lines kept",
            sample.lines.len()
        ));
    }
}

#[test]
fn s04_a_start_repairs_damage_keeps_the_rest_and_sets_the_damage_aside_once() {
    let sample = SampleLog::new();
    let cases = times(300, 20_000);
    let wrong = failing_cases(
        cases,
        || (),
        |(), case| {
            // The factor is a prime number, so that the cases are spread over all lines and positions.
            let byte = case * 7919 % SIZE;
            let (folder, path) = registry_with_log(&sample, b"");
            let file = File::options().write(true).open(&path).expect("a file");
            file.write_all_at(&[sample.bytes[byte] ^ (1 << (case % 8))], byte as u64).expect("a file");
            check_repair(&sample, folder.path(), &path, sample.line_of(byte))
        },
    );
    figure(&format!(
        "damaged logs repaired twice each at a start (fault S04): {cases} logs, wrong {}",
        wrong.len()
    ));
    assert_eq!(wrong, Vec::<String>::new());
}

fn check_repair(sample: &SampleLog, root: &Path, path: &Path, damaged: usize) -> Result<(), String> {
    for _ in 0..2 {
        drop(SimRelay::open(root).map_err(|e| e.to_string())?);
    }
    // Without its first line the log does not say what the job is: it is left unchanged.
    if damaged == 0 {
        return Ok(());
    }
    let log = read_log(path).map_err(|e| e.to_string())?;
    if log.torn_bytes > 0 || !log.bad_lines.is_empty() {
        return Err(format!("it is not whole: {} torn, {:?}", log.torn_bytes, log.bad_lines));
    }
    let kept: Vec<&EventLine> = log.lines.iter().filter(|line| line.source == Source::Agent).collect();
    let missing = sample.lines[1..].iter().filter(|line| !kept.contains(line)).count();
    if missing > 2 || kept.len() + missing != sample.lines.len() - 1 {
        return Err(format!("{missing} lines are missing, {} kept", kept.len()));
    }
    let files = fs::read_dir(path.parent().expect("a parent")).expect("a folder").flatten();
    let aside = files.filter(|file| file.file_name().to_string_lossy().contains(".corrupt-")).count();
    let is_tail = damaged + missing == sample.lines.len();
    if aside == usize::from(!is_tail) { Ok(()) } else { Err(format!("{aside} files were set aside")) }
}
