//! Planted objects, such as links and pipes instead of files, and a folder that must stay unchanged.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use relay_tests::harness::{Site, until};
use rustix::fs::{CWD, FileType, Mode, makedev, mkfifoat, mknodat};

/// Maximum time of a command. It is generous, because none of the commands waits for anything.
const LIMIT: Duration = Duration::from_secs(120);
/// A user id without an account.
pub(super) const OTHER_USER: u32 = 12345;

/// Object that replaces a file or a folder of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlantedObject {
    /// A symbolic link to a file or folder outside.
    Link,
    HardLink,
    Fifo,
    /// A folder instead of a file, or a file instead of a folder.
    WrongKind,
    /// A device like `/dev/zero`, whose content never ends.
    Device,
    /// A file or folder of another user.
    OtherOwner,
}

impl PlantedObject {
    /// Returns true if the test's user can create the object. Some can be created only by root.
    pub(super) fn can_be_created(self) -> bool {
        !matches!(self, Self::Device | Self::OtherOwner) || rustix::process::geteuid().is_root()
    }
}

/// Creates the folder outside. It holds files that a daemon would change or remove if they were in its own folders.
pub(super) fn create_outside(site: &Site) -> PathBuf {
    let outside = site.root().join("outside");
    for name in ["a.json", "demo", "old.1.json", "old.1.shown", ".x.1.spec.77", "s1.json"] {
        site.write(&format!("outside/{name}"), "what is outside\n");
        // A daemon removes files of sessions that are so old.
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(30 * 24 * 3600);
        fs::File::options().append(true).open(outside.join(name)).unwrap().set_modified(long_ago).unwrap();
    }
    outside
}

/// Puts an object in the place `at`. Tries again if a daemon has created its own file there meanwhile.
pub(super) fn plant(object: PlantedObject, at: &Path, outside: &Path, is_folder: bool) {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    let victim = outside.join(format!("victim-of-{}", at.file_name().unwrap().to_string_lossy()));
    if !victim.exists() {
        fs::write(&victim, "what is outside\n").unwrap();
    }
    until(&format!("{object:?} stands at {}", at.display()), || {
        let _ = fs::remove_file(at);
        let _ = fs::remove_dir_all(at);
        match create(object, at, if is_folder { outside } else { &victim }, is_folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => None,
            made => {
                assert!(made.is_ok(), "{}: {made:?}", at.display());
                Some(())
            }
        }
    });
}

/// Creates an object in a place where nothing exists. Links lead to `target`.
fn create(object: PlantedObject, at: &Path, target: &Path, is_folder: bool) -> io::Result<()> {
    match object {
        PlantedObject::Link => symlink(target, at),
        PlantedObject::HardLink => fs::hard_link(target, at),
        PlantedObject::Fifo => Ok(mkfifoat(CWD, at, Mode::RWXU)?),
        PlantedObject::Device => Ok(mknodat(CWD, at, FileType::CharacterDevice, Mode::RWXU, makedev(1, 5))?),
        PlantedObject::WrongKind | PlantedObject::OtherOwner => {
            if is_folder == (object == PlantedObject::OtherOwner) {
                fs::create_dir(at)?;
            } else {
                fs::File::create_new(at)?.write_all(b"1")?;
            }
            if object == PlantedObject::OtherOwner {
                chown(at, Some(OTHER_USER), Some(OTHER_USER))?;
            }
            Ok(())
        }
    }
}

/// Removes all planted objects below a folder, so that the site can check its own files.
pub(super) fn remove_planted(below: &Path) {
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        if meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() {
            if entry.file_name().to_string_lossy().contains('.') {
                fs::remove_dir_all(&path).unwrap();
            } else {
                remove_planted(&path);
            }
        } else if meta.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else if !meta.is_file() || meta.nlink() > 1 || meta.uid() == OTHER_USER {
            fs::remove_file(&path).unwrap();
        }
    }
}

/// Returns path, content, mode, owner and modification time of everything below a folder.
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

/// Runs a `relay` command with `input` on stdin. It must end within [`LIMIT`] and without a panic.
pub(super) fn run_in_time(site: &Site, args: &[&str], input: &str) -> Output {
    let mut command = site.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    // An error says that the command has ended without reading its input.
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

/// Runs a `relay` command that must succeed, as [`run_in_time`] does; returns its stdout.
pub(super) fn run_successfully(site: &Site, args: &[&str]) -> String {
    let output = run_in_time(site, args, "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "relay {args:?}: {stderr}\n{}", site.daemon_log());
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
