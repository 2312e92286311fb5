//! Caches of repositories: the objects of earlier bases, so that the next job on a repository fetches only what is new.
//!
//! ```text
//!  relay ──stream──► cache, one for each repository ──copy──► place (the job's clone)
//!                    written by the agent's own git           made by the worker's git
//! ```
//!
//! No worker can write a cache: workers run as another user than the agent, or in a sandbox. If neither holds, there is
//! no cache. A place copies the objects, so it never depends on its cache, and a cache can be removed whenever no place
//! is being made from it. If git can't use a cache, it is emptied, and the job fetches its place from the relay.
//!
//! Git checks the hash of every object that it fetches. So if two repositories were taken for one, that would cost time
//! and space, but no place would get a changed file.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use common::job::JobSpec;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::script::argv;
use crate::environment::{DEFAULT_PATH, Variables};
use crate::shim::protocol::Command;
use crate::workspace::WorkspaceDir;

/// Maximum size of all caches of an agent, in bytes: some repositories of the size that places are made for.
const MAX_SIZE: u64 = 4 << 30;
/// Maximum part of the disk that the caches take: a twentieth.
const DISK_PART: u64 = 20;
/// Maximum number of packs in a cache. Each new base adds one, and a place copies all of them.
const MAX_PACKS: usize = 32;

/// Locks of caches, by path. A fetch writes, and a place that is being made reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct CacheLocks(Arc<Mutex<HashMap<PathBuf, Arc<RwLock<()>>>>>);

impl CacheLocks {
    pub(super) fn of(&self, path: &Path) -> Arc<RwLock<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A lock that no job holds or waits for is not needed.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(path.to_owned()).or_default())
    }
}

/// Cache of one repository. It may not exist yet.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryCache {
    /// Folder of all caches.
    caches: PathBuf,
    path: PathBuf,
    /// True if the workers have another user, who must be able to read the cache.
    is_shared: bool,
    locks: CacheLocks,
    /// Search path of programs.
    search_path: String,
}

/// A cache that is locked for a fetch.
#[derive(Debug)]
pub(crate) struct WritableCache {
    pub(crate) folder: WorkspaceDir,
    cache: RepositoryCache,
    guard: OwnedRwLockWriteGuard<()>,
}

/// A cache that does not change while a place copies it.
#[derive(Debug)]
pub(crate) struct ReadableCache {
    pub(crate) folder: WorkspaceDir,
    cache: RepositoryCache,
    _guard: OwnedRwLockReadGuard<()>,
}

impl RepositoryCache {
    /// Returns the cache of a job's repository in the folder of all caches. `env` is the agent's environment.
    pub(crate) fn of_job(
        caches: PathBuf,
        spec: &JobSpec,
        is_shared: bool,
        env: &Variables,
        locks: &CacheLocks,
    ) -> Self {
        let path = caches.join(name(spec));
        let search_path = env.get("PATH").cloned().unwrap_or_else(|| DEFAULT_PATH.to_owned());
        Self { caches, path, is_shared, locks: locks.clone(), search_path }
    }

    /// Locks the cache for a fetch, and creates its folder. Waits for the jobs that use it.
    pub(crate) async fn lock(&self) -> io::Result<WritableCache> {
        let guard = self.locks.of(&self.path).write_owned().await;
        let folder = self.open()?;
        Ok(WritableCache { folder, cache: self.clone(), guard })
    }

    fn open(&self) -> io::Result<WorkspaceDir> {
        let mode = if self.is_shared { 0o711 } else { 0o700 };
        DirBuilder::new().recursive(true).mode(mode).create(&self.caches)?;
        fs::set_permissions(&self.caches, Permissions::from_mode(mode))?;
        match DirBuilder::new().mode(0o755).create(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = self.path.canonicalize()?;
        WorkspaceDir::open(&path.to_string_lossy(), &[]).map_err(io::Error::other)
    }

    /// Returns the folder of the clone that is made ahead from this cache.
    pub(super) fn prepared_clone_folder(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".next");
        self.caches.join(name)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn locks(&self) -> &CacheLocks {
        &self.locks
    }

    pub(super) fn search_path(&self) -> &str {
        &self.search_path
    }

    /// Returns the space that the cache takes on its disk, in bytes. Blocks on the disk.
    pub(super) fn size(&self) -> u64 {
        size(&self.path)
    }

    /// Returns the maximum size of all caches, in bytes.
    pub(super) fn size_limit(&self) -> u64 {
        size_limit(&self.caches)
    }

    /// Removes the caches that were used longest ago until all together fit their limit. One in use stays. Blocks on the
    /// disk.
    pub(crate) fn trim_all(&self) {
        remove_oldest_caches(&self.caches, &self.locks, size_limit(&self.caches));
    }
}

impl WritableCache {
    /// Returns true if a commit was fetched with everything that it needs.
    pub(crate) fn has_base(&self, base: &str) -> bool {
        self.cache.path.join("refs/bases").join(base).is_file()
    }

    /// Returns the command that fetches a base, with a stream as stdout. It runs as the agent does. A cache with too
    /// many packs is emptied first.
    pub(crate) fn fetch_command(&self, base: &str, depth: u32) -> Command {
        let packs = fs::read_dir(self.cache.path.join("objects/pack")).into_iter().flatten().flatten();
        let is_pack = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|end| end == "pack");
        if packs.filter(is_pack).count() >= MAX_PACKS {
            self.clear();
        }
        let env = [("PATH", self.cache.search_path.as_str()), ("HOME", "/nonexistent")];
        Command {
            argv: argv(&["cache", base, &depth.to_string()]),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            cwd: ".".to_owned(),
            user: None,
            stdin: String::new(),
            interrupt_first: false,
            orphan_report: None,
            confine: None,
        }
    }

