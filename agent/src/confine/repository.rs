//! Folders of the git repository that a workspace belongs to, found without git by the rules of [`git_link`], and the
//! settings in these folders.
//!
//! An earlier worker may have written any of these files, so they are treated as untrusted data.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use common::git_link::{self, Disk, EntryKind, GitLinkError};

/// Names in a repository's folder from which git takes settings and programs to run. `commondir` points to another
/// repository folder.
const SETTINGS: [&str; 4] = ["hooks", "config", "config.worktree", "commondir"];
/// Names in the folder of a linked worktree that hold settings, or point to the repository's settings.
const WORKTREE_SETTINGS: [&str; 3] = ["commondir", "gitdir", "config.worktree"];
/// Maximum number of submodules, and of linked worktrees, whose settings are listed one by one, because the whole
/// profile has to fit into one argument. Any further folder is read-only as a whole.
const MAX_LISTED_FOLDERS: usize = 32;
/// Maximum depth of nested submodules that are searched.
const MAX_DEPTH: usize = 8;
/// Maximum length of a file that names a folder, in bytes.
const MAX_LINE: u64 = 4096;
/// Maximum number of bytes that are read of a file with a repository's settings.
const MAX_SETTINGS: u64 = 256 * 1024;

/// File system of this machine, for [`git_link`].
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> Option<String> {
        read_text(path, MAX_SETTINGS)
    }

    fn kind(&self, path: &Path) -> Option<EntryKind> {
        let kind = path.symlink_metadata().ok()?.file_type();
        Some(match (kind.is_dir(), kind.is_file()) {
            (true, _) => EntryKind::Folder,
            (_, true) => EntryKind::File,
            _ => EntryKind::Other,
        })
    }

    fn canonicalize(&self, path: &Path) -> Option<PathBuf> {
        path.canonicalize().ok()
    }
}

/// Returns the folders outside of the workspace that git writes to when it works in the workspace.
///
/// # Errors
/// The reason why git can't work in the workspace.
pub(crate) fn git_folders(workspace: &Path, roots: &[String]) -> Result<Vec<PathBuf>, GitLinkError> {
    let roots: Vec<PathBuf> = roots.iter().map(PathBuf::from).collect();
    git_link::git_folders(workspace, &roots, &RealDisk)
}

/// Returns the paths in a repository's folder from which git takes programs to run, including those of its submodules
/// and linked worktrees. In `workspace_git_folders`, everything else stays writable.
pub(crate) fn settings_paths(git: &Path, workspace_git_folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut paths = Vec::from(SETTINGS.map(|name| git.join(name)));
    for folder in take_listed_folders(&git.join("worktrees"), workspace_git_folders, &mut paths) {
        let is_complete = ["commondir", "gitdir"].iter().all(|name| folder.join(name).exists());
        if is_complete {
            paths.extend(WORKTREE_SETTINGS.map(|name| folder.join(name)));
        } else {
            paths.push(folder);
        }
    }
    add_submodules(&git.join("modules"), workspace_git_folders, MAX_DEPTH, &mut paths);
    paths
}

fn add_submodules(folder: &Path, workspace_git_folders: &[PathBuf], depth: usize, paths: &mut Vec<PathBuf>) {
    if depth == 0 {
        return paths.push(folder.to_owned());
    }
    for module in take_listed_folders(folder, workspace_git_folders, paths) {
        if module.join("HEAD").exists() {
            paths.extend(SETTINGS.map(|name| module.join(name)));
            add_submodules(&module.join("modules"), workspace_git_folders, depth - 1, paths);
        } else {
            // The name of a submodule may have several parts.
            add_submodules(&module, workspace_git_folders, depth - 1, paths);
        }
    }
}

/// Returns the folders in `folder` whose settings are to be listed one by one. Adds the other folders to `paths`.
fn take_listed_folders(
    folder: &Path,
    workspace_git_folders: &[PathBuf],
    paths: &mut Vec<PathBuf>,
) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
    let is_workspace = |folder: &PathBuf| workspace_git_folders.iter().any(|git| git.starts_with(folder));
    found.sort_by_key(|folder| (!is_workspace(folder), folder.clone()));
    paths.extend(found.split_off(found.len().min(MAX_LISTED_FOLDERS)));
    found
}

/// Returns the first line of a regular file, of which at most [`MAX_LINE`] bytes are read.
pub(crate) fn read_line(path: &Path) -> Option<String> {
    read_text(path, MAX_LINE)?.lines().next().map(str::to_owned)
}

