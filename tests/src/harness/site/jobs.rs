//! Jobs of a site: their launch, records, events and logs.

use std::fs;

use common::event_line::EventLine;
use common::record::{JobRecord, State};

use super::Site;
use crate::harness::until;

impl Site {
    /// Launches a shell job that waits for no other in the workspace; returns its id.
    pub fn launch_shell(&self, command_line: &str, flags: &[&str]) -> String {
        let workspace = self.workspace();
        let workspace = workspace.to_string_lossy();
        let mut args = vec!["launch", "-q", "--runner", "shell", "-w", &workspace];
        if !flags.iter().any(|arg| arg.starts_with("--branch")) {
            args.push("--share");
        }
        args.extend(flags);
        args.push(command_line);
        self.relay(&args).trim().to_owned()
    }

    /// Launches a shell job, waits until it runs, and returns its id.
    pub fn launch_running(&self, command_line: &str, flags: &[&str]) -> String {
        let job = self.launch_shell(command_line, flags);
        self.record_when(&job, "runs", |record| record.state == State::Running);
        job
    }

    /// Returns the record of a job as printed by `relay status`.
    pub fn record(&self, job: &str) -> JobRecord {
        let json = self.relay(&["status", "--json", job]);
        serde_json::from_str(&json).unwrap_or_else(|e| panic!("{job}: {e}: {json}"))
    }

    /// Waits until `is_wanted` returns true for the record of a job, which must not end before; returns the record.
    pub fn record_when(&self, job: &str, what: &str, is_wanted: impl Fn(&JobRecord) -> bool) -> JobRecord {
        until(&format!("{job} {what}"), || {
            let record = self.record(job);
            let ended_otherwise = record.state.is_final() && !is_wanted(&record);
            assert!(!ended_otherwise, "{job} ended before {what}: {record:#?}\n{}", self.daemon_log());
            is_wanted(&record).then_some(record)
        })
    }

    /// Waits until a job has ended, and returns its record.
    pub fn ended(&self, job: &str) -> JobRecord {
        self.record_when(job, "ended", |record| record.state.is_final())
    }

    /// Waits until the relay has written the notices of ended jobs, each after its record, and returns the output of
    /// `relay notices`.
    pub fn notices_of(&self, jobs: &[&str]) -> String {
        for job in jobs {
            let entry = self.registry().join("outbox").join(format!("{}.json", job.replace('#', ".")));
            until(&format!("the notice of {job} is written"), || entry.exists().then_some(()));
        }
        self.relay(&["notices"])
    }

    /// Returns the lines of a job's event log, which must all be valid; none before the relay has received the job.
    pub fn events(&self, job: &str) -> Vec<EventLine> {
        let path = self.file_path(job, "events.jsonl");
        let text = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            text => text.unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        };
        text.split_inclusive(|b| *b == b'\n')
            .map(|line| EventLine::parse(line).unwrap_or_else(|e| panic!("{job}: {e}")))
            .collect()
    }

    /// Returns the output of `relay logs` for a job.
    pub fn log(&self, job: &str) -> String {
        self.relay(&["logs", job, "-n", "100000"])
    }

    /// Compares the record of every job with the fold of its event log, byte for byte.
    pub(super) fn check_records(&self) {
        let entries = fs::read_dir(self.registry()).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(".events.jsonl") else { continue };
            let lines = self.events(stem);
            for (epoch, seqs) in by_epoch(&lines) {
                let dense: Vec<u64> = (1..=seqs.len() as u64).collect();
                assert_eq!(seqs, dense, "{stem}: the events of epoch {epoch} are not dense");
            }
            let on_disk =
                fs::read_to_string(self.registry().join(format!("{stem}.json"))).unwrap_or_default();
            let rebuilt = JobRecord::rebuild(&lines).and_then(|record| record.to_bytes().ok());
            let rebuilt = String::from_utf8(rebuilt.unwrap_or_default()).unwrap_or_default();
            similar_asserts::assert_eq!(rebuilt, on_disk, "the fold of {stem}'s log and its record");
        }
    }
}

fn by_epoch(lines: &[EventLine]) -> std::collections::BTreeMap<u32, Vec<u64>> {
    let mut epochs = std::collections::BTreeMap::<u32, Vec<u64>>::new();
    for line in lines {
        epochs.entry(line.epoch).or_default().push(line.seq);
    }
    epochs
}

/// Returns the end state of a job and the kind of its failure, which most tests compare.
pub fn outcome(record: &JobRecord) -> (State, Option<common::event::FailureKind>) {
    (record.state, record.error.as_ref().map(|error| error.kind))
}
