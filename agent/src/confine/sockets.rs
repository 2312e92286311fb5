//! Sockets of services outside of the sandbox that start programs for any client: container engines, the user's
//! session, terminals. A job could connect to them even if their files were read-only, so they are hidden.
//!
//! Three kinds of sockets are not found: abstract sockets (they have no file), sockets that a program creates after the
//! job has started, and sockets that were moved or linked to a folder that is not searched here.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::listeners::{self, Listener};
use crate::environment::Variables;

/// Paths of well-known services.
const SERVICES: [&str; 16] = [
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/var/run/podman",
    "/run/docker",
    "/run/podman",
    "/run/containerd",
    "/run/crio",
    "/run/buildkit",
    "/run/libvirt",
    "/run/screen",
    "/run/snapd.socket",
    "/run/snapd-snap.socket",
    "/run/systemd/private",
    "/run/dbus",
    "/tmp/.X11-unix",
    "/tmp/.ICE-unix",
];
/// Paths of well-known services in a home directory.
const HOME_SERVICES: [&str; 2] = [".docker/run", ".docker/desktop"];
/// Variables with the addresses of container engines.
const ENGINE_VARIABLES: [&str; 2] = ["DOCKER_HOST", "CONTAINER_HOST"];
/// Maximum number of additional sockets that are hidden one by one. Each needs a mount in every sandbox, and a part of
/// an argument that the kernel limits to 128 KiB.
const MAX_SOCKETS: usize = 400;
/// Maximum number of entries of one folder, and of processes, that are searched for sockets that are no longer at the
/// path they were bound to.
const MAX_SEARCHED_ENTRIES: usize = 10_000;

/// Returns what a job must not reach: existing sockets and socket folders of well-known services, and every other
/// listening socket to which this user could connect. `env` is the environment of the user.
///
/// # Errors
/// One line with advice if there are more sockets than can be hidden.
pub(super) fn paths_to_hide(env: &Variables) -> Result<Vec<PathBuf>, String> {
    let user = rustix::process::geteuid().as_raw();
    let mut services: Vec<PathBuf> = SERVICES.map(PathBuf::from).into();
    services.push(PathBuf::from(format!("/run/user/{user}")));
    services.push(PathBuf::from(format!("/tmp/tmux-{user}")));
    if let Some(home) = env.get("HOME") {
        services.extend(HOME_SERVICES.map(|name| Path::new(home).join(name)));
    }
    let folders = ["XDG_RUNTIME_DIR", "SSH_AUTH_SOCK"].into_iter().filter_map(|name| env.get(name));
    let engines = ENGINE_VARIABLES
        .into_iter()
        .filter_map(|name| env.get(name)?.strip_prefix("unix://").map(str::to_owned));
    let configured = folders.cloned().chain(engines).map(PathBuf::from);
    // A variable that names a folder directly below `/`, such as `/home`, is ignored: too much would be hidden.
    services.extend(configured.filter(|path| path.is_absolute() && path.components().count() > 2));
    services.retain(|path| path.symlink_metadata().is_ok());
    let is_covered = |path: &Path| services.iter().any(|service| path.starts_with(service));
    let mut other_sockets = BTreeSet::new();
    for path in connectable_sockets(&listeners::listening_sockets(), env) {
        let path = path.canonicalize().unwrap_or(path);
        if !is_covered(&path) {
            other_sockets.insert(path);
        }
    }
    check_socket_count(other_sockets.len())?;
    services.extend(other_sockets);
    Ok(services)
}

fn check_socket_count(count: usize) -> Result<(), String> {
    if count <= MAX_SOCKETS {
        return Ok(());
    }
    Err(format!(
        "{count} sockets of other programs listen on this machine, and no more than {MAX_SOCKETS} can be hidden from a job: end some of \
         those programs (`ss -xl` lists the sockets)"
    ))
}

/// Returns the files of the sockets in `listeners` to which this process could connect.
fn connectable_sockets(listeners: &[Listener], env: &Variables) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let (mut moved, mut relative) = (Vec::new(), Vec::new());
    for listener in listeners {
        let meta = listener.path.symlink_metadata().ok().filter(|_| listener.path.is_absolute());
        let is_socket = meta.as_ref().is_some_and(|meta| meta.file_type().is_socket());
        // A socket at the bound path is included whatever its inode number: some file systems give a file two numbers.
        if is_socket {
            found.insert(listener.path.clone());
        }
        let is_in_place = meta.is_some_and(|meta| {
            listener.inode_low_bits.is_none_or(|inode| has_inode(&meta, inode)) && meta.nlink() == 1
        });
        if !is_in_place {
            moved.push(listener);
        }
        if listener.path.is_relative() {
            relative.push(listener);
        }
    }
    if !relative.is_empty() {
        found.extend(relative_sockets(&relative));
    }
    if !moved.is_empty() {
        found.extend(moved_sockets(&moved, env));
    }
    // Write permission on a socket's file allows a connection, also to a file of another user.
    found.retain(|path| accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok());
    found
}

