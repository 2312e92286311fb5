//! Plan of one `relay init`: every file is checked before the first one is changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Serialize;

use super::change::{Change, Decision, Mode};
use super::ignore;
use super::manifest::{self, ManagedFile, Request};
use super::paths::{self, Homes};
use crate::exit::Failure;

/// Maximum size of a file that is read, in bytes: all of these are written by people.
const MAX_FILE: u64 = 1024 * 1024;

/// Changes to each file.
#[derive(Debug)]
pub struct Plan {
    /// Files, in the order in which they are reported.
    pub files: Vec<Planned>,
}

/// One file.
#[derive(Debug)]
pub struct Planned {
    /// Path for display: relative to the project root, or absolute.
    pub shown: String,
    /// Outcome for the file.
    pub outcome: Outcome,
    /// Reason why a part of it is left unchanged.
    pub kept: Option<String>,
    /// Real path of the file.
    pub(super) target: PathBuf,
    /// Change to the file.
    pub(super) change: Change,
    /// Existing text, if it is to be kept in a copy.
    pub(super) copy: Option<String>,
    /// Folder that a removal leaves in place, even if it is empty.
    pub(super) base: PathBuf,
}

/// Outcome for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Created.
    Wrote,
    /// Changed.
    Updated,
    /// Content written by init removed.
    Removed,
    /// Correct already.
    Unchanged,
    /// Left as a person changed it.
    Kept,
}

/// Plans the changes to every file of a request; `root` contains no links.
///
/// # Errors
/// Exit code 2 when a file can't be merged, 5 when one can't be read.
pub fn plan(request: Request, root: &Path, homes: &Homes) -> Result<Plan, Failure> {
    // Two names may refer to one file, as when CLAUDE.md is a link to AGENTS.md: the second one starts from the first
    // one's result.
    let mut done = BTreeMap::<PathBuf, Option<String>>::new();
    let mut files = Vec::new();
    for managed in manifest::managed_files(request, root, homes, ignore::folders(root)) {
        let planned = decide_change(&managed, request.mode, root, &mut done)?;
        let is_told = request.mode != Mode::Remove || planned.outcome != Outcome::Unchanged;
        files.extend(is_told.then_some(planned));
    }
    Ok(Plan { files })
}

fn decide_change(
    managed: &ManagedFile,
    mode: Mode,
    root: &Path,
    done: &mut BTreeMap<PathBuf, Option<String>>,
) -> Result<Planned, Failure> {
    let ManagedFile { path, base, in_project, content } = managed;
    let shown = path.strip_prefix(root).ok().filter(|_| *in_project).unwrap_or(path).display().to_string();
    let place = paths::real(path, in_project.then_some(root));
    let there = match &place {
        Ok(target) => done.get(target).cloned().map_or_else(|| read(target), Ok)?,
        Err(_) => None,
    };
    let decision = match &place {
        Err(why) => Decision::kept(why),
        Ok(_) => content.decide(there.as_deref(), mode).map_err(|why| {
            Failure::usage(format!(
                "{}: {why}: fix it, then run this again; nothing was written",
                path.display()
            ))
        })?,
    };
    let target = place.unwrap_or_else(|_| path.clone());
    let outcome = match (&decision.change, mode) {
        (Change::None, _) if decision.kept.is_some() => Outcome::Kept,
        (Change::None, _) => Outcome::Unchanged,
        (_, Mode::Remove) => Outcome::Removed,
        _ if there.is_none() => Outcome::Wrote,
        _ => Outcome::Updated,
    };
    match &decision.change {
        Change::None => {}
        Change::Write(text) => drop(done.insert(target.clone(), Some(text.clone()))),
        Change::Delete => drop(done.insert(target.clone(), None)),
    }
    Ok(Planned {
        shown,
        outcome,
        kept: decision.kept,
        copy: there.filter(|_| decision.copy),
        target,
        change: decision.change,
        base: base.clone(),
    })
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::unreachable(format!("{} can't be read ({why}): nothing was written", path.display()))
    };
    let file = match open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&e)),
    };
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|e| failed(&e))?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed(&"it is longer than 1 MiB"));
    }
    Ok(Some(text))
}

/// Opens a file that a session may have replaced since it was checked: the open neither blocks nor follows a link.
fn open(path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file")) }
}
