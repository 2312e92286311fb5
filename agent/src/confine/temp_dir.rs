//! Choice of the folder for temporary files that jobs may write in addition to `/tmp`.

use std::path::{Path, PathBuf};

/// Folder for temporary files of every job.
pub(crate) const DEFAULT_TEMP_DIR: &str = "/tmp";
/// Folders whose subfolders are home directories.
const HOME_PARENTS: [&str; 2] = ["/home", "/Users"];

/// Returns the user's `TMPDIR`, or the default if `TMPDIR` is or contains one of `other_folders` (homes, the project,
/// hidden folders), because jobs could then write to those.
pub(crate) fn choose_temp_dir(tmpdir: Option<&str>, other_folders: &[PathBuf]) -> String {
    let wanted = tmpdir.map(Path::new).filter(|folder| folder.is_absolute());
    let real = wanted.and_then(|folder| folder.canonicalize().ok()).filter(|folder| folder.is_dir());
    let is_usable = |folder: &PathBuf| {
        let is_home =
            folder.parent().is_some_and(|parent| HOME_PARENTS.iter().any(|homes| parent == Path::new(homes)));
        let contains = |other: &Path| {
            other.starts_with(folder) || other.canonicalize().is_ok_and(|other| other.starts_with(folder))
        };
        let others = other_folders.iter().map(PathBuf::as_path).chain(HOME_PARENTS.map(Path::new));
        folder.parent().is_some() && !is_home && !others.into_iter().any(contains)
    };
    let chosen = real.filter(is_usable).and_then(|folder| folder.to_str().map(str::to_owned));
    chosen
        .filter(|folder| !folder.chars().any(char::is_control))
        .unwrap_or_else(|| DEFAULT_TEMP_DIR.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_tmpdir_that_is_or_contains_another_folder_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("home/tmp")).unwrap();
        fs::create_dir_all(dir.join("home/project")).unwrap();
        std::os::unix::fs::symlink("home", dir.join("link")).unwrap();
        let others = [dir.join("home/project")];
        let path = |name: &str| dir.join(name).display().to_string();
        let chosen = |wanted: &str| choose_temp_dir(Some(wanted), &others);
        assert_eq!(chosen(&path("home/tmp")), path("home/tmp"));
        for bad in
            [&path("home"), &path("link"), &path("home/project"), &path("missing"), "/", "/home", "tmp", ""]
        {
            assert_eq!(chosen(bad), "/tmp", "{bad}");
        }
        assert_eq!(choose_temp_dir(None, &others), "/tmp");
    }
}
