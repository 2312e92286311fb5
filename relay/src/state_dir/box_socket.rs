//! Unix socket at which agents in containers reach the relay: in the containers of single jobs, which have no network, and
//! with podman without root in every container, because its network does not reach the relay. The folder of the socket is
//! mounted in them.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Listens on the socket with this name in a folder, which is created if it is missing. A container may map users in any
/// way, so every user may connect: the state folder around it keeps other users of this machine out.
///
/// # Errors
/// The folder or the socket can't be created, or the system is not Linux.
pub fn bind(folder: &Path, name: &str) -> io::Result<UnixListener> {
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    // The folder stays the same for containers that have it mounted; only the socket in it is replaced.
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let folder = File::open(folder)?;
    let path = short_path(&folder, name);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o666))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Checks that a process listens on the socket with this name in a folder.
///
/// # Errors
/// The folder or the socket is missing, or no process listens on it.
pub fn check(folder: &Path, name: &str) -> io::Result<()> {
    let folder = File::open(folder)?;
    UnixStream::connect(short_path(&folder, name)).map(drop)
}

/// Returns a path of a file in an open folder (Linux). The address of a socket has at most 107 bytes, fewer than many
/// paths.
fn short_path(folder: &File, name: &str) -> String {
    format!("/proc/self/fd/{}/{name}", folder.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_socket_is_replaced_and_its_folder_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a".repeat(150));
        let first = bind(&folder, "a.sock").unwrap();
        let inode = fs::metadata(&folder).unwrap().ino();
        let second = bind(&folder, "a.sock").unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().ino(), inode);
        drop(first);
        let client = UnixStream::connect(short_path(&File::open(&folder).unwrap(), "a.sock")).unwrap();
        assert!(second.accept().is_ok());
        drop(client);
    }

    #[test]
    fn a_socket_without_a_listener_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check(dir.path(), "a.sock").is_err());
        let listener = bind(dir.path(), "a.sock").unwrap();
        assert!(check(dir.path(), "a.sock").is_ok());
        drop(listener);
        assert!(check(dir.path(), "a.sock").is_err());
    }
}
