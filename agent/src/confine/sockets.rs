//! Sockets of programs outside of a sandbox that start programs for any client: container engines, the user's
//! session, terminals. A read-only file system does not prevent a connection.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::environment::Variables;

/// Where the usual services keep them.
const SERVICES: [&str; 14] = [
    "/run/docker.sock",
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
/// Most further ones that are hidden one by one; each is a mount in every sandbox.
const MOST: usize = 64;

/// Those that are there. `env` is the environment of the person.
pub(super) fn doors(env: &Variables) -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let mut doors: Vec<PathBuf> = SERVICES.map(PathBuf::from).into();
    doors.push(PathBuf::from(format!("/run/user/{user}")));
    doors.push(PathBuf::from(format!("/tmp/tmux-{user}")));
    for name in ["XDG_RUNTIME_DIR", "SSH_AUTH_SOCK"] {
        let value = env.get(name).map(PathBuf::from);
        // A runtime folder is never one that holds everything else.
        doors.extend(value.filter(|path| path.is_absolute() && path.components().count() > 2));
    }
    let listening = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let own = |path: &PathBuf| {
        fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() == user && meta.file_type().is_socket())
    };
    doors.extend(paths(&listening).into_iter().filter(own).take(MOST));
    doors.retain(|path| path.symlink_metadata().is_ok());
    doors
}

/// The paths of sockets that listen, as `/proc/net/unix` tells them.
fn paths(table: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let accepts = u32::from_str_radix(fields.nth(3)?, 16).ok()? & 0x1_0000 != 0;
        let path = Path::new(fields.nth(3)?);
        (accepts && path.is_absolute()).then(|| path.to_owned())
    };
    table.lines().skip(1).filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_that_listen_at_a_path_are_found() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 20563 /run/a.sock\n\
                     0000000000000000: 00000003 00000000 00000000 0001 03 20564 /run/b.sock\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 20565 @abstract\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 20566\n";
        assert_eq!(paths(table), [PathBuf::from("/run/a.sock")]);
    }

    #[test]
    fn a_socket_that_listens_is_among_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(doors(&Variables::new()).contains(&path));
    }
}
