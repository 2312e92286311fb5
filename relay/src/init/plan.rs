//! All files of one call, judged before the first of them is touched.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Serialize;

use super::ignore;
use super::pieces::{self, Piece, Request};
use super::place::{self, Homes};
use super::verdict::{Change, Verdict, Wish};
use crate::exit::Failure;

/// Longest file that is read, in bytes: these are all written by people.
const MAX_FILE: u64 = 1024 * 1024;

/// What is done with each file.
#[derive(Debug)]
pub struct Plan {
    /// In the order in which they are told.
    pub files: Vec<Planned>,
}

/// One file.
#[derive(Debug)]
pub struct Planned {
    /// As people know it: from the project root, or whole.
    pub shown: String,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Why something in it is left as it is.
    pub kept: Option<String>,
    /// Where it really lies.
    pub(super) target: PathBuf,
    /// What happens to it.
    pub(super) change: Change,
    /// What is there, where that goes into a copy.
    pub(super) copy: Option<String>,
    /// The folder that its removal leaves in place, however empty.
    pub(super) base: PathBuf,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is new.
    Wrote,
    /// It has changed.
    Updated,
    /// What init had written is gone.
    Removed,
    /// It is as it should be.
    Unchanged,
    /// It is left as a person wants it.
    Kept,
}

/// Judges every file of a request; `root` is free of links.
///
/// # Errors
/// Exit code 2 when a file can't be merged, 5 when one can't be read.
pub fn plan(request: Request, root: &Path, homes: &Homes) -> Result<Plan, Failure> {
    // Two names may lead to one file, as where CLAUDE.md is a link to AGENTS.md: the second sees what the first has done.
    let mut done = BTreeMap::<PathBuf, Option<String>>::new();
    let mut files = Vec::new();
    for piece in pieces::of(request, root, homes, ignore::folders(root)) {
        let planned = judge(&piece, request.wish, root, &mut done)?;
        let is_told = request.wish != Wish::Remove || planned.outcome != Outcome::Unchanged;
        files.extend(is_told.then_some(planned));
    }
    Ok(Plan { files })
}

fn judge(
    piece: &Piece,
    wish: Wish,
    root: &Path,
    done: &mut BTreeMap<PathBuf, Option<String>>,
) -> Result<Planned, Failure> {
    let Piece { path, base, in_project, content } = piece;
    let shown = path.strip_prefix(root).ok().filter(|_| *in_project).unwrap_or(path).display().to_string();
    let place = place::real(path, in_project.then_some(root));
    let there = match &place {
        Ok(target) => done.get(target).cloned().map_or_else(|| read(target), Ok)?,
        Err(_) => None,
    };
    let verdict = match &place {
        Err(why) => Verdict::kept(why),
        Ok(_) => content.judge(there.as_deref(), wish).map_err(|why| {
            Failure::usage(format!(
                "{}: {why}: mend it, then run this again; nothing was written",
                path.display()
            ))
        })?,
    };
    let target = place.unwrap_or_else(|_| path.clone());
    let outcome = match (&verdict.change, wish) {
        (Change::None, _) if verdict.kept.is_some() => Outcome::Kept,
        (Change::None, _) => Outcome::Unchanged,
        (_, Wish::Remove) => Outcome::Removed,
        _ if there.is_none() => Outcome::Wrote,
        _ => Outcome::Updated,
    };
    match &verdict.change {
        Change::None => {}
        Change::Write(text) => drop(done.insert(target.clone(), Some(text.clone()))),
        Change::Delete => drop(done.insert(target.clone(), None)),
    }
    Ok(Planned {
        shown,
        outcome,
        kept: verdict.kept,
        copy: there.filter(|_| verdict.copy),
        target,
        change: verdict.change,
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

/// Opens a file of which a session may have made something else since it was looked at: that neither blocks nor is followed.
fn open(path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("there is something else than a file"))
    }
}