/// Returns the text of a regular file, at most `max_bytes` bytes of it.
fn read_text(path: &Path, max_bytes: u64) -> Option<String> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path).ok()?;
    file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut text = String::new();
    file.take(max_bytes).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn worktrees_submodules_and_subfolders_lead_to_their_repository() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let roots = [dir.display().to_string()];
        let main = dir.join("main");
        write(main.join(".git/HEAD"), "ref: refs/heads/main\n");
        fs::create_dir_all(main.join("sub/deep")).unwrap();
        fs::create_dir(main.join(".git/objects")).unwrap();
        assert_eq!(git_folders(&main, &roots), Ok(Vec::new()));
        assert_eq!(git_folders(&main.join("sub/deep"), &roots), Ok(vec![main.join(".git")]));
        let elsewhere = [dir.join("other").display().to_string()];
        assert_eq!(git_folders(&main.join("sub/deep"), &elsewhere), Ok(Vec::new()));

        let (tree, own) = (dir.join("tree"), main.join(".git/worktrees/tree"));
        write(tree.join(".git"), &format!("gitdir: {}\n", own.display()));
        write(own.join("commondir"), "../..\n");
        write(own.join("gitdir"), &format!("{}\n", tree.join(".git").display()));
        assert_eq!(git_folders(&tree, &roots), Ok(vec![own.clone(), main.join(".git")]));

        write(main.join("mod/.git"), "gitdir: ../.git/modules/mod\n");
        write(main.join(".git/modules/mod/config"), "[core]\n\tworktree = ../../../mod\n");
        assert_eq!(git_folders(&main.join("mod"), &roots), Ok(vec![main.join(".git/modules/mod")]));
    }

    #[test]
    fn settings_of_submodules_and_worktrees_are_listed_with_the_repository() {
        let dir = tempfile::tempdir().unwrap();
        let git = dir.path().canonicalize().unwrap().join(".git");
        for module in ["modules/a", "modules/a/modules/deep", "modules/lib/b"] {
            write(git.join(module).join("HEAD"), "x\n");
        }
        for name in ["commondir", "gitdir"] {
            write(git.join("worktrees/tree").join(name), "x\n");
        }
        write(git.join("worktrees/broken/HEAD"), "x\n");
        let listed_names = |own: &[PathBuf]| {
            let all = settings_paths(&git, own);
            all.iter().map(|path| path.strip_prefix(&git).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        let expected = [
            "hooks",
            "config",
            "config.worktree",
            "commondir",
            "worktrees/broken",
            "worktrees/tree/commondir",
            "worktrees/tree/gitdir",
            "worktrees/tree/config.worktree",
            "modules/a/hooks",
            "modules/a/config",
            "modules/a/config.worktree",
            "modules/a/commondir",
            "modules/a/modules/deep/hooks",
            "modules/a/modules/deep/config",
            "modules/a/modules/deep/config.worktree",
            "modules/a/modules/deep/commondir",
            "modules/lib/b/hooks",
            "modules/lib/b/config",
            "modules/lib/b/config.worktree",
            "modules/lib/b/commondir",
        ];
        similar_asserts::assert_eq!(listed_names(&[]), expected);
        // Of very many submodules, whole folders are read-only, but never the one that a job works in.
        for n in 0..100 {
            write(git.join(format!("modules/a{n}/HEAD")), "x\n");
        }
        let own = git.join("modules/a99");
        let all = listed_names(std::slice::from_ref(&own));
        assert!(all.contains(&"modules/a99/config".to_owned()) && !all.contains(&"modules/a99".to_owned()));
        assert!(all.contains(&"modules/a98".to_owned()) && all.len() < 400, "{}", all.len());
    }

    #[test]
    fn a_forged_git_file_gives_no_access_to_another_repository() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let roots = [dir.display().to_string()];
        let (ws, victim) = (dir.join("ws"), dir.join("victim"));
        write(victim.join(".git/HEAD"), "x\n");
        write(victim.join(".git/worktrees/other/commondir"), "../..\n");
        write(victim.join(".git/worktrees/other/gitdir"), "/elsewhere/.git\n");
        for target in [".git", ".", ".git/worktrees/other"] {
            write(ws.join(".git"), &format!("gitdir: ../victim/{target}\n"));
            assert!(git_folders(&ws, &roots).is_err(), "{target}");
        }
    }
}
