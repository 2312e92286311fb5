//! Plan of one `relay init`: every file is checked before the first one is changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Serialize;

use super::change::{Decision, FileChange, Mode};
use super::ignore;
use super::manifest::{self, InitRequest, ManagedFile};
use super::paths::{self, AgentHomes};
use crate::exit::Failure;

/// Maximum size of an existing file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Planned changes to all files of one `relay init`.
#[derive(Debug)]
pub struct InitPlan {
    /// Files, in the order in which they are reported.
    pub files: Vec<PlannedFile>,
}

/// Planned change to one file.
#[derive(Debug)]
pub struct PlannedFile {
    /// Path for display: relative to the project root, or absolute.
    pub display_path: String,
    /// Outcome for the file.
    pub outcome: FileOutcome,
    /// Reason why a part of the file is left unchanged.
    pub kept_reason: Option<String>,
    /// Real path of the file.
    pub(super) target: PathBuf,
    /// Change to the file.
    pub(super) change: FileChange,
    /// Existing text, if it is to be kept in a copy.
    pub(super) backup_text: Option<String>,
    /// Folder that a removal leaves in place, even if it is empty.
    pub(super) kept_folder: PathBuf,
}

/// Outcome for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileOutcome {
    /// The file is created.
    Wrote,
    /// The file is changed.
    Updated,
    /// The content of init is removed from the file.
    Removed,
    /// The file is already correct.
    Unchanged,
    /// The file stays as it is, because a person has changed it.
    Kept,
}

/// Plans the changes to every file of a request; `root` contains no links.
///
/// # Errors
/// Returns exit code 2 when a file can't be merged, and 5 when a file can't be read.
pub fn plan_files(request: InitRequest, root: &Path, homes: &AgentHomes) -> Result<InitPlan, Failure> {
    // Two names may refer to one file, for example if CLAUDE.md is a link to AGENTS.md. The second change starts from
    // the result of the first.
    let mut planned_texts = BTreeMap::<PathBuf, Option<String>>::new();
    let mut files = Vec::new();
    for managed in manifest::managed_files(request, root, homes, ignore::ignored_folders(root)) {
        let planned = decide_change(&managed, request.mode, root, &mut planned_texts)?;
        let is_reported = request.mode != Mode::Remove || planned.outcome != FileOutcome::Unchanged;
        files.extend(is_reported.then_some(planned));
    }
    Ok(InitPlan { files })
}

fn decide_change(
    managed: &ManagedFile,
    mode: Mode,
    root: &Path,
    planned_texts: &mut BTreeMap<PathBuf, Option<String>>,
) -> Result<PlannedFile, Failure> {
    let ManagedFile { path, base, is_in_project, content } = managed;
    let display_path =
        path.strip_prefix(root).ok().filter(|_| *is_in_project).unwrap_or(path).display().to_string();
    let resolved = paths::resolve_path(path, is_in_project.then_some(root));
    let existing = match &resolved {
        Ok(target) => planned_texts.get(target).cloned().map_or_else(|| read_existing(target), Ok)?,
        Err(_) => None,
    };
    let decision = match &resolved {
        Err(reason) => Decision::kept(reason),
        Ok(_) => content.decide(existing.as_deref(), mode).map_err(|reason| {
            Failure::usage(format!(
                "{}: {reason}: fix it, then run this again; nothing was written",
                path.display()
            ))
        })?,
    };
    let target = resolved.unwrap_or_else(|_| path.clone());
    let outcome = match (&decision.change, mode) {
        (FileChange::None, _) if decision.kept_reason.is_some() => FileOutcome::Kept,
        (FileChange::None, _) => FileOutcome::Unchanged,
        (_, Mode::Remove) => FileOutcome::Removed,
        _ if existing.is_none() => FileOutcome::Wrote,
        _ => FileOutcome::Updated,
    };
    match &decision.change {
        FileChange::None => {}
        FileChange::Write(text) => drop(planned_texts.insert(target.clone(), Some(text.clone()))),
        FileChange::Delete => drop(planned_texts.insert(target.clone(), None)),
    }
    Ok(PlannedFile {
        display_path,
        outcome,
        kept_reason: decision.kept_reason,
        backup_text: existing.filter(|_| decision.keeps_copy),
        target,
        change: decision.change,
        kept_folder: base.clone(),
    })
}

fn read_existing(path: &Path) -> Result<Option<String>, Failure> {
    let read_failure = |reason: &dyn std::fmt::Display| {
        Failure::unreachable(format!("{} can't be read ({reason}): nothing was written", path.display()))
    };
    let file = match open_no_follow(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(read_failure(&e)),
    };
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|e| read_failure(&e))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(read_failure(&"it is longer than 1 MiB"));
    }
    Ok(Some(text))
}

/// Opens a file that a session may have replaced since the check. The open neither blocks nor follows links.
fn open_no_follow(path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file")) }
}
