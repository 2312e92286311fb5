//! Ownership check of the person's state.
//!
//! The content of the state folder is trusted: approvals, tokens, keys. So all of it must belong to the user (or to
//! root), and no other user may write to it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::exit::Failure;
use crate::files::refused::user_name_or_id;

/// Write permission for the group and for others.
const OTHERS_WRITE_BITS: u32 = 0o022;

/// Checks `base` and every component from there to `path`. A missing component is not an error.
///
/// # Errors
/// A one-line message for a component that belongs to another user, or that others may write.
pub(super) fn check(base: &Path, path: &Path) -> Result<(), Failure> {
    let uid = rustix::process::geteuid().as_raw();
    let components: Vec<&Path> =
        path.ancestors().take_while(|component| component.starts_with(base)).collect();
    for component in components.into_iter().rev() {
        if let Err(problem) = check_owner(component, uid) {
            return Err(Failure::unreachable(problem));
        }
    }
    Ok(())
}

fn check_owner(component: &Path, uid: u32) -> Result<(), String> {
    let shown = component.display();
    // A link is only as trustworthy as its owner and its target.
    for meta in [fs::symlink_metadata(component), fs::metadata(component)] {
        let meta = match meta {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            meta => meta.map_err(|e| format!("the state folder {shown} can't be used: {e}"))?,
        };
        if ![uid, 0].contains(&meta.uid()) {
            return Err(format!(
                "the state folder {shown} belongs to {owner}, so it is not trusted: run relay as {owner}, \
                or remove it and run `relay up`",
                owner = user_name_or_id(meta.uid())
            ));
        }
        if is_writable(&meta) {
            return Err(format!(
                "other users can write the state folder {shown}, so it is not trusted: remove it, or check \
                its contents and run `chmod -R go-w {shown}`"
            ));
        }
    }
    Ok(())
}

/// Returns true if other users may write. A link has no permissions of its own.
fn is_writable(meta: &Metadata) -> bool {
    !meta.is_symlink() && meta.permissions().mode() & OTHERS_WRITE_BITS != 0
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    use super::*;

    fn refused(base: &Path, path: &Path) -> String {
        check(base, path).unwrap_err().message
    }

    #[test]
    fn what_others_may_write_anywhere_on_the_way_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("relay");
        let file = base.join("consent/key");
        assert!(check(&base, &file).is_ok(), "nothing is there");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        for place in [&base, &base.join("consent"), &file] {
            mode(place, 0o755);
        }
        assert!(check(&base, &file).is_ok());
        for place in [&base, &base.join("consent"), &file] {
            for open in [0o775, 0o757] {
                mode(place, open);
                let said = refused(&base, &file);
                assert!(said.contains(&format!("chmod -R go-w {}", place.display())), "{said}");
            }
            mode(place, 0o700);
        }
        // Folders above the base are the person's choice.
        mode(dir.path(), 0o777);
        assert!(check(&base, &file).is_ok());
    }

    #[test]
    fn what_another_user_made_is_not_believed_and_what_root_made_is() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (base, real) = (dir.path().join("relay"), dir.path().join("real"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &base).unwrap();
        assert!(check(&base, &base.join("consent")).is_ok());
        for (place, is_link) in [(&base, true), (&real, false)] {
            std::os::unix::fs::lchown(place, Some(12345), Some(12345)).unwrap();
            let said = refused(&base, &base.join("consent"));
            assert!(said.contains("belongs to user 12345"), "{is_link}: {said}");
            std::os::unix::fs::lchown(place, Some(0), Some(0)).unwrap();
        }
        assert!(check_owner(&base, 12345).is_ok());
    }
}
