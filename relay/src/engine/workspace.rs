//! Host path of a workspace → the path that the worker sees.

use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;

use super::EngineKind;
use crate::config::PlatformConfig;
use crate::exit::Failure;

/// Where the workspaces folder is mounted in a container.
pub const MOUNT: &str = "/workspaces";

/// A working folder, as both sides see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// On the host.
    pub host: PathBuf,
    /// Where the worker runs.
    pub inside: String,
}

/// Checks that `dir` (relative to `cwd`) exists and, for a container, lies below the mounted folder.
///
/// # Errors
/// Exit code 2 with the folder's name and what to do.
pub fn resolve(
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
        return Ok(Workspace { host, inside });
    }
    let mounted = platform.workspaces.canonicalize().unwrap_or_else(|_| platform.workspaces.clone());
    let below = host.strip_prefix(&mounted).map_err(|_| {
        Failure::usage(format!(
            "workspace {} is outside of {}, the folder that the {engine} platform sees: move it there, or set [platform] \
             workspaces in platform/relay.toml",
            host.display(),
            mounted.display()
        ))
    })?;
    let below = text(below)?;
    let inside = if below.is_empty() { MOUNT.to_owned() } else { format!("{MOUNT}/{below}") };
    Ok(Workspace { host, inside })
}

/// Refuses a workspace in which no worker could write: on a read-only file system, or without the right to it where the
/// worker is this user.
fn check_writable(engine: EngineKind, host: &Path) -> Result<(), Failure> {
    let why = match rustix::fs::access(host, Access::WRITE_OK) {
        Err(Errno::ROFS) => "lies on a read-only file system",
        Err(Errno::ACCESS) if !engine.is_container() => "can't be written by this user",
        _ => return Ok(()),
    };
    Err(Failure::usage(format!("workspace {} {why}: name another with -w", host.display())))
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
        let find = |engine, dir: &str| resolve(engine, &platform, &root, Path::new(dir));
        assert_eq!(find(EngineKind::Docker, "workspace-projects/abe").unwrap().inside, "/workspaces/abe");
        assert_eq!(find(EngineKind::Docker, "workspace-projects").unwrap().inside, "/workspaces");
        for outside in [".", "workspace-projects/..", "missing"] {
            let refused = find(EngineKind::Docker, outside).unwrap_err();
            assert_eq!(refused.code as u8, 2, "{refused}");
        }
        assert_eq!(find(EngineKind::Local, ".").unwrap().inside, root.to_str().unwrap());
    }

    #[test]
    fn a_link_out_of_the_mount_is_outside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("workspace-projects")).unwrap();
        std::os::unix::fs::symlink("/", root.join("workspace-projects/out")).unwrap();
        let platform = Config::load(&root).unwrap().platform;
        assert!(resolve(EngineKind::Docker, &platform, &root, Path::new("workspace-projects/out")).is_err());
    }
}
