//! The result of a job as a branch of the caller's repository.
//!
//! ```text
//! job repository ─ pack, checked again ─► objects of the caller ─► refs/heads/BRANCH   (created, never moved)
//! ```
//!
//! A failure loses nothing: the objects stay in the job's repository, and the result says what is in the way.

use std::io::{Seek, SeekFrom};

use common::result::{JobResult, MAX_NOTE, ResultState};

use super::GitError;
use super::change;
use super::command::WORK_LIMIT;
use super::content::{self, MAX_UNPACKED};
use super::job_repository::{JobRepository, MAX_PUSH, StoredPlace};
use super::source::Source;

/// Maximum number of further names that are tried for a branch whose name is taken.
const MAX_NAMES: u32 = 20;

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
    let size = change::measure(&|subcommand| repository.git(subcommand), stored.place.base(), &commit)?;
    (result.commits, result.files) = (size.commits, size.files);
    (result.insertions, result.deletions) = (size.insertions, size.deletions);
    copy_objects(repository, &source, stored.place.parent(), &commit)?;
    result.branch = create_branch(&source, stored.place.branch(), &commit)?;
    result.note = note_for_user(repository, &stored, &commit, &result.branch)?;
    Ok(())
}

/// Finds the caller's repository again, which must be the one of the launch.
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

/// Puts the objects of `commit` into the caller's repository, as one pack.
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
    content::check_size(repository, (has_parent.then_some(parent), commit), MAX_UNPACKED)?;
    let below = if has_parent { format!("^{parent}\n") } else { String::new() };
    let pack = repository.git("pack-objects").args(["--revs", "--stdout", "--thin", "-q"]);
    let pack = pack.input(format!("{commit}\n{below}").into_bytes()).limit(WORK_LIMIT);
    pack.output_file(file.try_clone().map_err(|e| failed(&e))?).output()?;
    let size = file.seek(SeekFrom::End(0)).map_err(|e| failed(&e))?;
    if size > MAX_PUSH {
        return Err(GitError::refused(format!(
            "the result has {} MiB, more than {} MiB, and is kept by relay",
            size >> 20,
            MAX_PUSH >> 20
        )));
    }
    file.rewind().map_err(|e| failed(&e))?;
    // Git works on the job's repository, with its configuration, and writes into the caller's objects.
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
    for n in 1..=MAX_NAMES {
        let name = if n == 1 { branch.to_owned() } else { format!("{branch}-{n}") };
        let full = format!("refs/heads/{name}");
        let created = source.refs_command("update-ref").args(["--no-deref", &full, commit, &absent]).run()?;
        // A relay that was killed after this step finds its own branch.
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
    let wanted = stored.place.branch();
    if branch != wanted {
        notes.push(format!("branch {wanted} existed already"));
    }
    let is_above = repository.git("merge-base").args(["--is-ancestor", stored.place.base(), commit]).run()?;
    if is_above.code != 0 {
        notes.push("the worker rewrote the history below its first commit".to_owned());
    }
    notes.extend(content::notes(repository, (stored.place.base(), commit))?);
    Ok((!notes.is_empty()).then(|| notes.join("; ")))
}
