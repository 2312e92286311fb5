//! Real git repositories and jobs for tests.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::place::PlaceSpec;
use common::result::JobResult;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::apply::Change;
use super::base::StartCommit;
use super::job_repository::JobRepository;
use super::source::Source;
use crate::job_identity::JobIdentity;

/// A repository of the user, in a temporary folder that also holds the repositories of jobs.
pub(super) struct TestRepository {
    dir: TempDir,
    /// Root of the work tree.
    pub(super) root: PathBuf,
}

/// Runs git as a person would, and returns its output.
pub(super) fn git(dir: &Path, args: &[&str]) -> String {
    let output = git_command(dir, args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?} in {}: {stderr}", dir.display());
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Runs git as a person would, and returns true if it fails.
pub(super) fn git_fails(dir: &Path, args: &[&str]) -> bool {
    !git_command(dir, args).output().unwrap().status.success()
}

fn git_command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    for (name, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "a"),
        ("GIT_AUTHOR_EMAIL", "a@example.org"),
        ("GIT_COMMITTER_NAME", "a"),
        ("GIT_COMMITTER_EMAIL", "a@example.org"),
    ] {
        command.env(name, value);
    }
    command.args(["-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always"]);
    command.args(args).current_dir(dir);
    command
}

impl TestRepository {
    /// Creates a repository with one commit: `a.txt`, and `sub/b.txt`.
    pub(super) fn new() -> Self {
        Self::with_format("sha1")
    }

    pub(super) fn with_format(format: &str) -> Self {
        let empty = Self::without_commits();
        fs::remove_dir_all(empty.root.join(".git")).unwrap();
        git(&empty.root, &["init", "-q", &format!("--object-format={format}")]);
        empty.write("a.txt", "one\n");
        empty.write("sub/b.txt", "two\n");
        git(&empty.root, &["add", "."]);
        git(&empty.root, &["commit", "-qm", "first"]);
        empty
    }

    /// Creates a repository without a commit.
    pub(super) fn without_commits() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("project");
        fs::create_dir(&root).unwrap();
        git(&root, &["init", "-q"]);
        Self { dir, root }
    }

    /// Returns a path in the folder that contains the repository.
    pub(super) fn sibling_path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    /// Writes a file of the work tree.
    pub(super) fn write(&self, path: impl AsRef<Path>, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn git(&self, args: &[&str]) -> String {
        git(&self.root, args)
    }

    /// Starts a job from the root of the repository.
    pub(super) fn start(&self, job: &str) -> TestJob {
        TestJob::start(&self.root, &self.sibling_path("state"), job)
    }
}

/// A job with a clone of its own.
pub(super) struct TestJob {
    pub(super) repository: JobRepository,
    pub(super) place: PlaceSpec,
    /// The place: a clone of the job's repository.
    pub(super) clone: PathBuf,
    pub(super) notes: Vec<String>,
}

impl TestJob {
    /// Launches a job for a folder, makes its repository, and clones it.
    pub(super) fn start(workspace: &Path, state: &Path, job: &str) -> Self {
        let source = Source::find(workspace).unwrap();
        let start = StartCommit::prepare(&source, None, false).unwrap();
        let branch = format!("relay/{}", job.replace('#', "-"));
        let subfolder = source.subfolder.to_str().unwrap();
        let place = PlaceSpec::new(&start.base, &start.parent, &branch, subfolder).unwrap();
        let repository = JobRepository::of_job(state, &JobIdentity::for_test(job, 1));
        repository.create(&place, workspace, start.pack, None).unwrap();
        let clone = state.join(format!("{job}-place"));
        let url = format!("file://{}", repository.path().display());
        git(state, &["clone", "-q", "--depth", "1", "-b", "base", &url, clone.to_str().unwrap()]);
        Self { repository, place, clone, notes: start.notes }
    }

    /// Writes a file in the place.
    pub(super) fn write(&self, path: impl AsRef<Path>, text: &str) {
        let path = self.clone.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Commits everything in the place, and pushes it as the result.
    pub(super) fn commit_and_push(&self, message: &str) -> String {
        git(&self.clone, &["add", "-A"]);
        git(&self.clone, &["commit", "-qm", message]);
        self.push();
        git(&self.clone, &["rev-parse", "HEAD"])
    }

    pub(super) fn push(&self) {
        git(&self.clone, &["push", "-q", "origin", "+HEAD:refs/heads/result"]);
    }
}

/// Returns the change of a result with a commit.
pub(super) fn change(result: &JobResult) -> Change<'_> {
    Change { base: &result.base, commit: result.commit.as_deref().unwrap(), branch: &result.branch }
}

/// Returns content, mode and time of all files and links below a folder, unless their path contains one of `ignored`.
pub(super) fn fingerprint(dir: &Path, ignored: &[&str]) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    add_files(dir, dir, ignored, &mut found);
    found
}

fn add_files(top: &Path, dir: &Path, ignored: &[&str], found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(top.parent().unwrap()).unwrap().to_string_lossy().into_owned();
        if ignored.iter().any(|part| name.contains(part)) {
            continue;
        }
        let meta = fs::symlink_metadata(&path).unwrap();
        let description = if meta.is_dir() {
            add_files(top, &path, ignored, found);
            format!("folder {:o}", meta.mode())
        } else if meta.is_symlink() {
            format!("link {}", fs::read_link(&path).unwrap().display())
        } else {
            let digest = hex::encode(Sha256::digest(fs::read(&path).unwrap()));
            // Git updates the time of an object when the same content is written again.
            let time =
                if name.contains("objects/") { 0 } else { meta.mtime() * 1_000_000_000 + meta.mtime_nsec() };
            format!("{digest} {:o} {time}", meta.mode())
        };
        found.insert(path, description);
    }
}

/// Returns the files of a work tree with their content, without `.git`.
pub(super) fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fingerprint(root, &[]);
    let is_own = |path: &&PathBuf| {
        !path.strip_prefix(root).unwrap().components().any(|part| part.as_os_str() == OsStr::new(".git"))
    };
    let files = paths.keys().filter(is_own).filter(|path| path.is_file());
    files.map(|path| (path.strip_prefix(root).unwrap().to_owned(), fs::read(path).unwrap())).collect()
}
