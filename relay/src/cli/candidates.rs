//! Shell completion of jobs.
//!
//! The script of `relay completions SHELL` sets [`COMPLETION_VARIABLE`] and calls `relay` with the words typed so far.
//! No other call uses this code. Jobs are offered as `NAME.N`, which has no special meaning in any shell. Shells that
//! show descriptions also receive the state and the task.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use common::ids::JobId;
use common::record::JobRecord;
use common::text_format::one_line;

use super::global::project_from_environment;
use crate::project;
use crate::registry::{Registry, read};

/// Environment variable of a completion request. Its value is the name of the shell.
pub const COMPLETION_VARIABLE: &str = "RELAY_COMPLETE";

/// Maximum number of records read per completion: those of the highest job numbers. Reading 500 takes some 20 ms.
const MAX_RECORDS_READ: usize = 500;
/// Maximum length of the task in a description, in bytes.
const MAX_TASK_LENGTH: usize = 48;

/// Returns a completer that offers all jobs.
pub fn any_job() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| complete_job(typed, |_| true))
}

/// Returns a completer that offers the jobs that have not ended.
pub fn active_jobs() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| complete_job(typed, |record| !has_ended(record)))
}

/// Returns a completer that offers the jobs that have ended.
pub fn ended_jobs() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| complete_job(typed, has_ended))
}

/// Returns a completer that offers the jobs that `relay resume` can continue.
pub fn resumable_jobs() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| complete_job(typed, is_resumable))
}

fn has_ended(record: &JobRecord) -> bool {
    record.state.is_final()
}

fn is_resumable(record: &JobRecord) -> bool {
    has_ended(record) && record.is_resumable()
}

/// Returns the jobs that complete the typed word. After an error the list is empty: a completion can't report errors.
fn complete_job(typed: &OsStr, filter: fn(&JobRecord) -> bool) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let root = root_flag(std::env::args()).or_else(project_from_environment);
    let Ok(cwd) = std::env::current_dir() else { return Vec::new() };
    let Ok(root) = project::find_root(root.as_deref(), &cwd) else { return Vec::new() };
    matching_jobs(&root, typed, filter)
        .iter()
        .enumerate()
        .map(|(i, record)| {
            let stem = record.job.file_stem();
            // Input with a # is completed with a #.
            let value = if typed.contains('#') { record.job.to_string() } else { stem };
            let help =
                format!("{}: {}", record.state.as_str(), one_line(&record.prompt_summary, MAX_TASK_LENGTH));
            CompletionCandidate::new(value).help(Some(help.into())).display_order(Some(i))
        })
        .collect()
}

/// Returns the jobs that start with the typed prefix and pass the filter, newest first.
fn matching_jobs(root: &Path, typed: &str, filter: fn(&JobRecord) -> bool) -> Vec<JobRecord> {
    let registry = Registry::for_project(root);
    let typed = typed.replacen('#', ".", 1);
    let mut jobs = read::jobs_in_folder(&registry).unwrap_or_default();
    jobs.retain(|job| job.file_stem().starts_with(&typed));
    jobs.sort_by_key(|job| std::cmp::Reverse(job.number()));
    jobs.truncate(MAX_RECORDS_READ);
    let load = |job: &JobId| read::load_record(&registry, job).ok().map(|stored| stored.record);
    let mut records: Vec<JobRecord> = jobs.iter().filter_map(load).filter(filter).collect();
    records.sort_by(|a, b| (b.created_at, &b.job).cmp(&(a.created_at, &a.job)));
    records
}

/// Returns the value of `--root` in the words of a completion request: those after `--` are the typed ones.
fn root_flag(words: impl Iterator<Item = String>) -> Option<PathBuf> {
    let mut words = words.skip_while(|word| word != "--").skip(1);
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some(("--root", root)) => return Some(root.into()),
            None if word == "--root" => return words.next().map(PathBuf::from),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use common::job::Runner;
    use common::record::State;

    use super::*;
    use crate::render::samples;

    #[test]
    fn only_jobs_with_the_typed_prefix_and_a_fitting_state_are_offered() {
        let (dir, registry) = Registry::temporary();
        for (job, state) in [("abe#1", State::Failed), ("abe#2", State::Running), ("zoe#1", State::Completed)]
        {
            let mut record = samples::minimal_record(job, state);
            record.runner = if job == "zoe#1" { Runner::Shell } else { Runner::Codex };
            record.thread_id = (job != "zoe#1").then(|| "t".to_owned());
            std::fs::write(registry.record(&record.job), record.to_bytes().unwrap()).unwrap();
        }
        let offered = |typed: &str, wanted: fn(&JobRecord) -> bool| {
            let jobs = matching_jobs(dir.path(), typed, wanted);
            jobs.iter().map(|record| record.job.file_stem()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(offered("", |_| true), "zoe.1 abe.2 abe.1");
        assert_eq!(offered("ab", |_| true), "abe.2 abe.1");
        assert_eq!(offered("abe#", has_ended), "abe.1");
        assert_eq!(offered("", |record| !has_ended(record)), "abe.2");
        assert_eq!(offered("", is_resumable), "abe.1", "a shell job has no thread to go on with");
        assert_eq!(offered("nobody", |_| true), "");
    }

    #[test]
    fn the_root_flag_is_found_among_the_typed_words() {
        let root = |line: &str| root_flag(line.split(' ').map(str::to_owned));
        assert_eq!(root("relay -- relay --root /x status"), Some("/x".into()));
        assert_eq!(root("relay -- relay status --root=/y abe"), Some("/y".into()));
        assert_eq!(root("relay -- relay status --root"), None);
        assert_eq!(root("relay --root /x"), None);
    }
}