    /// Removes everything in the cache. Blocks on the disk.
    pub(crate) fn clear(&self) {
        clear(&self.cache.path);
    }

    /// Lets other jobs read, too.
    pub(crate) fn into_readable(self) -> ReadableCache {
        // The time of use decides which cache is removed first.
        let used = fs::File::open(&self.cache.path);
        let _ = used.and_then(|folder| folder.set_modified(SystemTime::now()));
        ReadableCache { folder: self.folder, cache: self.cache, _guard: self.guard.downgrade() }
    }
}

impl ReadableCache {
    /// Removes everything in the cache, unless another job reads it. Blocks on the disk.
    pub(crate) fn clear(self) {
        let (lock, path) = (self.cache.locks.of(&self.cache.path), self.cache.path.clone());
        drop(self);
        if let Ok(_guard) = lock.try_write() {
            clear(&path);
        }
    }
}

fn clear(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!("{} can't be removed: {error}", path.display());
        }
    }
}

/// Returns the name of the cache of a job's repository: the same for all folders of a work tree.
fn name(spec: &JobSpec) -> String {
    let place = spec.place.as_ref();
    let subfolder = Path::new(place.map_or("", |place| place.subfolder()));
    let workspace = Path::new(&spec.workspace);
    let levels = if workspace.ends_with(subfolder) { subfolder.components().count() } else { 0 };
    let top = workspace.ancestors().nth(levels).unwrap_or(workspace);
    // The ids of one repository have one length.
    let digits = place.map_or(0, |place| place.base().len());
    format!("{:08x}-{digits}.git", crc32c::crc32c(top.as_os_str().as_encoded_bytes()))
}

/// Removes the caches that were used longest ago until all together take at most `limit` bytes. One in use stays.
fn remove_oldest_caches(caches: &Path, locks: &CacheLocks, limit: u64) {
    let entries = fs::read_dir(caches).into_iter().flatten().flatten();
    let mut found: Vec<(SystemTime, PathBuf, u64)> = entries
        .filter_map(|entry| {
            let used = entry.metadata().ok()?.modified().ok()?;
            Some((used, entry.path(), size(&entry.path())))
        })
        .collect();
    found.sort();
    let mut total: u64 = found.iter().map(|(_, _, size)| size).sum();
    for (_, path, size) in found {
        if total <= limit {
            return;
        }
        // Nothing is removed under a place that is being made.
        let lock = locks.of(&path);
        let Ok(_guard) = lock.try_write() else { continue };
        clear(&path);
        let _ = fs::remove_dir(&path);
        total = total.saturating_sub(size);
    }
}

/// Maximum size of all caches on the disk of this folder, in bytes.
fn size_limit(caches: &Path) -> u64 {
    let disk = rustix::fs::statvfs(caches).map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize));
    disk.map_or(MAX_SIZE, |disk| (disk / DISK_PART).min(MAX_SIZE))
}

/// Returns the space that a folder takes on its disk, in bytes.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of_entry = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(of_entry).sum()
}

#[cfg(test)]
mod tests {
    use common::job::Runner;
    use common::place::PlaceSpec;

    use super::*;

    fn cache(caches: &Path, workspace: &str, subfolder: &str) -> RepositoryCache {
        let mut spec = JobSpec::new("a#1".parse().unwrap(), Runner::Shell, "true", workspace);
        let id = "a".repeat(40);
        spec.place = Some(PlaceSpec::new(&id, &id, "b", subfolder).unwrap());
        RepositoryCache::of_job(caches.to_owned(), &spec, false, &Variables::new(), &CacheLocks::default())
    }

    #[test]
    fn folders_of_one_work_tree_share_a_cache_and_others_do_not() {
        let path = |workspace, subfolder| cache(Path::new("/caches"), workspace, subfolder).path;
        assert_eq!(path("/w/demo", ""), path("/w/demo/sub/dir", "sub/dir"));
        assert_ne!(path("/w/demo", ""), path("/w/other", ""));
        assert_ne!(path("/w/demo", ""), path("/w/demo/sub/dir", ""));
    }

    #[tokio::test]
    async fn the_caches_unused_for_longest_are_removed_but_none_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let caches = dir.path().canonicalize().unwrap().join("caches");
        let locks = CacheLocks::default();
        let of = |name: &str| RepositoryCache { locks: locks.clone(), ..cache(&caches, name, "") };
        let mut held = None;
        for (n, name) in (0..).zip(["/old", "/held", "/newer", "/newest"]) {
            let locked = of(name).lock().await.unwrap();
            fs::write(locked.cache.path.join("file"), vec![7; 100_000]).unwrap();
            let path = locked.cache.path.clone();
            let readable = locked.into_readable();
            let used = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n);
            fs::File::open(path).unwrap().set_modified(used).unwrap();
            if name == "/held" {
                held = Some(readable);
            }
        }
        let left = || ["/old", "/held", "/newer", "/newest"].map(|name| of(name).path.exists());
        remove_oldest_caches(&caches, &locks, 450_000);
        assert_eq!(left(), [true; 4]);
        remove_oldest_caches(&caches, &locks, 250_000);
        assert_eq!(left(), [false, true, false, true]);
        drop(held);
        remove_oldest_caches(&caches, &locks, 250_000);
        assert_eq!(left(), [false, true, false, true]);
        remove_oldest_caches(&caches, &locks, 0);
        assert_eq!(left(), [false; 4]);
    }
}
