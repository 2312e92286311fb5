//! Mapping of a workspace's host path to the worker's path.

use std::path::{Path, PathBuf};

use common::git_link::{self, Disk, EntryKind};
use common::job::Sandbox;
use rustix::fs::Access;
use rustix::io::Errno;

use crate::bounded_file;
use crate::config::{Config, PlatformConfig};
use crate::engine_kind::EngineKind;
use crate::exit::Failure;

/// Mount point of the workspaces folder in a container.
pub const MOUNT_POINT: &str = "/workspaces";

/// A workspace with its path on the host and for the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    pub host_path: PathBuf,
    /// Path at which the worker sees the folder. If the worker gets a clone, the same as `host_path`.
    pub worker_path: String,
    /// True if the worker gets a clone of the folder's repository instead of the folder.
    pub is_source: bool,
}

/// Checks that `dir` (relative to `cwd`), whose repository a worker gets a clone of, exists.
///
/// # Errors
/// Exit code 2 with the folder's name and advice.
pub fn resolve_source(cwd: &Path, dir: &Path) -> Result<Workspace, Failure> {
    let host = find_folder(cwd, dir)?;
    let worker_path = utf8_path(&host)?;
    Ok(Workspace { host_path: host, worker_path, is_source: true })
}

fn find_folder(cwd: &Path, dir: &Path) -> Result<PathBuf, Failure> {
    cwd.join(dir).canonicalize().ok().filter(|host| host.is_dir()).ok_or_else(|| {
        Failure::usage(format!(
            "workspace {} is not a directory: create it or choose another with -w",
            dir.display()
        ))
    })
}

fn utf8_path(path: &Path) -> Result<String, Failure> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Failure::usage(format!("workspace {} has a name that is not UTF-8", path.display())))
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
    let host = find_folder(cwd, dir)?;
    check_writable(engine, &host)?;
    if !engine.is_container() {
        let worker_path = utf8_path(&host)?;
        return Ok(Workspace { host_path: host, worker_path, is_source: false });
    }
    let mounted =
        platform.workspaces_folder.canonicalize().unwrap_or_else(|_| platform.workspaces_folder.clone());
    let below = host.strip_prefix(&mounted).map_err(|_| {
        Failure::usage(format!(
            "workspace {} is outside of {}, the folder that the {engine} platform sees: use --branch if it is a repository, \
             move it there, or set [platform] workspaces in platform/relay.toml",
            host.display(),
            mounted.display()
        ))
    })?;
    let below = utf8_path(below)?;
    let worker_path =
        if below.is_empty() { MOUNT_POINT.to_owned() } else { format!("{MOUNT_POINT}/{below}") };
    Ok(Workspace { host_path: host, worker_path, is_source: false })
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

/// Refuses a job that works in the workspace itself, if git can't work there: a linked worktree or submodule whose
/// repository is out of the worker's reach.
///
/// # Errors
/// Exit code 2 with the reason and the way on.
pub fn check_in_place(engine: EngineKind, config: &Config, workspace: &Workspace) -> Result<(), Failure> {
    let host = &workspace.host_path;
    let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let workspaces = resolved(&config.platform.workspaces_folder);
    let problem = if engine.is_container() {
        container_problem(&workspaces, host)
    } else if config.codex.job_settings(engine).sandbox == Sandbox::Off {
        None
    } else {
        let roots = [resolved(&config.root), workspaces];
        git_link::git_folders(host, &roots, &HostDisk).err().map(|error| error.to_string())
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(Failure::usage(format!(
            "workspace {} {problem}: `relay launch --branch` works in a clone of it",
            host.display()
        ))),
    }
}

/// Returns the reason why the repository of a linked worktree or submodule is not visible in the container: git follows
/// the path in its `.git`.
fn container_problem(mounted: &Path, host: &Path) -> Option<String> {
    let folders = host.ancestors().take_while(|folder| folder.starts_with(mounted));
    let git = folders.map(|folder| folder.join(".git")).find(|git| git.symlink_metadata().is_ok())?;
    let text = HostDisk.read(&git)?;
    let target = Path::new(text.lines().next()?.strip_prefix("gitdir:")?.trim());
    let found =
        git.parent().unwrap_or(host).join(target).canonicalize().unwrap_or_else(|_| target.to_owned());
    let kind = "is a linked worktree or submodule, and its repository";
    if !found.starts_with(mounted) {
        Some(format!("{kind} {} is outside of the folder that the platform sees", found.display()))
    } else if target.is_absolute() {
        Some(format!("{kind} is named by a path of this machine, which the platform does not have"))
    } else {
        None
    }
}

/// The disk of this machine. Workers can write the files that are read.
struct HostDisk;

impl Disk for HostDisk {
    fn read(&self, path: &Path) -> Option<String> {
        path.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
        String::from_utf8(bounded_file::read_bounded(path).ok()?).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let config = Config::load(&root).unwrap();
        let check = |engine, dir: &str| {
            let workspace = resolve_workspace(engine, &config.platform, &root, Path::new(dir)).unwrap();
            check_in_place(engine, &config, &workspace).map_err(|failure| failure.message)
        };
        for fine in ["main", "main/mod", "main/mod/sub"] {
            assert_eq!(check(EngineKind::Docker, &format!("workspace-projects/{fine}")), Ok(()), "{fine}");
        }
        let tree = |engine, target: &str| {
            write("workspace-projects/tree/.git", &format!("gitdir: {target}\n"));
            check(engine, "workspace-projects/tree")
        };
        assert_eq!(tree(EngineKind::Docker, "../main/.git/worktrees/tree"), Ok(()));
        let absolute = root.join("workspace-projects/main/.git/worktrees/tree").display().to_string();
        let refused = tree(EngineKind::Docker, &absolute).unwrap_err();
        assert!(refused.contains("a path of this machine") && refused.contains("--branch"), "{refused}");
        let away = root.join("away/.git/worktrees/tree").display().to_string();
        let refused = tree(EngineKind::Docker, &away).unwrap_err();
        assert!(refused.contains("outside of the folder that the platform sees"), "{refused}");
        // On this machine the folder of the repository has to point back to the worktree.
        let refused = tree(EngineKind::Local, &absolute).unwrap_err();
        assert!(refused.contains("does not name it"), "{refused}");
        write("workspace-projects/main/.git/HEAD", "x");
        write("workspace-projects/main/.git/objects/x", "");
        write("workspace-projects/main/.git/worktrees/tree/commondir", "../..\n");
        let back = root.join("workspace-projects/tree/.git").display().to_string();
        write("workspace-projects/main/.git/worktrees/tree/gitdir", &back);
        assert_eq!(tree(EngineKind::Local, &absolute), Ok(()));
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
