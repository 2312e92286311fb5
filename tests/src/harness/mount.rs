//! Sites with a folder on a separately mounted file system. Mounting requires root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Site;

/// A site with a separately mounted folder. Dropping it unmounts the folder after the site has ended.
#[derive(Debug)]
pub struct Mounted {
    /// Site with the mounted folder.
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
    /// Mounts a tmpfs of a size such as `2m` as the registry of a site, without the agent's spool.
    pub fn tmpfs(site: Site, capacity: &str) -> Self {
        Self::with_options(site, &format!("size={capacity}"))
    }

    /// Mounts a tmpfs with room for this many files as the registry of a site.
    pub fn tmpfs_with_inodes(site: Site, files: u32) -> Self {
        Self::with_options(site, &format!("size=64m,nr_inodes={files}"))
    }

    fn with_options(site: Site, options: &str) -> Self {
        let mut mounts = Mounts { root: site.root().to_owned(), paths: Vec::new() };
        mounts.add(&site.registry(), &["-t", "tmpfs", "-o", &format!("{options},mode=0700"), "tmpfs"]);
        Self { site, _mounts: mounts }
    }

    /// Mounts an empty read-only workspace, `read-only`, in a site.
    pub fn with_read_only_workspace(site: Site) -> Self {
        Self::with_read_only(site, "workspace-projects/read-only")
    }

    /// Mounts an empty read-only folder as the workspaces folder of a site.
    pub fn with_read_only_workspaces(site: Site) -> Self {
        Self::with_read_only(site, "workspace-projects")
    }

    fn with_read_only(site: Site, folder: &str) -> Self {
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
            // A lazy unmount succeeds even while a program has a file of the mount open.
            let _ = Command::new("umount").arg("-l").arg(path).output();
        }
        // The site could not remove its root, because of the mount points in it.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Creates empty files in a folder until its file system has no inode left.
pub fn use_all_inodes(folder: &Path) {
    fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for n in 0.. {
        match fs::File::create(folder.join(n.to_string())) {
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull => return,
            made => drop(made.unwrap_or_else(|e| panic!("{}: {e}", folder.display()))),
        }
    }
}

/// Writes to a file until the file system is full.
pub fn fill_disk(path: &Path) {
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
