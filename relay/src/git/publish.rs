//! The result of a job as a branch of the user's repository.
//!
//! ```text
//! job repository ─ pack, checked again ─► user's objects ─► refs/heads/BRANCH   (created, never moved)
//! ```
//!
//! A failure loses nothing: the objects stay in the job's repository, and the result says what went wrong.

use std::io::{Seek, SeekFrom};

use common::result::{JobResult, MAX_NOTE, ResultState};

use super::GitError;
use super::change;
use super::command::WORK_LIMIT;
use super::content::{self, MAX_UNPACKED_SIZE};
use super::job_repository::{JobRepository, MAX_PUSH_SIZE, StoredPlace};
use super::source::Source;

/// Maximum number of names that are tried for a branch: the wanted one, then that name with numbers.
const MAX_BRANCH_NAMES: u32 = 20;

/// Publishes the result of a job that has ended. Never fails: the result says what went wrong.
pub fn publish(repository: &JobRepository) -> JobResult {
    let mut result = JobResult::none(String::new(), String::new());
    if let Err(error) = fill_result(repository, &mut result) {
        result.note = Some(common::text_format::one_line(&error.to_string(), MAX_NOTE));
    }
    result
}

fn fill_result(repository: &JobRepository, result: &mut JobResult) -> Result<(), GitError> {
    let stored = repository.stored_place()?;
    stored.place.branch().clone_into(&mut result.branch);
    stored.place.base().clone_into(&mut result.base);
    let Some(commit) = repository.result_commit()?.filter(|commit| *commit != stored.place.base()) else {
        return Ok(());
    };
    (result.commit, result.state) = (Some(commit.clone()), ResultState::Open);
    let source = find_source(&stored)?;
    let size =
        change::measure_change(&|subcommand| repository.git(subcommand), stored.place.base(), &commit)?;
    (result.commits, result.files) = (size.commits, size.files);
    (result.insertions, result.deletions) = (size.insertions, size.deletions);
    copy_objects(repository, &source, stored.place.parent(), &commit)?;
    result.branch = create_branch(&source, stored.place.branch(), &commit)?;
    result.note = note_for_user(repository, &stored, &commit, &result.branch)?;
    Ok(())
}

/// Finds the user's repository again, which must be the same as at the launch.
fn find_source(stored: &StoredPlace) -> Result<Source, GitError> {
    let kept = "the result is kept by relay";
    let source = Source::find(&stored.workspace).map_err(|e| GitError::refused(format!("{e}; {kept}")))?;
    if source.common_dir == stored.repository {
        return Ok(source);
    }
    Err(GitError::refused(format!(
        "{} belongs to another repository than at the launch; {kept}",
        stored.workspace.display()
    )))
}

/// Puts the objects of `commit` into the user's repository, as one pack.
fn copy_objects(
    repository: &JobRepository,
    source: &Source,
    parent: &str,
    commit: &str,
) -> Result<(), GitError> {
    let failed = |e: &std::io::Error| GitError::io("the result can't be packed", e);
    let mut file = repository.temporary_file().map_err(|e| failed(&e))?;
    // The repository may have had no commit at the launch: then the pack contains the whole history.
    let has_parent = source.resolve(parent)?.is_some();
    content::check_size(repository, (has_parent.then_some(parent), commit), MAX_UNPACKED_SIZE)?;
    let exclusion = if has_parent { format!("^{parent}\n") } else { String::new() };
    let pack = repository.git("pack-objects").args(["--revs", "--stdout", "--thin", "-q"]);
    let pack = pack.input(format!("{commit}\n{exclusion}").into_bytes()).limit(WORK_LIMIT);
    pack.output_file(file.try_clone().map_err(|e| failed(&e))?).output()?;
    let size = file.seek(SeekFrom::End(0)).map_err(|e| failed(&e))?;
    if size > MAX_PUSH_SIZE {
        return Err(GitError::refused(format!(
            "the result has {} MiB, more than {} MiB, and is kept by relay",
            size >> 20,
            MAX_PUSH_SIZE >> 20
        )));
    }
    file.rewind().map_err(|e| failed(&e))?;
    // Git works on the job's repository, with its configuration, and writes into the user's objects.
    let index = repository.git("index-pack").args(["--stdin", "--fix-thin", "--strict"]);
    let index = index.env("GIT_OBJECT_DIRECTORY", source.objects()).input_file(file).limit(WORK_LIMIT);
    let indexed = index.run()?;
    if indexed.code == 0 {
        return Ok(());
    }
    let repository = source.root.display();
    Err(GitError::refused(format!(
        "the objects of the result were not accepted into {repository} ({}); the result is kept by relay",
        indexed.message()
    )))
}

/// Creates the branch; returns its name, which has a number at its end if the name was taken.
fn create_branch(source: &Source, branch: &str, commit: &str) -> Result<String, GitError> {
    let absent = "0".repeat(commit.len());
    let mut message = String::new();
    for n in 1..=MAX_BRANCH_NAMES {
        let name = if n == 1 { branch.to_owned() } else { format!("{branch}-{n}") };
        let full = format!("refs/heads/{name}");
        let created = source.refs_command("update-ref").args(["--no-deref", &full, commit, &absent]).run()?;
        // A daemon that was killed after the creation finds the branch of its first attempt.
        if created.code == 0 || source.resolve(&full)?.as_deref() == Some(commit) {
            return Ok(name);
        }
        message = created.message();
        if !source.has_ref(&full)? {
            break;
        }
    }
    Err(GitError::refused(format!(
        "branch {branch} can't be created in {} ({message}); the result is kept by relay",
        source.root.display()
    )))
}

fn note_for_user(
    repository: &JobRepository,
    stored: &StoredPlace,
    commit: &str,
    branch: &str,
) -> Result<Option<String>, GitError> {
    let mut notes = Vec::new();
    let requested_branch = stored.place.branch();
    if branch != requested_branch {
        notes.push(format!("branch {requested_branch} existed already"));
    }
    let ancestry = repository.git("merge-base").args(["--is-ancestor", stored.place.base(), commit]).run()?;
    if ancestry.code != 0 {
        notes.push("the worker rewrote the history below its first commit".to_owned());
    }
    notes.extend(content::result_notes(repository, (stored.place.base(), commit))?);
    Ok((!notes.is_empty()).then(|| notes.join("; ")))
}
