//! Folders of a job: its place (the clone that it works in), its output and its images. The agent creates them. After
//! the job, a place is kept for a while if the job's Codex thread may be continued in it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::ids::JobId;
use common::job::JobSpec;
use rustix::fs::{Gid, Uid, fchown};

use super::prepared::PreparedClone;
use crate::environment::Variables;
use crate::spool::RunId;
use crate::user::UserIds;
use crate::workspace::WorkspaceDir;

/// Kind of a folder of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FolderKind {
    /// Clone that the job works in.
    Place,
    /// Folder for the job's output (`$RELAY_OUTPUT`).
    Output,
    /// Folder with the images of the job's prompt.
    Images,
}

impl FolderKind {
    fn parent_name(self) -> &'static str {
        match self {
            Self::Place => "places",
            Self::Output => "outputs",
            Self::Images => "images",
        }
    }
}

/// Returns the folder of all repository caches of the agent with this state directory.
pub(crate) fn caches_folder(state: &Path, is_confined: bool, env: &Variables) -> io::Result<PathBuf> {
    data_folder(state, "repositories", is_confined, env)
}

/// Returns the folder for data that workers read.
///
/// A sandbox hides the state directory and all of relay's state, so the data of confined jobs is in the data folder
/// of the agent's user. Otherwise it is beside the state directory, which other users can't enter.
fn data_folder(state: &Path, kind: &str, is_confined: bool, env: &Variables) -> io::Result<PathBuf> {
    if !is_confined {
        let mut name = state.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{kind}"));
        return Ok(state.with_file_name(name));
    }
    let absolute = |name: &str| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    let data = data.ok_or_else(|| io::Error::other("HOME is not set"))?;
    let agent = format!("{:08x}", crc32c::crc32c(state.as_os_str().as_encoded_bytes()));
    Ok(data.join("relay").join(kind).join(agent))
}

/// Creates a folder of a run, or opens the existing one. `env` is the workers' environment.
///
/// # Errors
/// One line with the folder and the reason.
pub(crate) fn create(
    kind: FolderKind,
    state: &Path,
    run: &RunId,
    owner: Option<UserIds>,
    is_confined: bool,
    env: &Variables,
) -> Result<WorkspaceDir, String> {
    let result = data_folder(state, kind.parent_name(), is_confined, env).and_then(|parent| {
        DirBuilder::new().recursive(true).mode(0o711).create(&parent)?;
        let parent = parent.canonicalize()?;
        // A worker of another user has to enter its own folder, and may not list the others.
        fs::set_permissions(&parent, Permissions::from_mode(0o711))?;
        let path = run_folder(&parent, run);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(path),
        }
    });
    let path = result
        .map_err(|error| format!("the job's folder in {} can't be made: {error}", kind.parent_name()))?;
    let folder = WorkspaceDir::open(&path.to_string_lossy(), &[])?;
    if let Some(UserIds { uid, gid }) = owner {
        let result = fchown(&folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        result.map_err(|error| format!("{} can't be given to the worker: {error}", path.display()))?;
    }
    Ok(folder)
}

/// Returns the path of a folder of a run, which may not exist.
///
/// # Errors
/// No run has such a folder yet, or `env` has no home folder to derive it from.
pub(crate) fn path(
    kind: FolderKind,
    state: &Path,
    run: &RunId,
    is_confined: bool,
    env: &Variables,
) -> io::Result<PathBuf> {
    Ok(run_folder(&data_folder(state, kind.parent_name(), is_confined, env)?.canonicalize()?, run))
}

/// Returns the folder of a run: its own folder, or the place that the run has taken over.
fn run_folder(places: &Path, run: &RunId) -> PathBuf {
    let own = places.join(folder_name(run));
    let taken_over = fs::read_to_string(marker_path(&own, TAKEN_OVER_ENDING))
        .ok()
        .and_then(|first| first.parse::<JobId>().ok());
    taken_over.map_or(own, |first| places.join(first.file_stem()))
}

