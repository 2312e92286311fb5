//! Check of the ownership of the person's state folder.
//!
//! The content of the state folder is trusted: approvals, tokens, keys. So all of it must belong to the user (or to
//! root), and no other user may write to it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::exit::Failure;
use crate::files::refused::user_name_or_id;

/// Mode bits that let the group or others write.
const OTHERS_WRITE_BITS: u32 = 0o022;

/// Checks `base` and every component from there to `path`. A missing component is not an error.
///
/// # Errors
/// Returns a one-line message for a component that belongs to another user, or that others may write.
pub(super) fn check_ownership(base: &Path, path: &Path) -> Result<(), Failure> {
    let uid = rustix::process::geteuid().as_raw();
    let components: Vec<&Path> =
        path.ancestors().take_while(|component| component.starts_with(base)).collect();
    for component in components.into_iter().rev() {
        if let Err(problem) = check_component(component, uid) {
            return Err(Failure::unreachable(problem));
        }
    }
    Ok(())
}

fn check_component(component: &Path, uid: u32) -> Result<(), String> {
    let component_text = component.display();
    // For a link, both the link and its target must be trustworthy.
    for meta in [fs::symlink_metadata(component), fs::metadata(component)] {
        let meta = match meta {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            meta => meta.map_err(|e| format!("the state folder {component_text} can't be used: {e}"))?,
        };
        if ![uid, 0].contains(&meta.uid()) {
            return Err(format!(
                "the state folder {component_text} belongs to {owner}, so it is not trusted: run relay as {owner}, \
                or remove it and run `relay up`",
                owner = user_name_or_id(meta.uid())
            ));
        }
        if is_writable(&meta) {
            return Err(format!(
                "other users can write the state folder {component_text}, so it is not trusted: remove it, or check \
                its contents and run `chmod -R go-w {component_text}`"
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

    fn refusal(base: &Path, path: &Path) -> String {
        check_ownership(base, path).unwrap_err().message
    }

    #[test]
    fn an_entry_that_other_users_can_write_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("relay");
        let file = base.join("consent/key");
        assert!(check_ownership(&base, &file).is_ok(), "nothing is there");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        for entry in [&base, &base.join("consent"), &file] {
            mode(entry, 0o755);
        }
        assert!(check_ownership(&base, &file).is_ok());
        for entry in [&base, &base.join("consent"), &file] {
            for writable_mode in [0o775, 0o757] {
                mode(entry, writable_mode);
                let message = refusal(&base, &file);
                assert!(message.contains(&format!("chmod -R go-w {}", entry.display())), "{message}");
            }
            mode(entry, 0o700);
        }
        // Folders above the base are not checked.
        mode(dir.path(), 0o777);
        assert!(check_ownership(&base, &file).is_ok());
    }

    #[test]
    fn an_entry_of_another_user_is_not_trusted_but_an_entry_of_root_is() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (base, target) = (dir.path().join("relay"), dir.path().join("real"));
        fs::create_dir(&target).unwrap();
        symlink(&target, &base).unwrap();
        assert!(check_ownership(&base, &base.join("consent")).is_ok());
        for (entry, is_link) in [(&base, true), (&target, false)] {
            std::os::unix::fs::lchown(entry, Some(12345), Some(12345)).unwrap();
            let message = refusal(&base, &base.join("consent"));
            assert!(message.contains("belongs to user 12345"), "{is_link}: {message}");
            std::os::unix::fs::lchown(entry, Some(0), Some(0)).unwrap();
        }
        assert!(check_component(&base, 12345).is_ok());
    }
}
