//! The size of a change: its numbers of commits, files and lines.

use super::GitError;
use super::command::{Git, WORK_LIMIT};

/// Size of a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeSize {
    /// Number of commits after the base.
    pub commits: u32,
    /// Number of files that differ.
    pub files: u32,
    /// Number of inserted lines.
    pub insertions: u32,
    /// Number of deleted lines.
    pub deletions: u32,
}

/// Measures the change from `base` to `commit`. `git` prepares calls on a repository that has both.
pub(super) fn measure_change(
    git: &dyn Fn(&str) -> Git,
    base: &str,
    commit: &str,
) -> Result<ChangeSize, GitError> {
    let commits = git("rev-list").args(["--count", commit, &format!("^{base}")]).limit(WORK_LIMIT).text()?;
    let stat = git("diff-tree").args(["-r", "--no-ext-diff", "--no-textconv", "--shortstat", base, commit]);
    let stat = stat.limit(WORK_LIMIT).text()?;
    Ok(ChangeSize { commits: commits.trim().parse().unwrap_or(u32::MAX), ..parse_short_stat(&stat) })
}

/// Parses a line of `--shortstat`, such as ` 4 files changed, 20 insertions(+), 3 deletions(-)`.
fn parse_short_stat(stat: &str) -> ChangeSize {
    let mut size = ChangeSize::default();
    for part in stat.split(',') {
        let mut words = part.split_whitespace();
        let number = words.next().and_then(|number| number.parse().ok()).unwrap_or(0);
        match words.next().unwrap_or_default() {
            noun if noun.starts_with("file") => size.files = number,
            noun if noun.starts_with("insertion") => size.insertions = number,
            noun if noun.starts_with("deletion") => size.deletions = number,
            _ => {}
        }
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_statistics_is_read() {
        let size = |files, insertions, deletions| ChangeSize { commits: 0, files, insertions, deletions };
        for (stat, expected) in [
            ("", size(0, 0, 0)),
            (" 1 file changed, 1 insertion(+)", size(1, 1, 0)),
            (" 4 files changed, 20 insertions(+), 3 deletions(-)", size(4, 20, 3)),
            (" 2 files changed, 3 deletions(-)", size(2, 0, 3)),
        ] {
            assert_eq!(parse_short_stat(stat), expected, "{stat}");
        }
    }
}