/// Returns the name of a place. Another run of the same job gets a folder of its own.
fn folder_name(run: &RunId) -> String {
    let stem = run.job.file_stem();
    if run.epoch == 1 { stem } else { format!("{stem}-{}", run.epoch) }
}

/// Ending of the name of a place that is being removed. The name of a job contains no dot, so no place has such a name.
const REMOVED_ENDING: &str = ".done";
/// Ending of the name of an empty file beside a complete place. The commits in a complete place have to be pushed.
const COMPLETE_ENDING: &str = ".made";
/// Ending of the name of a file beside a kept place. The file contains the Codex thread that may be continued in the
/// place, or is empty because the place's commits could not be pushed. Confined workers and other users can't write it.
const KEPT_ENDING: &str = ".kept";
/// Ending of the name of an empty file beside a place that was made ahead, and in which no command of a job ran yet.
const PREPARED_ENDING: &str = ".prepared";
/// Ending of the name of a file of a run that has taken over the place of an earlier job. It contains that job's id.
const TAKEN_OVER_ENDING: &str = ".at";
/// Maximum number of places that are kept after the end of their run.
const MAX_KEPT_PLACES: usize = 10;
/// Maximum age of a kept place.
const MAX_KEPT_AGE: Duration = Duration::from_secs(14 * 24 * 3600);

fn marker_path(place: &Path, ending: &str) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    place.with_file_name(name)
}

fn write_marker(place: &Path, ending: &str, content: &str) {
    let marker = marker_path(place, ending);
    if let Err(error) = fs::write(&marker, content) {
        tracing::warn!("{} can't be written: {error}", marker.display());
    }
}

/// Keeps the place of an ended job for a job that continues its thread.
pub(crate) fn keep_for_thread(place: &Path, thread: &str) {
    let _ = fs::remove_file(marker_path(place, COMPLETE_ENDING));
    write_marker(place, KEPT_ENDING, thread);
}

/// Gives this run the place that [`keep_for_thread`] has kept for the run's thread, if the place still exists.
pub(crate) fn take_over_kept_place(
    state: &Path,
    run: &RunId,
    spec: &JobSpec,
    is_confined: bool,
    env: &Variables,
) {
    let places = data_folder(state, FolderKind::Place.parent_name(), is_confined, env);
    if let Ok(places) = places.and_then(|places| places.canonicalize()) {
        try_take_over(&places, run, spec);
    }
}

/// Takes over a kept place. The spec is untrusted, so the thread has to match.
fn try_take_over(places: &Path, run: &RunId, spec: &JobSpec) -> Option<()> {
    let (thread, first) = (spec.thread.as_deref()?, spec.place.as_ref()?.continues()?);
    let place = places.join(first.file_stem());
    let marker = marker_path(&place, KEPT_ENDING);
    let is_ours = fs::read_to_string(&marker).ok()? == thread && fs::symlink_metadata(&place).ok()?.is_dir();
    // The run that removes the file has the place.
    (is_ours && fs::remove_file(&marker).is_ok()).then_some(())?;
    write_marker(&places.join(folder_name(run)), TAKEN_OVER_ENDING, &first.to_string());
    Some(())
}

/// Makes a clone that was prepared the place of this run, if the run has no place yet. Blocks on the disk.
pub(crate) fn take_over_prepared_clone(
    clone: &PreparedClone,
    state: &Path,
    run: &RunId,
    is_confined: bool,
    env: &Variables,
) {
    if let Ok(place) = path(FolderKind::Place, state, run, is_confined, env) {
        clone.move_to(&place, || write_marker(&place, PREPARED_ENDING, ""));
    }
}

/// Returns true if a place was made ahead, and no command of its job ran yet.
pub(crate) fn is_prepared(place: &Path) -> bool {
    marker_path(place, PREPARED_ENDING).exists()
}

