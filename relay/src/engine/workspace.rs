//! Mapping of a workspace's host path to the worker's path.

use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;

use crate::bounded_file;
use crate::config::PlatformConfig;
use crate::engine_kind::EngineKind;
use crate::exit::Failure;

/// Mount point of the workspaces folder in a container.
pub const MOUNT_POINT: &str = "/workspaces";

/// A workspace with its path on the host and for the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    pub host_path: PathBuf,
    /// Path for the worker.
    pub worker_path: String,
}

/// Checks that `dir` (relative to `cwd`) exists and, for a container, lies below the mounted folder.
///
/// # Errors
/// Exit code 2 with the folder's name and advice.
pub fn resolve_workspace(
    engine: EngineKind,
    platform: &PlatformConfig,
    cwd: &Path,
    dir: &Path,
) -> Result<Workspace, Failure> {
    let host = cwd.join(dir).canonicalize().ok().filter(|host| host.is_dir()).ok_or_else(|| {
        Failure::usage(format!(
            "workspace {} is not a directory: create it or choose another with -w",
            dir.display()
        ))
    })?;
    check_writable(engine, &host)?;
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| {
            Failure::usage(format!("workspace {} has a name that is not UTF-8", path.display()))
        })
    };
    if !engine.is_container() {
        let inside = text(&host)?;
        return Ok(Workspace { host_path: host, worker_path: inside });
    }
    let mounted =
        platform.workspaces_folder.canonicalize().unwrap_or_else(|_| platform.workspaces_folder.clone());
    let below = host.strip_prefix(&mounted).map_err(|_| {
        Failure::usage(format!(
            "workspace {} is outside of {}, the folder that the {engine} platform sees: move it there, or set [platform] \
             workspaces in platform/relay.toml",
            host.display(),
            mounted.display()
        ))
    })?;
    check_repository(&mounted, &host)?;
    let below = text(below)?;
    let inside = if below.is_empty() { MOUNT_POINT.to_owned() } else { format!("{MOUNT_POINT}/{below}") };
    Ok(Workspace { host_path: host, worker_path: inside })
}

/// Refuses a workspace that a worker can't write to: on a read-only file system, or without write permission if the
/// worker runs as this user.
fn check_writable(engine: EngineKind, host: &Path) -> Result<(), Failure> {
    let why = match rustix::fs::access(host, Access::WRITE_OK) {
        Err(Errno::ROFS) => "lies on a read-only file system",
        Err(Errno::ACCESS) if !engine.is_container() => "can't be written by this user",
        _ => return Ok(()),
    };
    Err(Failure::usage(format!("workspace {} {why}: name another with -w", host.display())))
}

/// Refuses a linked worktree or submodule whose repository is not visible in the container: git follows the path in its
/// `.git`.
fn check_repository(mounted: &Path, host: &Path) -> Result<(), Failure> {
    let folders = host.ancestors().take_while(|folder| folder.starts_with(mounted));
    let Some(git) = folders.map(|folder| folder.join(".git")).find(|git| git.symlink_metadata().is_ok())
    else {
        return Ok(());
    };
    let text = bounded_file::read_bounded(&git).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let Some(target) = text.lines().next().and_then(|line| line.strip_prefix("gitdir:")) else {
        return Ok(());
    };
    let target = Path::new(target.trim());
    let found =
        git.parent().unwrap_or(host).join(target).canonicalize().unwrap_or_else(|_| target.to_owned());
    let why = if !found.starts_with(mounted) {
        format!(
            "its repository {} is outside of the folder that the platform sees: clone it there",
            found.display()
        )
    } else if target.is_absolute() {
        "its repository is named by a path that the platform does not have: `git worktree repair \
        --relative-paths` there (git 2.48 or newer) fixes that, and so does a clone"
            .to_owned()
    } else {
        return Ok(());
    };
    Err(Failure::usage(format!("workspace {} is a linked worktree or submodule, and {why}", host.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_container_sees_its_mount_and_refuses_what_lies_outside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("workspace-projects/abe")).unwrap();
        let platform = Config::load(&root).unwrap().platform;
        let find = |engine, dir: &str| resolve_workspace(engine, &platform, &root, Path::new(dir));
        assert_eq!(
            find(EngineKind::Docker, "workspace-projects/abe").unwrap().worker_path,
            "/workspaces/abe"
        );
        assert_eq!(find(EngineKind::Docker, "workspace-projects").unwrap().worker_path, "/workspaces");
        for outside in [".", "workspace-projects/..", "missing"] {
            let refused = find(EngineKind::Docker, outside).unwrap_err();
            assert_eq!(refused.code as u8, 2, "{refused}");
        }
        assert_eq!(find(EngineKind::Local, ".").unwrap().worker_path, root.to_str().unwrap());
    }

    #[test]
    fn a_worktree_whose_repository_a_container_would_not_find_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("workspace-projects/main/.git/worktrees/tree/HEAD", "x");
        write("workspace-projects/main/.git/modules/mod/HEAD", "x");
        write("workspace-projects/main/mod/sub/.keep", "");
        write("workspace-projects/main/mod/.git", "gitdir: ../.git/modules/mod\n");
        write("away/.git/worktrees/tree/HEAD", "x");
        let platform = Config::load(&root).unwrap().platform;
        let find = |engine, dir: &str| resolve_workspace(engine, &platform, &root, Path::new(dir));
        for fine in ["main", "main/mod", "main/mod/sub"] {
            assert!(find(EngineKind::Docker, &format!("workspace-projects/{fine}")).is_ok(), "{fine}");
        }
        let tree = |target: &str| {
            write("workspace-projects/tree/.git", &format!("gitdir: {target}\n"));
            assert!(find(EngineKind::Local, "workspace-projects/tree").is_ok());
            find(EngineKind::Docker, "workspace-projects/tree").map_err(|failure| failure.message)
        };
        assert!(tree("../main/.git/worktrees/tree").is_ok());
        let absolute = root.join("workspace-projects/main/.git/worktrees/tree").display().to_string();
        let refused = tree(&absolute).unwrap_err();
        assert!(refused.contains("git worktree repair --relative-paths"), "{refused}");
        let refused = tree(&root.join("away/.git/worktrees/tree").display().to_string()).unwrap_err();
        assert!(refused.contains("outside of the folder that the platform sees"), "{refused}");
    }

    #[test]
    fn a_link_out_of_the_mount_is_outside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("workspace-projects")).unwrap();
        std::os::unix::fs::symlink("/", root.join("workspace-projects/out")).unwrap();
        let platform = Config::load(&root).unwrap().platform;
        assert!(
            resolve_workspace(EngineKind::Docker, &platform, &root, Path::new("workspace-projects/out"))
                .is_err()
        );
    }
}
