//! User that workers run as.
//!
//! `/etc/passwd` is read directly, because a static binary can't use the name service of libc.

use std::fs;

use serde::{Deserialize, Serialize};

/// User and group that a process runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserIds {
    /// User id.
    pub(crate) uid: u32,
    /// Group id. The process gets no supplementary groups.
    pub(crate) gid: u32,
}

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    /// User id and group id.
    pub(crate) ids: UserIds,
    pub(crate) home: String,
    pub(crate) shell: String,
}

/// Finds a user by name.
///
/// # Errors
/// One line that a person can act on: the file can't be read, or has no such user.
pub(crate) fn find_user(name: &str) -> Result<User, String> {
    let passwd = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd can't be read: {e}"))?;
    find_in_passwd(&passwd, name)
        .ok_or_else(|| format!("there is no user '{name}' in /etc/passwd: create it, or configure another"))
}

fn find_in_passwd(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next().filter(|found| *found == name)?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1)?.to_owned();
        let shell = fields.next().filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh").to_owned();
        Some(User { name: found.to_owned(), ids: UserIds { uid, gid }, home, shell })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_only_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nworker2:x:9:9::/:\nbroken\nworker:x:1000:1001:W,,,:/home/worker:\n";
        let worker = find_in_passwd(passwd, "worker").unwrap();
        assert_eq!((worker.ids, worker.shell.as_str()), (UserIds { uid: 1000, gid: 1001 }, "/bin/sh"));
        assert_eq!(worker.home, "/home/worker");
        assert_eq!(find_in_passwd(passwd, "work"), None);
        assert_eq!(find_in_passwd(passwd, "broken"), None);
    }
}