/// Records that a place no longer counts as prepared: commands of its job may have run in it.
pub(crate) fn mark_not_prepared(place: &Path) {
    let _ = fs::remove_file(marker_path(place, PREPARED_ENDING));
}

/// Records that a place is complete: cloned, with the job's base checked out.
pub(crate) fn mark_complete(place: &Path) {
    write_marker(place, COMPLETE_ENDING, "");
}

/// Returns true if a place is complete, and so may contain commits that have to be pushed.
pub(crate) fn is_complete(place: &Path) -> bool {
    marker_path(place, COMPLETE_ENDING).exists()
}

/// Records that a place is kept after the end of its run.
pub(crate) fn mark_kept(place: &Path) {
    write_marker(place, KEPT_ENDING, "");
}

/// Removes a place. Follows no link, so nothing outside of it is touched. If the agent ends meanwhile,
/// [`remove_leftovers`] does the rest.
pub(crate) fn remove(place: &Path) {
    for marker in [COMPLETE_ENDING, KEPT_ENDING, PREPARED_ENDING] {
        // Most places have at most one of these files.
        let _ = fs::remove_file(marker_path(place, marker));
    }
    let done = marker_path(place, REMOVED_ENDING);
    let removed = fs::rename(place, &done).and_then(|()| fs::remove_dir_all(&done));
    if let Err(error) = removed {
        tracing::warn!("{} can't be removed: {error}", place.display());
    }
}

/// Removes leftovers beside this place: places whose removal was not finished, places that were kept too long, and
/// files that name a place which no longer exists.
pub(crate) fn remove_leftovers(place: &Path) {
    let entries = place.parent().and_then(|places| fs::read_dir(places).ok());
    let paths: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    for leftover in paths.iter().filter(|path| path.to_string_lossy().ends_with(REMOVED_ENDING)) {
        // Another job may be removing it at this moment.
        let _ = fs::remove_dir_all(leftover);
    }
    let modified_at = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let mut kept: Vec<(SystemTime, PathBuf)> = paths
        .iter()
        .filter(|path| path.to_string_lossy().ends_with(KEPT_ENDING))
        .filter_map(|marker| Some((modified_at(marker)?, marker.with_extension(""))))
        .collect();
    kept.sort();
    let surplus = kept.len().saturating_sub(MAX_KEPT_PLACES);
    for (n, (since, place)) in kept.iter().enumerate() {
        let is_due = n < surplus || since.elapsed().is_ok_and(|age| age > MAX_KEPT_AGE);
        let marker = marker_path(place, KEPT_ENDING);
        let has_thread = || fs::metadata(&marker).is_ok_and(|meta| meta.len() > 0);
        if is_due && !has_thread() {
            tracing::warn!(
                "{} was kept for a result that could not be handed over: it is removed",
                place.display()
            );
        }
        // A job that continues the thread may be taking over the place at this moment.
        if is_due && fs::remove_file(&marker).is_ok() {
            remove(place);
        }
    }
    for pointer in paths.iter().filter(|path| path.to_string_lossy().ends_with(TAKEN_OVER_ENDING)) {
        let first = fs::read_to_string(pointer).ok().and_then(|first| first.parse::<JobId>().ok());
        if first.is_none_or(|first| !pointer.with_file_name(first.file_stem()).exists()) {
            let _ = fs::remove_file(pointer);
        }
    }
}

#[cfg(test)]
mod tests {
    use common::job::Runner;
    use common::place::PlaceSpec;

    use super::*;

    const THREAD: &str = "01a203ca-9b3a-74f0-a0f9-92040009a617";

    fn run(epoch: u32) -> RunId {
        RunId { job: "demo#1".parse().unwrap(), epoch }
    }

    /// Returns the spec of a job that continues the thread of `demo#1`.
    fn continuing(thread: &str) -> JobSpec {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let place = PlaceSpec::new(id, id, "relay/demo-2", "").unwrap();
        let place = place.clone().continuing(&place, &"demo#1".parse().unwrap());
        let spec = JobSpec::new("demo#2".parse().unwrap(), Runner::Codex, "", "/");
        JobSpec { thread: Some(thread.to_owned()), place: Some(place), ..spec }
    }

