//! The project root, which contains `platform/relay.toml` and the registry.

use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// Finds the project root: `explicit`, else the nearest folder upward from `cwd` with `platform/relay.toml`, else the
/// nearest git root.
///
/// # Errors
/// Returns an error if no root is found, or if `explicit` is not a folder.
pub fn find_root(explicit: Option<&Path>, cwd: &Path) -> Result<PathBuf, Failure> {
    if let Some(root) = explicit {
        return root.canonicalize().ok().filter(|root| root.is_dir()).ok_or_else(|| {
            let root = root.display();
            Failure::usage(format!("{root}: no such folder: name another with --root or RELAY_ROOT"))
        });
    }
    let find_upward =
        |is_root: fn(&Path) -> bool| cwd.ancestors().find(|dir| is_root(dir)).map(Path::to_path_buf);
    find_upward(|dir| dir.join("platform/relay.toml").exists()).or_else(|| find_upward(is_git_root)).ok_or_else(|| {
        Failure::usage(format!(
            "no project found upward from {}: run this inside a git repository or a folder with platform/relay.toml, \
             or name the project with --root DIR",
            cwd.display()
        ))
    })
}

/// Returns true if git recognizes a repository in `dir`. Git ignores a `.git` folder without a HEAD, which a sandbox
/// may leave behind. In a worktree or submodule `.git` is a file.
fn is_git_root(dir: &Path) -> bool {
    let git = dir.join(".git");
    git.is_file() || git.join("HEAD").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_toml_wins_over_a_nearer_git_root_and_an_empty_git_folder_is_no_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let inner = root.join("sub/deep");
        std::fs::create_dir_all(inner.join(".git")).unwrap();
        std::fs::write(inner.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        assert_eq!(find_root(None, &inner).unwrap(), inner);
        let placeholder = inner.join("place");
        std::fs::create_dir_all(placeholder.join(".git")).unwrap();
        assert_eq!(find_root(None, &placeholder).unwrap(), inner);
        std::fs::remove_dir(placeholder.join(".git")).unwrap();
        std::fs::write(placeholder.join(".git"), "gitdir: ../../main/.git/worktrees/place\n").unwrap();
        assert_eq!(find_root(None, &placeholder).unwrap(), placeholder);
        std::fs::create_dir(root.join("platform")).unwrap();
        std::fs::write(root.join("platform/relay.toml"), "").unwrap();
        assert_eq!(find_root(None, &inner).unwrap(), root);
        assert!(find_root(Some(&root.join("missing")), &inner).unwrap_err().message.contains("missing"));
    }
}
