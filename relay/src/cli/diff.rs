//! The command `relay diff`.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;
use common::ids::JobId;
use common::text_format;
use serde::Serialize;

use super::help::after_help;
use super::job_result::PlacedJob;
use super::{Context, candidates};
use crate::exit::{ExitCode, Failure};
use crate::git::change::ChangeSize;
use crate::git::diff::{self, DiffFormat};
use crate::git::source::Source;

/// Flags of `relay diff`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay diff demo --stat", "relay diff demo#2 -- src"]))]
pub struct DiffArgs {
    /// NAME#N, NAME.N, or NAME for its newest job [default: the newest job]
    #[arg(value_name = "JOB", add = candidates::any_job())]
    pub(super) job: Option<String>,
    /// Show only the names of the files, and how many lines changed
    #[arg(long)]
    pub(super) stat: bool,
    /// Files and folders to show [default: all]
    #[arg(last = true, value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
}

/// Output of `relay diff --json`: the change of a job.
#[derive(Debug, Serialize)]
struct ShownDiff<'a> {
    job: &'a JobId,
    branch: &'a str,
    base: &'a str,
    commit: &'a str,
    commits: u32,
    files: u32,
    insertions: u32,
    deletions: u32,
    /// The patch; bytes that are not UTF-8 are replaced.
    patch: String,
}

/// Prints the change of a job, from the commit that it started from to its newest commit.
///
/// # Errors
/// Exit code 3 if the job does not exist, 2 if it is ambiguous, has no branch or no commit, 5 if git fails.
pub fn run(args: &DiffArgs, context: &Context) -> Result<ExitCode, Failure> {
    let job = PlacedJob::find(context, args.job.as_deref())?;
    let commit = job.newest_commit()?;
    let is_at_terminal = context.output.columns().is_some() && std::io::stdout().is_terminal();
    let format = DiffFormat {
        is_stat: args.stat && !context.output.json,
        has_color: context.output.paint.is_enabled(),
    };
    let paths = paths_from_root(&args.paths, context, &job);
    let workspace = Path::new(&job.record.workspace);
    let (base, commit) = (job.place.base(), &*commit);
    let (size, patch) = diff::format_diff(&job.repository, workspace, (base, commit), format, &paths)?;
    if context.output.json {
        let ChangeSize { commits, files, insertions, deletions } = size;
        let patch = String::from_utf8_lossy(&patch).into_owned();
        let (job, branch) =
            (job.job(), job.record.result.as_ref().map_or(job.place.branch(), |result| &result.branch));
        let shown = ShownDiff { job, branch, base, commit, commits, files, insertions, deletions, patch };
        context.output.print_json(&shown);
    } else if is_at_terminal {
        // The worker wrote the files, so nothing in them may control the terminal.
        context.output.print_raw(clean_for_terminal(&String::from_utf8_lossy(&patch)).as_bytes());
    } else {
        context.output.print_raw(&patch);
    }
    Ok(ExitCode::Done)
}

/// Returns the paths, given relative to the current folder, relative to the repository's root. If the current folder is
/// outside of the work tree, the paths are unchanged.
fn paths_from_root(paths: &[PathBuf], context: &Context, job: &PlacedJob) -> Vec<PathBuf> {
    let root = Source::find(Path::new(&job.record.workspace)).map(|source| source.root);
    let cwd_in_tree = root.ok().and_then(|root| context.cwd.strip_prefix(root).map(Path::to_path_buf).ok());
    let cwd_in_tree = cwd_in_tree.unwrap_or_default();
    paths.iter().map(|path| cwd_in_tree.join(path)).collect()
}

/// Removes all control sequences except for git's own colors.
fn clean_for_terminal(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let line = line.strip_suffix('\r').unwrap_or(line);
        for (i, part) in line.split("\u{1b}[").enumerate() {
            let color = part.split_once('m').filter(|(code, _)| i > 0 && is_color(code));
            match color {
                Some((code, rest)) => {
                    let _ = write!(clean, "\u{1b}[{code}m{}", text_format::to_printable(rest));
                }
                None => clean.push_str(&text_format::to_printable(part)),
            }
        }
        clean.push_str(end);
    }
    clean
}

/// Returns true for the code of a color or of an emphasis.
fn is_color(code: &str) -> bool {
    code.len() <= 8 && code.bytes().all(|byte| byte.is_ascii_digit() || byte == b';')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_receives_only_text_and_colors() {
        let patch = "\u{1b}[31m-a\u{1b}[m\n+\u{1b}]0;owned\u{7}b\u{1b}[2Jc\r\n";
        assert_eq!(clean_for_terminal(patch), "\u{1b}[31m-a\u{1b}[m\n+]0;ownedb2Jc\n");
    }
}
