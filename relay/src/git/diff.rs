//! The change of a job as text: a patch, or statistics.

use std::path::{Path, PathBuf};

use super::GitError;
use super::change::{self, ChangeSize};
use super::command::{Git, WORK_LIMIT};
use super::config::PersonSettings;
use super::job_repository::JobRepository;
use super::scratch::Scratch;
use super::source::Source;

/// Format of a change as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffFormat {
    /// True for statistics: only the names of the files and how many lines changed.
    pub is_stat: bool,
    /// True if terminal colors are included.
    pub has_color: bool,
}

/// Returns the size of the change between two commits, and its text for `paths`, or for all files if `paths` is empty.
/// The commits are in the job's repository or, once that is removed, in the repository that `workspace` lies in.
///
/// # Errors
/// Refuses commits that are in neither repository; otherwise git's own message.
pub fn format_diff(
    repository: &JobRepository,
    workspace: &Path,
    (base, commit): (&str, &str),
    format: DiffFormat,
    paths: &[PathBuf],
) -> Result<(ChangeSize, Vec<u8>), GitError> {
    if repository.exists() {
        let git = |subcommand: &str| repository.git(subcommand);
        return format_diff_with(&git, (base, commit), format, paths);
    }
    let source = Source::find(workspace)?;
    let scratch = Scratch::new(&source, &PersonSettings::default(), &[])?;
    let git = |subcommand: &str| scratch.git(subcommand);
    if git("cat-file").args(["-e", &format!("{commit}^{{commit}}")]).run()?.code != 0 {
        let commit = &commit[..commit.len().min(12)];
        return Err(GitError::refused(format!("commit {commit} is no longer in {}", source.root.display())));
    }
    format_diff_with(&git, (base, commit), format, paths)
}

fn format_diff_with(
    git: &dyn Fn(&str) -> Git,
    (base, commit): (&str, &str),
    format: DiffFormat,
    paths: &[PathBuf],
) -> Result<(ChangeSize, Vec<u8>), GitError> {
    let size = change::measure_change(git, base, commit)?;
    let diff = git("diff").args(["--no-ext-diff", "--no-textconv", "--submodule=short"]);
    let diff = diff.arg(if format.has_color { "--color=always" } else { "--color=never" });
    let diff = if format.is_stat { diff.arg("--stat") } else { diff };
    let text = diff.args([base, commit, "--"]).args(paths).limit(WORK_LIMIT).output()?;
    Ok((size, text))
}
