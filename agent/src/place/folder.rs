//! Folder of a job's place. The agent creates it, and its worker owns it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid, fchown};

use crate::environment::Variables;
use crate::spool::RunId;
use crate::user::UserIds;
use crate::workspace::WorkspaceDir;

/// Returns the folder of all places of an agent with this state directory.
///
/// A sandbox hides the state directory and all of relay's state, so the places of a confined agent are in the data
/// folder of its user. Otherwise they are beside the state directory, which other users can't enter.
fn places_folder(state: &Path, confined: bool, env: &Variables) -> io::Result<PathBuf> {
    if !confined {
        let mut name = state.file_name().unwrap_or_default().to_owned();
        name.push(".places");
        return Ok(state.with_file_name(name));
    }
    let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    let data = data.ok_or_else(|| io::Error::other("HOME is not set"))?;
    let agent = format!("{:08x}", crc32c::crc32c(state.as_os_str().as_encoded_bytes()));
    Ok(data.join("relay/places").join(agent))
}

/// Creates the folder of a run's place, or opens it if it is there. `env` is the workers' environment.
///
/// # Errors
/// One line with the folder and the reason.
pub(crate) fn create(
    state: &Path,
    run: &RunId,
    owner: Option<UserIds>,
    confined: bool,
    env: &Variables,
) -> Result<WorkspaceDir, String> {
    let made = places_folder(state, confined, env).and_then(|places| {
        DirBuilder::new().recursive(true).mode(0o711).create(&places)?;
        let places = places.canonicalize()?;
        // A worker of another user has to enter its own folder, and may not list the others.
        fs::set_permissions(&places, Permissions::from_mode(0o711))?;
        let place = places.join(folder_name(run));
        match DirBuilder::new().mode(0o700).create(&place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(place),
        }
    });
    let place = made.map_err(|error| format!("the folder of the job's place can't be made: {error}"))?;
    let folder = WorkspaceDir::open(&place.to_string_lossy(), &[])?;
    if let Some(UserIds { uid, gid }) = owner {
        let given = fchown(&folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        given.map_err(|error| format!("{} can't be given to the worker: {error}", place.display()))?;
    }
    Ok(folder)
}

/// Returns the name of a place. Another run of the same job gets a folder of its own.
fn folder_name(run: &RunId) -> String {
    let stem = run.job.file_stem();
    if run.epoch == 1 { stem } else { format!("{stem}-{}", run.epoch) }
}

/// Ending of the name of a place that is being removed. The name of a job contains no dot, so no place has such a name.
const DONE: &str = ".done";

/// Removes a place. Follows no link, so nothing outside of it is touched. If the agent ends meanwhile,
/// [`remove_leftovers`] does the rest.
pub(crate) fn remove(place: &Path) {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(DONE);
    let done = place.with_file_name(name);
    let removed = fs::rename(place, &done).and_then(|()| fs::remove_dir_all(&done));
    if let Err(error) = removed {
        tracing::warn!("{} can't be removed: {error}", place.display());
    }
}

/// Removes the places beside this one whose removal was begun, but not finished.
pub(crate) fn remove_leftovers(place: &Path) {
    let entries = place.parent().and_then(|places| fs::read_dir(places).ok());
    let names = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    for leftover in names.filter(|path| path.to_string_lossy().ends_with(DONE)) {
        // Another job may be removing it at this moment.
        let _ = fs::remove_dir_all(&leftover);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(epoch: u32) -> RunId {
        RunId { job: "demo#1".parse().unwrap(), epoch }
    }

    #[test]
    fn each_run_has_a_folder_that_no_other_user_can_enter() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let state = dir.join("state");
        let env = Variables::from([("HOME".to_owned(), dir.join("home").display().to_string())]);
        let make = |run, confined| create(&state, &run, None, confined, &env).unwrap().path().to_owned();
        let first = make(run(1), false);
        assert_eq!(Path::new(&first), dir.join("state.places/demo.1"));
        assert_eq!(fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(make(run(1), false), first, "an attempt before may have made it");
        assert_eq!(Path::new(&make(run(2), false)), dir.join("state.places/demo.1-2"));
        let confined = make(run(1), true);
        assert!(Path::new(&confined).starts_with(dir.join("home/.local/share/relay/places")), "{confined}");
    }

    #[test]
    fn a_place_is_removed_with_what_earlier_removals_left_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["demo.1/.git", "demo.2", "demo.3.done/.git", "outside"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::write(dir.join("outside/file"), "").unwrap();
        std::os::unix::fs::symlink(dir.join("outside"), dir.join("demo.1/link")).unwrap();
        remove(&dir.join("demo.1"));
        remove_leftovers(&dir.join("demo.2"));
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["demo.2", "outside"]);
        assert!(dir.join("outside/file").exists());
    }

    #[test]
    fn a_link_in_the_folder_s_stead_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir(dir.join("state.places")).unwrap();
        std::os::unix::fs::symlink("/", dir.join("state.places/demo.1")).unwrap();
        let refused = create(&dir.join("state"), &run(1), None, false, &Variables::new()).unwrap_err();
        assert!(refused.contains("link"), "{refused}");
    }
}
