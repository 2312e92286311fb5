//! Sites with separately mounted file systems. Mounting requires root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Site;

/// A site with a separately mounted folder. The mounts are removed after the site.
#[derive(Debug)]
pub struct Mounted {
    /// The site.
    pub site: Site,
    _mounts: Mounts,
}

/// Mounts, removed in the opposite order of their creation.
#[derive(Debug)]
struct Mounts {
    root: PathBuf,
    paths: Vec<PathBuf>,
}

impl Mounted {
    /// Mounts a tmpfs of this size (in `mount`'s syntax) as the registry of a site. The spool of its agent is
    /// elsewhere.
    pub fn tmpfs(site: Site, room: &str) -> Self {
        Self::with_options(site, &format!("size={room}"))
    }

    /// Mounts a tmpfs that has capacity for this many files as the registry of a site.
    pub fn few_files(site: Site, files: u32) -> Self {
        Self::with_options(site, &format!("size=64m,nr_inodes={files}"))
    }

    fn with_options(site: Site, options: &str) -> Self {
        let mut mounts = Mounts { root: site.root().to_owned(), paths: Vec::new() };
        mounts.add(&site.registry(), &["-t", "tmpfs", "-o", &format!("{options},mode=0700"), "tmpfs"]);
        Self { site, _mounts: mounts }
    }

    /// Mounts a read-only workspace in a site.
    pub fn read_only(site: Site) -> Self {
        Self::closed(site, "workspace-projects/read-only")
    }

    /// Mounts the folder of all workspaces of a site read-only.
    pub fn all_read_only(site: Site) -> Self {
        Self::closed(site, "workspace-projects")
    }

    fn closed(site: Site, folder: &str) -> Self {
        let mut mounts = Mounts { root: site.root().to_owned(), paths: Vec::new() };
        mounts.add(&site.root().join(folder), &["-t", "tmpfs", "-o", "ro", "tmpfs"]);
        Self { site, _mounts: mounts }
    }
}

impl Mounts {
    fn add(&mut self, path: &Path, arguments: &[&str]) {
        fs::create_dir_all(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let output = Command::new("mount").args(arguments).arg(path).output();
        let output = output.unwrap_or_else(|e| panic!("mount: {e}"));
        assert!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr));
        self.paths.push(path.to_owned());
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in self.paths.iter().rev() {
            // Lazy unmount: a program that still has a file open in there must not cause a mount to be left behind.
            let _ = Command::new("umount").arg("-l").arg(path).output();
        }
        // The site could not remove the mount points.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Creates files in a folder until the file system is full.
pub fn crowd(folder: &Path) {
    fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for n in 0.. {
        match fs::File::create(folder.join(n.to_string())) {
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull => return,
            made => drop(made.unwrap_or_else(|e| panic!("{}: {e}", folder.display()))),
        }
    }
}

/// Writes a file until its file system is full.
pub fn fill(path: &Path) {
    use std::io::{ErrorKind, Write};
    let mut file = fs::File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for size in [64 * 1024, 4096, 1] {
        loop {
            match file.write(&vec![b'x'; size]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::StorageFull => break,
                Err(e) => panic!("{}: {e}", path.display()),
            }
        }
    }
}
