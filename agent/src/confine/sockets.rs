//! Sockets of services outside of the sandbox that start programs for any client: container engines, the user's
//! session, terminals. A job could connect to them even if their files were read-only, so they are hidden.
//!
//! Not covered are an abstract socket (it has no file), a socket that a program creates after the job has started, and
//! a socket that was moved or linked to a folder that is not searched here.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::listeners::{self, Listener};
use crate::environment::Variables;

/// Paths of the usual services.
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
/// Paths of the usual services in a home directory.
const HOME_SERVICES: [&str; 2] = [".docker/run", ".docker/desktop"];
/// Variables with the addresses of container engines.
const ENGINES: [&str; 2] = ["DOCKER_HOST", "CONTAINER_HOST"];
/// Maximum number of additional sockets that are hidden one by one. Each needs a mount in every sandbox, and a part of
/// an argument that the kernel limits to 128 KiB.
const MAX_SOCKETS: usize = 400;
/// Maximum number of entries of one folder, and of processes, that are searched for sockets that are no longer at the
/// path they were bound to.
const MAX_SEARCHED: usize = 10_000;

/// Returns the existing sockets of services that start programs. `env` is the environment of the user.
///
/// # Errors
/// One line with advice if there are more sockets than can be hidden.
pub(super) fn service_sockets(env: &Variables) -> Result<Vec<PathBuf>, String> {
    let user = rustix::process::geteuid().as_raw();
    let mut services: Vec<PathBuf> = SERVICES.map(PathBuf::from).into();
    services.push(PathBuf::from(format!("/run/user/{user}")));
    services.push(PathBuf::from(format!("/tmp/tmux-{user}")));
    if let Some(home) = env.get("HOME") {
        services.extend(HOME_SERVICES.map(|name| Path::new(home).join(name)));
    }
    let folders = ["XDG_RUNTIME_DIR", "SSH_AUTH_SOCK"].into_iter().filter_map(|name| env.get(name));
    let engines =
        ENGINES.into_iter().filter_map(|name| env.get(name)?.strip_prefix("unix://").map(str::to_owned));
    let named = folders.cloned().chain(engines).map(PathBuf::from);
    // A variable that names a folder directly below `/`, such as `/home`, is ignored: too much would be hidden.
    services.extend(named.filter(|path| path.is_absolute() && path.components().count() > 2));
    services.retain(|path| path.symlink_metadata().is_ok());
    let covered = |path: &Path| services.iter().any(|service| path.starts_with(service));
    let mut others = BTreeSet::new();
    for path in connectable(&listeners::listening_sockets(), env) {
        let path = path.canonicalize().unwrap_or(path);
        if !covered(&path) {
            others.insert(path);
        }
    }
    check_socket_count(others.len())?;
    services.extend(others);
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

/// Returns the files of those sockets to which this process could connect.
fn connectable(listeners: &[Listener], env: &Variables) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let (mut lost, mut relative) = (Vec::new(), Vec::new());
    for listener in listeners {
        let meta = listener.path.symlink_metadata().ok().filter(|_| listener.path.is_absolute());
        let here = meta.as_ref().is_some_and(|meta| meta.file_type().is_socket());
        // A socket at the bound path is included whatever its inode number: some file systems give a file two of them.
        if here {
            found.insert(listener.path.clone());
        }
        let in_place = meta.is_some_and(|meta| {
            listener.inode_low_bits.is_none_or(|file| has_inode(&meta, file)) && meta.nlink() == 1
        });
        if !in_place {
            lost.push(listener);
        }
        if listener.path.is_relative() {
            relative.push(listener);
        }
    }
    if !relative.is_empty() {
        found.extend(relative_sockets(&relative));
    }
    if !lost.is_empty() {
        found.extend(moved_sockets(&lost, env));
    }
    // Write permission on a socket's file allows a connection, also to a file of another user.
    found.retain(|path| accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok());
    found
}

/// Returns sockets that were bound to a relative path, searched in the working directories of all processes.
fn relative_sockets(listeners: &[&Listener]) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().take(MAX_SEARCHED);
    let folders: BTreeSet<PathBuf> =
        processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok()).collect();
    let places = folders.iter().flat_map(|folder| listeners.iter().map(move |listener| (folder, listener)));
    let at = |(folder, listener): (&PathBuf, &&Listener)| {
        let path = folder.join(&listener.path);
        let meta = path.symlink_metadata().ok().filter(|meta| meta.file_type().is_socket())?;
        listener.inode_low_bits.is_none_or(|file| has_inode(&meta, file)).then_some(path)
    };
    places.filter_map(at).collect()
}

/// Returns sockets that were moved or linked, searched in the folders where sockets usually are.
fn moved_sockets(listeners: &[&Listener], env: &Variables) -> Vec<PathBuf> {
    let files: BTreeSet<u32> = listeners.iter().filter_map(|listener| listener.inode_low_bits).collect();
    let own =
        listeners.iter().filter_map(|listener| listener.path.parent()).filter(|folder| folder.is_absolute());
    let named = ["XDG_RUNTIME_DIR", "TMPDIR"].into_iter().filter_map(|name| env.get(name)).map(PathBuf::from);
    let ssh = env.get("HOME").map(|home| Path::new(home).join(".ssh"));
    let usual = ["/tmp", "/run", "/var/tmp"].map(PathBuf::from);
    let folders: BTreeSet<PathBuf> = own.map(Path::to_owned).chain(named).chain(ssh).chain(usual).collect();
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_SEARCHED));
    let is_lost = |entry: &fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_socket())
            && entry.metadata().is_ok_and(|meta| files.iter().any(|file| has_inode(&meta, *file)))
    };
    entries.filter(is_lost).map(|entry| entry.path()).collect()
}

fn has_inode(meta: &fs::Metadata, file: u32) -> bool {
    meta.ino() & u64::from(u32::MAX) == u64::from(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn seen(path: &Path, env: &Variables) -> bool {
        service_sockets(env).unwrap().contains(&path.canonicalize().unwrap())
    }

    #[test]
    fn a_socket_that_listens_is_hidden_whatever_its_name_is() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["s", "with a space", "with\na line"] {
            let path = dir.path().join(name);
            let _listener = UnixListener::bind(&path).unwrap();
            assert!(seen(&path, &Variables::new()), "{name}");
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
        assert!(seen(&dir.path().join("bound/b"), &env));
        let _linked = UnixListener::bind(dir.path().join("bound/c")).unwrap();
        fs::hard_link(dir.path().join("bound/c"), dir.path().join("bound/d")).unwrap();
        assert!(seen(&dir.path().join("bound/c"), &env) && seen(&dir.path().join("bound/d"), &env));
    }

    #[test]
    fn engines_are_hidden_where_variables_lead_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        fs::write(&path, "").unwrap();
        for name in ENGINES {
            let env = Variables::from([(name.to_owned(), format!("unix://{}", path.display()))]);
            assert!(service_sockets(&env).unwrap().contains(&path), "{name}");
        }
    }

    #[test]
    fn more_sockets_than_can_be_hidden_are_refused() {
        assert_eq!(check_socket_count(MAX_SOCKETS), Ok(()));
        let refused = check_socket_count(MAX_SOCKETS + 1).unwrap_err();
        assert!(refused.contains("401 sockets") && refused.contains("end some"), "{refused}");
    }
}
