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

/// Workspace with its path on the host and its path for the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    pub host_path: PathBuf,
    /// Path at which the worker sees the folder. If the worker gets a clone, the same as `host_path`.
    pub worker_path: String,
    /// True if the worker gets a clone of the folder's repository instead of the folder.
    pub is_source: bool,
}

/// Resolves the folder `dir` (relative to `cwd`), of whose repository a worker gets a clone.
///
/// # Errors
/// Returns exit code 2 with the folder's name and advice.
pub fn resolve_source(cwd: &Path, dir: &Path) -> Result<Workspace, Failure> {
    let host_path = find_folder(cwd, dir)?;
    let worker_path = utf8_path(&host_path)?;
    Ok(Workspace { host_path, worker_path, is_source: true })
}

fn find_folder(cwd: &Path, dir: &Path) -> Result<PathBuf, Failure> {
    cwd.join(dir).canonicalize().ok().filter(|host_path| host_path.is_dir()).ok_or_else(|| {
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

/// Resolves the workspace `dir` (relative to `cwd`), which must exist and, for a container, lie in the mounted folder.
///
/// # Errors
/// Returns exit code 2 with the folder's name and advice.
pub fn resolve_workspace(
    engine: EngineKind,
    platform: &PlatformConfig,
    cwd: &Path,
    dir: &Path,
) -> Result<Workspace, Failure> {
    let host_path = find_folder(cwd, dir)?;
    check_writable(engine, &host_path)?;
    if !engine.is_container() {
        let worker_path = utf8_path(&host_path)?;
        return Ok(Workspace { host_path, worker_path, is_source: false });
    }
    let mounted_folder =
        platform.workspaces_folder.canonicalize().unwrap_or_else(|_| platform.workspaces_folder.clone());
    let relative = host_path.strip_prefix(&mounted_folder).map_err(|_| {
        Failure::usage(format!(
            "workspace {} is outside of {}, the folder that the {engine} platform sees: use --branch if it is a repository, \
             move it there, or set [platform] workspaces in platform/relay.toml",
            host_path.display(),
            mounted_folder.display()
        ))
    })?;
    let relative = utf8_path(relative)?;
    let worker_path =
        if relative.is_empty() { MOUNT_POINT.to_owned() } else { format!("{MOUNT_POINT}/{relative}") };
    Ok(Workspace { host_path, worker_path, is_source: false })
}

/// Refuses a workspace that a worker can't write to: on a read-only file system, or without write permission if the
/// worker runs as this user.
fn check_writable(engine: EngineKind, host_path: &Path) -> Result<(), Failure> {
    let problem = match rustix::fs::access(host_path, Access::WRITE_OK) {
        Err(Errno::ROFS) => "lies on a read-only file system",
        Err(Errno::ACCESS) if !engine.is_container() => "can't be written by this user",
        _ => return Ok(()),
    };
    Err(Failure::usage(format!("workspace {} {problem}: name another with -w", host_path.display())))
}

/// Refuses a job that works in the workspace itself, if git can't work there: a linked worktree or submodule whose
/// repository the worker can't reach.
///
/// # Errors
/// Returns exit code 2 with the reason and advice.
pub fn check_in_place(engine: EngineKind, config: &Config, workspace: &Workspace) -> Result<(), Failure> {
    let host_path = &workspace.host_path;
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let workspaces = canonical(&config.platform.workspaces_folder);
    let problem = if engine.is_container() {
        container_problem(&workspaces, host_path)
    } else if config.codex.job_settings(engine).sandbox == Sandbox::Off {
        None
    } else {
        let roots = [canonical(&config.root), workspaces];
        git_link::git_folders(host_path, &roots, &HostDisk).err().map(|error| error.to_string())
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(Failure::usage(format!(
            "workspace {} {problem}: `relay launch --branch` works in a clone of it",
            host_path.display()
        ))),
    }
}

/// Returns the reason why the repository of a linked worktree or submodule is not visible in the container. git follows
/// the path in the `.git` file of the worktree or submodule.
fn container_problem(mounted_folder: &Path, host_path: &Path) -> Option<String> {
    let folders = host_path.ancestors().take_while(|folder| folder.starts_with(mounted_folder));
    let git = folders.map(|folder| folder.join(".git")).find(|git| git.symlink_metadata().is_ok())?;
    let text = HostDisk.read(&git)?;
    let target = Path::new(text.lines().next()?.strip_prefix("gitdir:")?.trim());
    let repository =
        git.parent().unwrap_or(host_path).join(target).canonicalize().unwrap_or_else(|_| target.to_owned());
    let kind = "is a linked worktree or submodule, and its repository";
    if !repository.starts_with(mounted_folder) {
        Some(format!("{kind} {} is outside of the folder that the platform sees", repository.display()))
    } else if target.is_absolute() {
        Some(format!("{kind} is named by a path of this machine, which the platform does not have"))
    } else {
        None
    }
}

/// Returns the git folders outside of a workspace that git needs there. Only folders in `root` that name the
/// workspace themselves are returned, because a worker can write the workspace's own `.git`.
pub fn git_folders(root: &Path, workspace: &Path) -> Vec<PathBuf> {
    if workspace.canonicalize().is_ok_and(|canonical| canonical == workspace) {
        return git_link::git_folders(workspace, &[root.to_owned()], &HostDisk).unwrap_or_default();
    }
    Vec::new()
}

/// Disk of this machine. Workers can write the files that are read from it.
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
    fn a_workspace_for_a_container_must_lie_in_the_mounted_folder() {
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
            let error = find(EngineKind::Docker, outside).unwrap_err();
            assert_eq!(error.code as u8, 2, "{error}");
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
        for valid in ["main", "main/mod", "main/mod/sub"] {
            assert_eq!(check(EngineKind::Docker, &format!("workspace-projects/{valid}")), Ok(()), "{valid}");
        }
        let tree = |engine, target: &str| {
            write("workspace-projects/tree/.git", &format!("gitdir: {target}\n"));
            check(engine, "workspace-projects/tree")
        };
        assert_eq!(tree(EngineKind::Docker, "../main/.git/worktrees/tree"), Ok(()));
        let absolute = root.join("workspace-projects/main/.git/worktrees/tree").display().to_string();
        let error = tree(EngineKind::Docker, &absolute).unwrap_err();
        assert!(error.contains("a path of this machine") && error.contains("--branch"), "{error}");
        let outside_repository = root.join("away/.git/worktrees/tree").display().to_string();
        let error = tree(EngineKind::Docker, &outside_repository).unwrap_err();
        assert!(error.contains("outside of the folder that the platform sees"), "{error}");
        // With engine `local`, the folder that `.git` names must point back to the worktree.
        let error = tree(EngineKind::Local, &absolute).unwrap_err();
        assert!(error.contains("does not name it"), "{error}");
        write("workspace-projects/main/.git/HEAD", "x");
        write("workspace-projects/main/.git/objects/x", "");
        write("workspace-projects/main/.git/worktrees/tree/commondir", "../..\n");
        let git_file = root.join("workspace-projects/tree/.git").display().to_string();
        write("workspace-projects/main/.git/worktrees/tree/gitdir", &git_file);
        assert_eq!(tree(EngineKind::Local, &absolute), Ok(()));
    }

    #[test]
    fn a_link_that_leads_out_of_the_mounted_folder_is_refused() {
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
