//! Objects planted in the place of the registry's files, and a folder outside that must stay unchanged.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use relay_tests::harness::{Site, until};
use rustix::fs::{CWD, FileType, Mode, makedev, mkfifoat, mknodat};

/// Generous limit: none of these commands waits for anything.
const LIMIT: Duration = Duration::from_secs(30);
/// A user id without an account.
pub(super) const STRANGER: u32 = 12345;

/// Objects planted in the place of a file or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plant {
    Link,
    HardLink,
    Fifo,
    /// A folder in the place of a file, or a file in the place of a folder.
    WrongKind,
    /// A copy of `/dev/zero`, which never ends.
    Device,
    OtherOwner,
}

impl Plant {
    /// Returns true if this user can make it: only root can make some.
    pub(super) fn can_be_made(self) -> bool {
        !matches!(self, Self::Device | Self::OtherOwner) || rustix::process::geteuid().is_root()
    }
}

/// Creates the folder outside, with a file for each plant and a few that a daemon would remove from its own folders.
pub(super) fn outside(site: &Site) -> PathBuf {
    let outside = site.root().join("outside");
    for name in ["a.json", "demo", "old.1.json", "old.1.shown", ".x.1.spec.77", "s1.json"] {
        site.write(&format!("outside/{name}"), "what is outside\n");
        // Old enough to be removed if it is mistaken for a session's.
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(30 * 24 * 3600);
        fs::File::options().append(true).open(outside.join(name)).unwrap().set_modified(long_ago).unwrap();
    }
    outside
}

/// Puts it there, replacing any existing entry; retries while a daemon recreates what it misses.
pub(super) fn put(plant: Plant, at: &Path, outside: &Path, is_folder: bool) {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    let victim = outside.join(format!("victim-of-{}", at.file_name().unwrap().to_string_lossy()));
    if !victim.exists() {
        fs::write(&victim, "what is outside\n").unwrap();
    }
    until(&format!("{plant:?} stands at {}", at.display()), || {
        let _ = fs::remove_file(at);
        let _ = fs::remove_dir_all(at);
        match make(plant, at, if is_folder { outside } else { &victim }, is_folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => None,
            made => {
                assert!(made.is_ok(), "{}: {made:?}", at.display());
                Some(())
            }
        }
    });
}

/// Creates it where nothing exists.
fn make(plant: Plant, at: &Path, target: &Path, is_folder: bool) -> io::Result<()> {
    match plant {
        Plant::Link => symlink(target, at),
        Plant::HardLink => fs::hard_link(target, at),
        Plant::Fifo => Ok(mkfifoat(CWD, at, Mode::RWXU)?),
        Plant::Device => Ok(mknodat(CWD, at, FileType::CharacterDevice, Mode::RWXU, makedev(1, 5))?),
        Plant::WrongKind | Plant::OtherOwner => {
            if is_folder == (plant == Plant::OtherOwner) {
                fs::create_dir(at)?;
            } else {
                fs::File::create_new(at)?.write_all(b"1")?;
            }
            if plant == Plant::OtherOwner {
                chown(at, Some(STRANGER), Some(STRANGER))?;
            }
            Ok(())
        }
    }
}

/// Removes everything planted below a folder, so that the site can read its own files.
pub(super) fn remove(below: &Path) {
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        if meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() {
            if entry.file_name().to_string_lossy().contains('.') {
                fs::remove_dir_all(&path).unwrap();
            } else {
                remove(&path);
            }
        } else if meta.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else if !meta.is_file() || meta.nlink() > 1 || meta.uid() == STRANGER {
            fs::remove_file(&path).unwrap();
        }
    }
}

/// All visible properties of a folder's content: names, contents, modes, owners, modification times.
pub(super) fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>, u32, u32, i64)> {
    let mut seen = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        let content = if meta.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        seen.push((entry.path(), content, meta.mode(), meta.uid(), meta.mtime()));
        if meta.is_dir() {
            seen.extend(snapshot(&entry.path()));
        }
    }
    seen.sort();
    seen
}

/// Runs a `relay` command, which has to end by itself and soon.
pub(super) fn bounded(site: &Site, args: &[&str], input: &str) -> Output {
    let mut command = site.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    // A command that reads no input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let (sender, ended) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(LIMIT) else {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        panic!("relay {args:?} does not end\n{}", site.daemon_log());
    };
    let output = output.unwrap();
    let code = output.status.code();
    assert!(code.is_some_and(|code| code != 101), "relay {args:?}: {output:?}");
    output
}

/// Output of the command, which has to succeed.
pub(super) fn succeeds(site: &Site, args: &[&str]) -> String {
    let output = bounded(site, args, "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "relay {args:?}: {stderr}\n{}", site.daemon_log());
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
