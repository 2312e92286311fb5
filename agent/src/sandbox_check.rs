//! Check of a sandbox's properties, made inside of the sandbox before its command starts.
//!
//! A sandbox is created from paths. A process that can write to the folder around a workspace can replace the workspace
//! with a link, after relay has checked the path and before the sandbox is created. So the mounts are compared with the
//! profile once they exist.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, fstat, openat, statx};
use serde::{Deserialize, Serialize};

use crate::sandbox_profile::Profile;

/// Mounts that each sandbox has of its own and that contain no files of the machine.
const PRIVATE_MOUNTS: [&str; 2] = ["/dev", "/proc"];

/// Identity of a file, independent of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileIdentity {
    pub(crate) dev: u64,
    /// Inode number on the device `dev`.
    pub(crate) ino: u64,
}

/// Properties that must hold inside a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxCheck {
    /// Path of the working directory, and the identity that it must have.
    pub(crate) workspace: (String, FileIdentity),
    /// Profile that lists the paths that can be written and read.
    pub(crate) profile: Profile,
    /// Process namespace of the agent: the target of the namespace's link in `/proc`.
    pub(crate) processes: String,
}

pub(crate) fn process_namespace() -> io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned())
}

impl SandboxCheck {
    /// Verifies the sandbox, and enters the working directory.
    pub(crate) fn verify_and_enter(&self) -> Result<(), String> {
        let broken = |what: String| format!("the sandbox does not enforce a requested restriction: {what}");
        if process_namespace().map_err(|error| broken(error.to_string()))? == self.processes {
            return Err(broken("processes outside of it can be seen".to_owned()));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|error| broken(error.to_string()))?;
        if let Some(path) =
            writable_mounts(&mounts, is_reachable).into_iter().find(|path| !self.allows_write(path))
        {
            return Err(broken(format!("{} can be written", common::text_format::one_line(&path, 300))));
        }
        if let Some(path) = self.profile.hidden.iter().find(|path| is_visible(Path::new(path))) {
            return Err(broken(format!("{} can be read", common::text_format::one_line(path, 300))));
        }
        let (path, identity) = &self.workspace;
        let moved = |error: String| {
            format!("the workspace {} was replaced: {error}", common::text_format::one_line(path, 300))
        };
        let folder = open_without_links(Path::new(path)).map_err(|error| moved(error.to_string()))?;
        let stat = fstat(&folder).map_err(|error| moved(error.to_string()))?;
        if (stat.st_dev, stat.st_ino) != (identity.dev, identity.ino) {
            return Err(moved("another folder is there now".to_owned()));
        }
        rustix::process::fchdir(&folder).map_err(|error| moved(error.to_string()))
    }

    fn allows_write(&self, path: &str) -> bool {
        let path = Path::new(path);
        let roots = self.profile.writable.iter().map(String::as_str).chain(PRIVATE_MOUNTS);
        roots.into_iter().any(|root| path.starts_with(root))
    }
}

/// Opens a folder by an absolute path. Fails if any part of the path is a link.
pub(crate) fn open_without_links(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = openat(CWD, "/", flags, Mode::empty())?;
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => folder = openat(&folder, name, flags, Mode::empty())?,
            _ => return Err(io::Error::other("it is not a plain absolute path")),
        }
    }
    Ok(folder)
}

/// Returns the writable mount points that `is_reachable` accepts: it is false for a mount that another mount covers.
fn writable_mounts(mountinfo: &str, is_reachable: impl Fn(&str, u64) -> bool) -> Vec<String> {
    let mount = |line: &str| {
        let mut fields = line.split(' ');
        let id = fields.next()?.parse().ok()?;
        let point = unescape(fields.nth(3)?);
        let read_only = fields.next()?.split(',').any(|option| option == "ro");
        (!read_only && is_reachable(&point, id)).then_some(point)
    };
    mountinfo.lines().filter_map(mount).collect()
}

/// Returns true if the topmost mount at `point` has this id, or if the kernel doesn't report ids.
fn is_reachable(point: &str, id: u64) -> bool {
    match statx(CWD, point, AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID) {
        Ok(found) if found.stx_mask & StatxFlags::MNT_ID.bits() != 0 => found.stx_mnt_id == id,
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Decodes a field of `mountinfo`, in which the kernel writes each separator as `\` and three octal digits.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(|code| std::str::from_utf8(code).ok());
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            bytes.push(byte);
            rest = &after[3..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_visible(path: &Path) -> bool {
    fs::read_dir(path).is_ok()
        || File::options().read(true).open(path).is_ok_and(|file| !is_empty_file(&file))
}

/// Returns true for an empty file. A sandbox can also hide a file by mounting an empty file over it.
fn is_empty_file(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writable_mounts_are_found_unless_other_mounts_cover_them() {
        let mountinfo = "109 44 254:0 / / ro,nosuid - ext4 /dev/vda rw\n\
                         129 128 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw\n\
                         143 109 254:0 /tmp /tmp rw,nosuid shared:1 - ext4 /dev/vda rw\n\
                         150 109 254:0 /w /w\\040s rw - ext4 /dev/vda rw\nbroken\n";
        assert_eq!(writable_mounts(mountinfo, |_, id| id != 129), ["/tmp", "/w s"]);
    }

    #[test]
    fn no_part_of_a_path_may_be_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", dir.join("l")).unwrap();
        assert!(open_without_links(&dir.join("a/b")).is_ok());
        for bad in ["l", "l/b", "a/../a", "missing"] {
            assert!(open_without_links(&dir.join(bad)).is_err(), "{bad}");
        }
    }
}
