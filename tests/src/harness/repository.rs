//! Git commands and generated repositories for tests.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Site, until_by};

/// Maximum time until a clone is prepared, for the largest repositories.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(600);
/// Size of a generated file, in bytes.
const FILE_SIZE: usize = 16 * 1024;
/// Number of generated files in a folder.
const FILES_PER_FOLDER: usize = 100;
/// Number of different words in generated text. With this number the text compresses to a third, like source code.
const WORDS: u64 = 4096;

/// Runs git in a folder as a user would; returns its output.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = git_command(folder, arguments).output().unwrap_or_else(|e| panic!("git: {e}"));
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Returns a git command in a folder, independent of the settings of the user who runs the tests.
pub fn git_command(folder: &Path, arguments: &[&str]) -> Command {
    let settings = ["user.name=t", "user.email=t@example.com", "safe.directory=*", "gc.auto=0"];
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(settings.iter().flat_map(|setting| ["-c", setting])).args(arguments);
    command
}

/// Waits until the agent of a site with sandboxes has prepared a clone for the next job on the site's only repository,
/// and returns its path.
pub fn prepared_clone(site: &Site) -> PathBuf {
    let caches = site.home().join(".local/share/relay/repositories");
    let subfolders = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    until_by(Instant::now() + PREPARE_TIMEOUT, "a clone is prepared", || {
        let folders = subfolders(&caches).iter().flat_map(|agent| subfolders(agent)).collect::<Vec<_>>();
        folders.into_iter().map(|folder| folder.join("clone")).find(|clone| clone.exists())
    })
}

/// Makes an empty folder a repository with one commit of `bytes` bytes of text, in files of 16 KiB.
///
/// # Errors
/// Returns an error if git fails.
pub fn generate(folder: &Path, bytes: usize) -> io::Result<()> {
    git(folder, &["init", "-q", "-b", "main"]);
    let mut import = git_command(folder, &["fast-import", "--quiet", "--depth=0"]);
    let mut import = import.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    if let Some(stdin) = import.stdin.take() {
        write_commit(io::BufWriter::new(stdin), bytes.div_ceil(FILE_SIZE))?;
    }
    let status = import.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("git fast-import: {status}")));
    }
    git(folder, &["reset", "-q", "--hard"]);
    Ok(())
}

/// Writes one commit with this number of files, in the format of `git fast-import`.
fn write_commit(mut out: impl Write, files: usize) -> io::Result<()> {
    write!(out, "commit refs/heads/main\ncommitter t <t@example.com> 1700000000 +0000\ndata 5\nfirst\n")?;
    let (mut words, mut text) = (Noise(1), String::with_capacity(FILE_SIZE + 16));
    for file in 0..files {
        text.clear();
        while text.len() < FILE_SIZE {
            // Every second word is one of 64, as in text, where few words are common.
            let word = words.next() % if words.next().is_multiple_of(2) { 64 } else { WORDS };
            let end = if words.next().is_multiple_of(8) { '\n' } else { ' ' };
            let _ = write!(text, "{:x}{end}", word * 0x9e37);
        }
        let folder = file / FILES_PER_FOLDER;
        write!(out, "M 644 inline folder-{folder:03}/file-{file:06}.txt\ndata {}\n{text}\n", text.len())?;
    }
    out.flush()
}

/// A generator of pseudo-random numbers, the same in each run.
#[derive(Debug)]
pub struct Noise(pub u64);

impl Noise {
    /// Returns the next number.
    #[expect(clippy::should_implement_trait, reason = "it has no end")]
    pub fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Returns bytes that git can't compress.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}
