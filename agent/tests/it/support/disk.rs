//! Small disks, which a test can fill, and strace commands that make system calls fail or slow.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// A small file system in memory, mounted in a temporary folder. Mounting needs root.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn new(kib: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]).arg(dir.path());
        assert!(mount.status().unwrap().success(), "mounting needs root");
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills all the free space with one file.
    pub(crate) fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.path().join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    /// Removes the file that fills the disk.
    pub(crate) fn remove_filler(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }

    pub(crate) fn free_kib(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path()).unwrap();
        stat.f_bavail * stat.f_frsize / 1024
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// Returns a wrapper command that runs a program under strace, where some system calls of the program fail.
pub(crate) fn strace_with_failures(inject: &str) -> Vec<String> {
    strace_command(inject, &[])
}

/// Returns a wrapper command that runs a program under strace, where some system calls of the program and of its
/// descendants are delayed.
pub(crate) fn strace_with_delays(inject: &str) -> Vec<String> {
    strace_command(inject, &["-f"])
}

fn strace_command(inject: &str, options: &[&str]) -> Vec<String> {
    let call = inject.split(':').next().unwrap();
    let (trace, inject) = (format!("trace={call}"), format!("inject={inject}"));
    // With -D the program, not strace, is the child of the test, so that a signal reaches the program.
    let words = ["strace", "-D", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    words.iter().chain(options).map(|word| (*word).to_owned()).collect()
}
