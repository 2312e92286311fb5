//! Folders of a job: its place, and its output. The agent creates them, and its worker owns them. After the job, a place is
//! kept for a while if the job's thread may be continued in it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::ids::JobId;
use common::job::JobSpec;
use rustix::fs::{Gid, Uid, fchown};

use crate::environment::Variables;
use crate::spool::RunId;
use crate::user::UserIds;
use crate::workspace::WorkspaceDir;

/// A folder that a job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FolderKind {
    /// The clone that it works in.
    Place,
    /// Its output.
    Output,
    /// Its images.
    Images,
}

impl FolderKind {
    fn folder_of_all(self) -> &'static str {
        match self {
            Self::Place => "places",
            Self::Output => "outputs",
            Self::Images => "images",
        }
    }
}

/// Returns the folder of all caches of an agent with this state directory.
pub(crate) fn caches_folder(state: &Path, confined: bool, env: &Variables) -> io::Result<PathBuf> {
    data_folder(state, "repositories", confined, env)
}

/// Returns the folder for data that workers read.
///
/// A sandbox hides the state directory and all of relay's state, so the data of a confined agent is in the data folder
/// of its user. Otherwise it is beside the state directory, which other users can't enter.
fn data_folder(state: &Path, kind: &str, confined: bool, env: &Variables) -> io::Result<PathBuf> {
    if !confined {
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

/// Creates a folder of a run, or opens it if it is there. `env` is the workers' environment.
///
/// # Errors
/// One line with the folder and the reason.
pub(crate) fn create(
    kind: FolderKind,
    state: &Path,
    run: &RunId,
    owner: Option<UserIds>,
    confined: bool,
    env: &Variables,
) -> Result<WorkspaceDir, String> {
    let made = data_folder(state, kind.folder_of_all(), confined, env).and_then(|places| {
        DirBuilder::new().recursive(true).mode(0o711).create(&places)?;
        let places = places.canonicalize()?;
        // A worker of another user has to enter its own folder, and may not list the others.
        fs::set_permissions(&places, Permissions::from_mode(0o711))?;
        let place = folder_of(&places, run);
        match DirBuilder::new().mode(0o700).create(&place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(place),
        }
    });
    let place =
        made.map_err(|error| format!("the job's folder in {} can't be made: {error}", kind.folder_of_all()))?;
    let folder = WorkspaceDir::open(&place.to_string_lossy(), &[])?;
    if let Some(UserIds { uid, gid }) = owner {
        let given = fchown(&folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        given.map_err(|error| format!("{} can't be given to the worker: {error}", place.display()))?;
    }
    Ok(folder)
}

/// Returns the path of a run's place, which may not exist.
///
/// # Errors
/// No place was ever made with this environment.
pub(crate) fn place_path(state: &Path, run: &RunId, confined: bool, env: &Variables) -> io::Result<PathBuf> {
    Ok(folder_of(&data_folder(state, "places", confined, env)?.canonicalize()?, run))
}

/// Returns the folder of a run: its own, or the one that it has taken over.
fn folder_of(places: &Path, run: &RunId) -> PathBuf {
    let own = places.join(folder_name(run));
    let taken = fs::read_to_string(beside(&own, AT)).ok().and_then(|first| first.parse::<JobId>().ok());
    taken.map_or(own, |first| places.join(first.file_stem()))
}

/// Returns the name of a place. Another run of the same job gets a folder of its own.
fn folder_name(run: &RunId) -> String {
    let stem = run.job.file_stem();
    if run.epoch == 1 { stem } else { format!("{stem}-{}", run.epoch) }
}

/// Ending of the name of a place that is being removed. The name of a job contains no dot, so no place has such a name.
const DONE: &str = ".done";
/// Ending of the name of an empty file beside a place that is complete: its commits are worth handing over.
const MADE: &str = ".made";
/// Ending of the name of a file beside a place that is kept: with the Codex thread that may be continued in it, or empty,
/// because its commits could not be handed over. No worker can write it in a sandbox or as another user.
const KEPT: &str = ".kept";
/// Ending of the name of a file of a run that has taken over the place of an earlier job; it contains that job.
const AT: &str = ".at";
/// Maximum number of places that are kept, and their maximum age.
const MAX_KEPT: usize = 10;
const MAX_KEPT_AGE: Duration = Duration::from_secs(14 * 24 * 3600);

fn beside(place: &Path, ending: &str) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    place.with_file_name(name)
}

fn mark(place: &Path, ending: &str, content: &str) {
    let marker = beside(place, ending);
    if let Err(error) = fs::write(&marker, content) {
        tracing::warn!("{} can't be written: {error}", marker.display());
    }
}

/// Keeps the place of an ended job for a job that continues its thread.
pub(crate) fn keep_for_thread(place: &Path, thread: &str) {
    let _ = fs::remove_file(beside(place, MADE));
    mark(place, KEPT, thread);
}

/// Makes the place that [`keep_for_thread`] has kept for this run's thread, if it is still there, the place of this run.
pub(crate) fn take_over_kept(state: &Path, run: &RunId, spec: &JobSpec, confined: bool, env: &Variables) {
    let places = data_folder(state, FolderKind::Place.folder_of_all(), confined, env);
    if let Ok(places) = places.and_then(|places| places.canonicalize()) {
        take_kept(&places, run, spec);
    }
}

/// Takes over a kept place. The spec is untrusted, so the thread has to match.
fn take_kept(places: &Path, run: &RunId, spec: &JobSpec) -> Option<()> {
    let (thread, first) = (spec.thread.as_deref()?, spec.place.as_ref()?.continues()?);
    let place = places.join(first.file_stem());
    let marker = beside(&place, KEPT);
    let is_ours = fs::read_to_string(&marker).ok()? == thread && fs::symlink_metadata(&place).ok()?.is_dir();
    // The run that removes the file has the place.
    (is_ours && fs::remove_file(&marker).is_ok()).then_some(())?;
    mark(&places.join(folder_name(run)), AT, &first.to_string());
    Some(())
}

/// Records that a place is complete.
pub(crate) fn mark_made(place: &Path) {
    mark(place, MADE, "");
}

/// Returns true if a place was complete.
pub(crate) fn was_made(place: &Path) -> bool {
    beside(place, MADE).exists()
}

/// Records that a place is kept after the end of its run.
pub(crate) fn mark_kept(place: &Path) {
    mark(place, KEPT, "");
}

/// Removes a place. Follows no link, so nothing outside of it is touched. If the agent ends meanwhile,
/// [`remove_leftovers`] does the rest.
pub(crate) fn remove(place: &Path) {
    for marker in [MADE, KEPT] {
        // Most places have at most one of them.
        let _ = fs::remove_file(beside(place, marker));
    }
    let done = beside(place, DONE);
    let removed = fs::rename(place, &done).and_then(|()| fs::remove_dir_all(&done));
    if let Err(error) = removed {
        tracing::warn!("{} can't be removed: {error}", place.display());
    }
}

/// Removes the places beside this one whose removal was begun, but not finished, and those that were kept too long, with
/// the files that name a place which is not there.
pub(crate) fn remove_leftovers(place: &Path) {
    let entries = place.parent().and_then(|places| fs::read_dir(places).ok());
    let paths: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    for leftover in paths.iter().filter(|path| path.to_string_lossy().ends_with(DONE)) {
        // Another job may be removing it at this moment.
        let _ = fs::remove_dir_all(leftover);
    }
    let since = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let mut kept: Vec<(SystemTime, PathBuf)> = paths
        .iter()
        .filter(|path| path.to_string_lossy().ends_with(KEPT))
        .filter_map(|marker| Some((since(marker)?, marker.with_extension(""))))
        .collect();
    kept.sort();
    let surplus = kept.len().saturating_sub(MAX_KEPT);
    for (n, (since, place)) in kept.iter().enumerate() {
        let is_due = n < surplus || since.elapsed().is_ok_and(|age| age > MAX_KEPT_AGE);
        let marker = beside(place, KEPT);
        let is_handed_over = || fs::metadata(&marker).is_ok_and(|meta| meta.len() > 0);
        if is_due && !is_handed_over() {
            tracing::warn!(
                "{} was kept for a result that could not be handed over: it is removed",
                place.display()
            );
        }
        // A job that continues the thread may have taken it at this moment.
        if is_due && fs::remove_file(&marker).is_ok() {
            remove(place);
        }
    }
    for pointer in paths.iter().filter(|path| path.to_string_lossy().ends_with(AT)) {
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
        mark_made(&place);
        keep_for_thread(&place, THREAD);
        assert!(!was_made(&place));
        assert_eq!(take_kept(&dir, &second, &continuing(&THREAD.replace('1', "2"))), None);
        assert_eq!(take_kept(&dir, &second, &continuing(THREAD)), Some(()));
        assert_eq!(take_kept(&dir, &third, &continuing(THREAD)), None, "it is in use");
        assert_eq!((folder_of(&dir, &second), folder_of(&dir, &third)), (place.clone(), dir.join("demo.3")));
        keep_for_thread(&place, THREAD);
        fs::remove_dir(&place).unwrap();
        assert_eq!(take_kept(&dir, &third, &continuing(THREAD)), None, "it is gone");
        remove_leftovers(&place);
        assert_eq!(folder_of(&dir, &second), dir.join("demo.2"));
    }

    #[test]
    fn each_run_has_a_folder_that_no_other_user_can_enter() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let state = dir.join("state");
        let env = Variables::from([("HOME".to_owned(), dir.join("home").display().to_string())]);
        let make = |run, confined| {
            create(FolderKind::Place, &state, &run, None, confined, &env).unwrap().path().to_owned()
        };
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
    fn the_newest_kept_places_stay_and_markers_go_with_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let place = |n: usize| dir.join(format!("demo.{n}"));
        for n in 0..MAX_KEPT + 2 {
            fs::create_dir(place(n)).unwrap();
            mark_made(&place(n));
            mark_kept(&place(n));
            let since = SystemTime::now() - Duration::from_secs(1000 - n as u64);
            fs::File::options()
                .write(true)
                .open(beside(&place(n), KEPT))
                .unwrap()
                .set_modified(since)
                .unwrap();
        }
        let old = SystemTime::now() - MAX_KEPT_AGE * 2;
        let oldest = fs::File::options().write(true).open(beside(&place(5), KEPT)).unwrap();
        oldest.set_modified(old).unwrap();
        remove_leftovers(&dir.join("demo.99"));
        let left: Vec<usize> = (0..MAX_KEPT + 2).filter(|n| place(*n).exists()).collect();
        assert_eq!(left, [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]);
        assert!(!was_made(&place(5)) && was_made(&place(6)) && !beside(&place(5), KEPT).exists());
    }

    #[test]
    fn a_link_in_the_folder_s_stead_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir(dir.join("state.places")).unwrap();
        std::os::unix::fs::symlink("/", dir.join("state.places/demo.1")).unwrap();
        let refused = create(FolderKind::Place, &dir.join("state"), &run(1), None, false, &Variables::new())
            .unwrap_err();
        assert!(refused.contains("link"), "{refused}");
    }
}
