//! The commit that a worker starts from, called the base.
//!
//! ```text
//! default       HEAD ── relay: uncommitted files   (only if there are any)
//! --clean       HEAD
//! --base REF    REF
//! ```

use std::fs::File;
use std::io::{Seek, SeekFrom};

use super::GitError;
use super::command::WORK_LIMIT;
use super::config::PersonSettings;
use super::scratch::Scratch;
use super::snapshot;
use super::source::{Head, Source};

/// Maximum size of the pack with the uncommitted files, in bytes.
pub const MAX_PACK_SIZE: u64 = 512 << 20;

/// The commit that a worker starts from.
#[derive(Debug)]
pub struct StartCommit {
    /// Full id of the commit.
    pub base: String,
    /// Full id of the user's own commit that the base builds on; the base itself if there is none.
    pub parent: String,
    /// Pack with the objects of the base that the user's repository does not have.
    pub pack: Option<File>,
    /// Notes for the user, one line each.
    pub notes: Vec<String>,
}

impl StartCommit {
    /// Prepares the commit: `reference`, or HEAD with the uncommitted files unless `skips_uncommitted` is true. Does not
    /// change the user's repository.
    ///
    /// # Errors
    /// Refuses an unknown reference, a repository without a commit or a file, files that can't be handed over, and a
    /// partial clone whose objects are missing.
    pub fn prepare(
        source: &Source,
        reference: Option<&str>,
        skips_uncommitted: bool,
    ) -> Result<Self, GitError> {
        let mut start = match reference {
            Some(reference) => Self::without_uncommitted(resolve_reference(source, reference)?),
            None => match source.head()? {
                Head::Commit { id, .. } if skips_uncommitted => Self::without_uncommitted(id),
                Head::Commit { id, .. } => Self::with_uncommitted(source, Some(id))?,
                Head::Unborn if skips_uncommitted => return Err(no_commit_error(source)),
                Head::Unborn => Self::with_uncommitted(source, None)?,
            },
        };
        if source.settings.is_partial {
            check_complete(source, &start)?;
        }
        if source.has_submodules() {
            let advice = "fill them with --setup 'git submodule update --init'";
            start.notes.push(format!("submodules are empty in the worker's clone: {advice}"));
        }
        if source.uses_lfs() {
            start.notes.push("files in Git LFS are pointers in the worker's clone".to_owned());
        }
        Ok(start)
    }

    fn without_uncommitted(commit: String) -> Self {
        Self { base: commit.clone(), parent: commit, pack: None, notes: Vec::new() }
    }

    fn with_uncommitted(source: &Source, head: Option<String>) -> Result<Self, GitError> {
        let scratch = Scratch::new(source, &PersonSettings::read()?, &[])?;
        let files = snapshot::write_tree(&scratch, source)?;
        let committed = match &head {
            Some(head) => scratch.git("rev-parse").args(["--verify", &format!("{head}^{{tree}}")]).text()?,
            None => scratch.git("hash-object").args(["-t", "tree", "--stdin"]).text()?,
        };
        match head {
            Some(head) if files.tree == committed => {
                Ok(Self { notes: files.notes, ..Self::without_uncommitted(head) })
            }
            None if files.tree == committed => Err(no_commit_error(source)),
            head => {
                let commit = scratch.git("commit-tree").arg(&files.tree);
                let commit = commit.args(["-m", "relay: uncommitted files"]);
                let commit = commit.args(head.iter().flat_map(|head| ["-p", head])).text()?;
                let pack = Some(pack_objects(&scratch, source, (&commit, head.as_deref()))?);
                let parent = head.unwrap_or_else(|| commit.clone());
                Ok(Self { base: commit, parent, pack, notes: files.notes })
            }
        }
    }
}

fn resolve_reference(source: &Source, reference: &str) -> Result<String, GitError> {
    source.resolve(reference)?.ok_or_else(|| {
        let shown = common::text_format::one_line(reference, 80);
        let hint =
            if source.shallow_commits().is_some() { " (the clone is shallow: fetch it first)" } else { "" };
        GitError::refused(format!(
            "--base {shown} is no commit of {}{hint}: `git log --oneline --all` there lists them",
            source.root.display()
        ))
    })
}

fn no_commit_error(source: &Source) -> GitError {
    GitError::refused(format!(
        "the repository {} has no commit yet: commit something first, or use --in-place",
        source.root.display()
    ))
}

/// Packs the objects that `commit` has and `parent` has not.
fn pack_objects(
    scratch: &Scratch,
    source: &Source,
    (commit, parent): (&str, Option<&str>),
) -> Result<File, GitError> {
    let mut file = scratch.temporary_file()?;
    let failed = |e: &std::io::Error| GitError::io("the uncommitted files can't be packed", e);
    let revisions = match parent {
        Some(parent) => format!("{commit}\n^{parent}\n"),
        None => format!("{commit}\n"),
    };
    let pack = scratch.git("pack-objects").args(["--revs", "--stdout", "-q"]);
    // A partial clone has the files of the work tree, but maybe not those of other folders.
    let pack = if source.settings.is_partial { pack.arg("--missing=allow-any") } else { pack };
    let pack = pack.input(revisions.into_bytes()).output_file(file.try_clone().map_err(|e| failed(&e))?);
    pack.limit(WORK_LIMIT).output()?;
    let size = file.seek(SeekFrom::End(0)).map_err(|e| failed(&e))?;
    if size > MAX_PACK_SIZE {
        return Err(GitError::refused(format!(
            "the uncommitted files have {} MiB when packed, more than {} MiB: commit them, or leave them out with \
             --clean",
            size >> 20,
            MAX_PACK_SIZE >> 20
        )));
    }
    file.rewind().map_err(|e| failed(&e))?;
    Ok(file)
}

/// Checks that a partial clone has all files of the commit: relay fetches nothing.
fn check_complete(source: &Source, start: &StartCommit) -> Result<(), GitError> {
    let commit = &start.parent;
    if source.resolve(commit)?.is_none() {
        // The repository has no commit yet, so its files are all new.
        return Ok(());
    }
    let scratch = Scratch::new(source, &PersonSettings::default(), &[])?;
    let tree = format!("{commit}^{{tree}}");
    let listed = scratch.git("rev-list").args(["--objects", "--missing=print", "--no-object-names", &tree]);
    let listed = listed.limit(WORK_LIMIT).output()?;
    if listed.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"?")) {
        return Err(GitError::refused(format!(
            "{} is a partial clone without all files of {}: `git fetch --refetch --no-filter` there gets them",
            source.root.display(),
            &commit[..commit.len().min(12)]
        )));
    }
    Ok(())
}