    #[test]
    fn a_kept_place_is_taken_over_once_by_a_run_of_its_thread() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let place = dir.join("demo.1");
        let [second, third] = ["demo#2", "demo#3"].map(|job| RunId { job: job.parse().unwrap(), epoch: 1 });
        fs::create_dir(&place).unwrap();
        mark_complete(&place);
        keep_for_thread(&place, THREAD);
        assert!(!is_complete(&place));
        assert_eq!(try_take_over(&dir, &second, &continuing(&THREAD.replace('1', "2"))), None);
        assert_eq!(try_take_over(&dir, &second, &continuing(THREAD)), Some(()));
        assert_eq!(try_take_over(&dir, &third, &continuing(THREAD)), None, "it is in use");
        assert_eq!(
            (run_folder(&dir, &second), run_folder(&dir, &third)),
            (place.clone(), dir.join("demo.3"))
        );
        keep_for_thread(&place, THREAD);
        fs::remove_dir(&place).unwrap();
        assert_eq!(try_take_over(&dir, &third, &continuing(THREAD)), None, "it is gone");
        remove_leftovers(&place);
        assert_eq!(run_folder(&dir, &second), dir.join("demo.2"));
    }

    #[test]
    fn each_run_has_a_folder_that_no_other_user_can_enter() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let state = dir.join("state");
        let env = Variables::from([("HOME".to_owned(), dir.join("home").display().to_string())]);
        let make = |run, is_confined| {
            create(FolderKind::Place, &state, &run, None, is_confined, &env).unwrap().path().to_owned()
        };
        let first = make(run(1), false);
        assert_eq!(Path::new(&first), dir.join("state.places/demo.1"));
        assert_eq!(fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(make(run(1), false), first, "an earlier attempt may have made it");
        assert_eq!(Path::new(&make(run(2), false)), dir.join("state.places/demo.1-2"));
        let is_confined = make(run(1), true);
        assert!(
            Path::new(&is_confined).starts_with(dir.join("home/.local/share/relay/places")),
            "{is_confined}"
        );
    }

    #[test]
    fn a_removal_follows_no_link_and_unfinished_ones_are_completed() {
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
    fn the_newest_kept_places_stay_and_markers_go_with_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let place = |n: usize| dir.join(format!("demo.{n}"));
        for n in 0..MAX_KEPT_PLACES + 2 {
            fs::create_dir(place(n)).unwrap();
            mark_complete(&place(n));
            mark_kept(&place(n));
            let since = SystemTime::now() - Duration::from_secs(1000 - n as u64);
            fs::File::options()
                .write(true)
                .open(marker_path(&place(n), KEPT_ENDING))
                .unwrap()
                .set_modified(since)
                .unwrap();
        }
        let old = SystemTime::now() - MAX_KEPT_AGE * 2;
        let oldest = fs::File::options().write(true).open(marker_path(&place(5), KEPT_ENDING)).unwrap();
        oldest.set_modified(old).unwrap();
        remove_leftovers(&dir.join("demo.99"));
        let left: Vec<usize> = (0..MAX_KEPT_PLACES + 2).filter(|n| place(*n).exists()).collect();
        assert_eq!(left, [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]);
        assert!(
            !is_complete(&place(5))
                && is_complete(&place(6))
                && !marker_path(&place(5), KEPT_ENDING).exists()
        );
    }

    #[test]
    fn a_link_at_the_path_of_the_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir(dir.join("state.places")).unwrap();
        std::os::unix::fs::symlink("/", dir.join("state.places/demo.1")).unwrap();
        let refused = create(FolderKind::Place, &dir.join("state"), &run(1), None, false, &Variables::new())
            .unwrap_err();
        assert!(refused.contains("link"), "{refused}");
    }
}