/// Returns sockets that were bound to a relative path, searched in the working directories of all processes.
fn relative_sockets(listeners: &[&Listener]) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().take(MAX_SEARCHED_ENTRIES);
    let folders: BTreeSet<PathBuf> =
        processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok()).collect();
    let candidates =
        folders.iter().flat_map(|folder| listeners.iter().map(move |listener| (folder, listener)));
    let find_socket = |(folder, listener): (&PathBuf, &&Listener)| {
        let path = folder.join(&listener.path);
        let meta = path.symlink_metadata().ok().filter(|meta| meta.file_type().is_socket())?;
        listener.inode_low_bits.is_none_or(|inode| has_inode(&meta, inode)).then_some(path)
    };
    candidates.filter_map(find_socket).collect()
}

/// Returns sockets that were moved or linked, searched in the folders where sockets usually are.
fn moved_sockets(listeners: &[&Listener], env: &Variables) -> Vec<PathBuf> {
    let inodes: BTreeSet<u32> = listeners.iter().filter_map(|listener| listener.inode_low_bits).collect();
    let bound_folders =
        listeners.iter().filter_map(|listener| listener.path.parent()).filter(|folder| folder.is_absolute());
    let configured =
        ["XDG_RUNTIME_DIR", "TMPDIR"].into_iter().filter_map(|name| env.get(name)).map(PathBuf::from);
    let ssh = env.get("HOME").map(|home| Path::new(home).join(".ssh"));
    let usual = ["/tmp", "/run", "/var/tmp"].map(PathBuf::from);
    let folders: BTreeSet<PathBuf> =
        bound_folders.map(Path::to_owned).chain(configured).chain(ssh).chain(usual).collect();
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_SEARCHED_ENTRIES));
    let is_moved = |entry: &fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_socket())
            && entry.metadata().is_ok_and(|meta| inodes.iter().any(|inode| has_inode(&meta, *inode)))
    };
    entries.filter(is_moved).map(|entry| entry.path()).collect()
}

fn has_inode(meta: &fs::Metadata, inode_low_bits: u32) -> bool {
    meta.ino() & u64::from(u32::MAX) == u64::from(inode_low_bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn is_hidden(path: &Path, env: &Variables) -> bool {
        paths_to_hide(env).unwrap().contains(&path.canonicalize().unwrap())
    }

    #[test]
    fn a_socket_that_listens_is_hidden_whatever_its_name_is() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["s", "with a space", "with\na line"] {
            let path = dir.path().join(name);
            let _listener = UnixListener::bind(&path).unwrap();
            assert!(is_hidden(&path, &Variables::new()), "{name}");
        }
    }

    #[test]
    fn a_socket_that_was_moved_or_linked_is_hidden_in_the_usual_folders() {
        let dir = tempfile::tempdir().unwrap();
        let env = Variables::from([(
            "XDG_RUNTIME_DIR".to_owned(),
            dir.path().join("runtime").display().to_string(),
        )]);
        fs::create_dir(dir.path().join("bound")).unwrap();
        let _moved = UnixListener::bind(dir.path().join("bound/a")).unwrap();
        fs::rename(dir.path().join("bound/a"), dir.path().join("bound/b")).unwrap();
        assert!(is_hidden(&dir.path().join("bound/b"), &env));
        let _linked = UnixListener::bind(dir.path().join("bound/c")).unwrap();
        fs::hard_link(dir.path().join("bound/c"), dir.path().join("bound/d")).unwrap();
        assert!(is_hidden(&dir.path().join("bound/c"), &env) && is_hidden(&dir.path().join("bound/d"), &env));
    }

    #[test]
    fn sockets_of_engines_that_variables_name_are_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        fs::write(&path, "").unwrap();
        for name in ENGINE_VARIABLES {
            let env = Variables::from([(name.to_owned(), format!("unix://{}", path.display()))]);
            assert!(paths_to_hide(&env).unwrap().contains(&path), "{name}");
        }
    }

    #[test]
    fn more_sockets_than_can_be_hidden_are_refused() {
        assert_eq!(check_socket_count(MAX_SOCKETS), Ok(()));
        let refused = check_socket_count(MAX_SOCKETS + 1).unwrap_err();
        assert!(refused.contains("401 sockets") && refused.contains("end some"), "{refused}");
    }
}
