//! Small disks that fill up, and system calls that fail.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// A separate file system in memory.
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

    /// Fills all the free space.
    pub(crate) fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.path().join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    /// Frees the space again.
    pub(crate) fn empty(&self) {
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

/// Command line below which some system calls of a program fail, injected by strace.
pub(crate) fn failing(inject: &str) -> Vec<String> {
    traced(inject, &[])
}

/// Command line below which some system calls of a program and of all its children are delayed.
pub(crate) fn slow(inject: &str) -> Vec<String> {
    traced(inject, &["-f"])
}

fn traced(inject: &str, more: &[&str]) -> Vec<String> {
    let call = inject.split(':').next().unwrap();
    let (trace, inject) = (format!("trace={call}"), format!("inject={inject}"));
    // The tracer detaches from the process tree (-D): the program is our own child, and a signal reaches it.
    let words = ["strace", "-D", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    words.iter().chain(more).map(|word| (*word).to_owned()).collect()
}
