//! Entries that the registry never opens, and the reasons.
//!
//! A session may replace a registry file with anything. An entry that is not a registry file is not opened, so that no
//! file outside is read or changed, and no call blocks.

#![expect(clippy::disallowed_methods, reason = "reads /etc/passwd, which is outside of the registry")]

use std::error::Error;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

/// Maximum number of bytes of `/etc/passwd` that are searched for a name.
const MAX_PASSWD_BYTES: u64 = 1 << 20;

/// Entry of the registry that is not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEntry {
    /// Path of the entry.
    pub path: PathBuf,
    /// Reason why the entry is not opened.
    pub reason: RefusalReason,
}

/// Reason to refuse an entry of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// A symbolic link.
    Link,
    /// A file with a second name, possibly outside the registry.
    HardLink,
    Fifo,
    Socket,
    Device,
    /// A directory instead of a file.
    Directory,
    /// Another entry instead of a directory.
    NotDirectory,
    /// A file or folder of another user, by user id.
    OtherOwner(u32),
    /// A file whose mode denies access to its own owner.
    OwnerDenied,
    /// A log that consists almost entirely of holes.
    MostlyHoles,
    /// A log with a line longer than any event.
    OverlongLine,
    /// The whole registry belongs to another user, by user id: it may be read but not changed.
    ForeignRegistry(u32),
}

impl RefusalReason {
    /// Returns the reason to refuse a file; `None` for a regular file of `owner` with a single name.
    pub(super) fn of_file(stat: &Stat, owner: u32) -> Option<Self> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if stat.st_uid != owner => Some(Self::OtherOwner(stat.st_uid)),
            FileType::RegularFile if stat.st_nlink > 1 => Some(Self::HardLink),
            FileType::RegularFile => None,
            FileType::Directory => Some(Self::Directory),
            other => Some(Self::of_special(other)),
        }
    }

    /// Returns the reason to refuse a folder; `None` for a folder of `owner`.
    pub(super) fn of_folder(stat: &Stat, owner: u32) -> Option<Self> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if stat.st_uid != owner => Some(Self::OtherOwner(stat.st_uid)),
            FileType::Directory => None,
            FileType::RegularFile => Some(Self::NotDirectory),
            other => Some(Self::of_special(other)),
        }
    }

    fn of_special(kind: FileType) -> Self {
        match kind {
            FileType::Symlink => Self::Link,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            _ => Self::Device,
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link => f.write_str("is a symbolic link"),
            Self::HardLink => f.write_str("has a second name (hard link)"),
            Self::Fifo => f.write_str("is a FIFO"),
            Self::Socket => f.write_str("is a socket"),
            Self::Device => f.write_str("is a device"),
            Self::Directory => f.write_str("is a directory"),
            Self::NotDirectory => f.write_str("is not a directory"),
            Self::OtherOwner(uid) | Self::ForeignRegistry(uid) => {
                write!(f, "belongs to {}", user_name_or_id(*uid))
            }
            Self::OwnerDenied => f.write_str("can't be opened by its owner (mode)"),
            Self::MostlyHoles => f.write_str("is a sparse file with hardly any data"),
            Self::OverlongLine => f.write_str("has a line longer than any event"),
        }
    }
}

impl fmt::Display for RefusedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.reason {
            RefusalReason::MostlyHoles | RefusalReason::OverlongLine => "read",
            _ => "opened",
        };
        write!(f, "{} {} and is not {verb}: ", self.path.display(), self.reason)?;
        match self.reason {
            RefusalReason::ForeignRegistry(uid) => write!(f, "run this as {}", user_name_or_id(uid)),
            _ => f.write_str("remove it"),
        }
    }
}

impl Error for RefusedEntry {}

impl RefusedEntry {
    /// Builds the error of a call on a refused entry.
    pub fn error(path: &Path, reason: RefusalReason) -> io::Error {
        io::Error::other(Self { path: path.to_owned(), reason })
    }

    /// Returns the refusal inside an error; `None` for another kind of error.
    pub fn from_error(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// Returns the name of a user, or `user UID` if the id has no name on this machine.
pub fn user_name_or_id(uid: u32) -> String {
    user_name(&read_passwd(), uid).unwrap_or_else(|| format!("user {uid}"))
}

fn read_passwd() -> String {
    let mut text = Vec::new();
    // Without the file, the user id is shown.
    let _ = std::fs::File::open("/etc/passwd")
        .and_then(|file| file.take(MAX_PASSWD_BYTES).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_as_in_passwd_and_otherwise_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), Some("ada".to_owned()));
        assert_eq!(user_name(passwd, 1), None);
        assert_eq!(user_name_or_id(0), "root");
        assert_eq!(user_name_or_id(3_999_999_999), "user 3999999999");
    }
}
