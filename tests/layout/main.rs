//! Layout of the source: folders and files stand on each other like floors. Nothing imports what imports it, and each
//! part imports only what the tables of `floors.txt` allow. Read from the text of the sources, without their tests.
//!
//! * [`tokens`]: the words of a file. [`source`]: its imports and the paths it names.
//! * [`tree`]: the modules of a crate, and who imports whom. [`circles`]: circles among them.
//! * [`floors`]: the tables of `floors.txt`.

mod circles;
mod floors;
mod source;
mod tokens;
mod tree;

use std::path::{Path, PathBuf};

use tree::{Import, Tree};

/// Crates with modules to look at.
const CRATES: [&str; 3] = ["common", "agent", "relay"];

/// Files that may import each other, by their paths below the folder, without `.rs`.
struct Exception {
    /// Folder of the files.
    folder: &'static str,
    files: &'static [&'static str],
    /// Why.
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        folder: "relay/src/files",
        files: &["dir", "file_ref"],
        reason: "each has a type that the other needs: a folder names its files, and a file keeps its folder open",
    },
    Exception {
        folder: "relay/src/daemon/core",
        files: &["agents", "boxes", "container", "handle", "limits", "platform", "shutdown"],
        reason: "the files share one state: each has a part of it, and the handlers of that part",
    },
];

impl Exception {
    fn covers(&self, import: &Import) -> bool {
        let is_one = |file: &Path| {
            let name = file.strip_prefix(self.folder).ok().map(|name| name.with_extension(""));
            name.is_some_and(|name| self.files.iter().any(|one| Path::new(one) == name))
        };
        is_one(&import.file) && is_one(&import.target)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn crates() -> Vec<Tree> {
    CRATES.iter().map(|name| Tree::read(&root(), name)).collect()
}

/// Circles of all crates, with the imports that make them, if these exceptions hold.
fn all_circles(trees: &[Tree], exceptions: &[&Exception]) -> Vec<String> {
    let circles = trees.iter().flat_map(|tree| {
        let excepted = |import: &Import| exceptions.iter().any(|exception| exception.covers(import));
        circles::circles(tree, &excepted)
    });
    circles.collect()
}

#[test]
fn no_folder_and_no_file_imports_what_imports_it() {
    let circles = all_circles(&crates(), &EXCEPTIONS.iter().collect::<Vec<_>>());
    assert!(circles.is_empty(), "move what both need to a lower file:\n{}", circles.join("\n"));
}

#[test]
fn every_exception_is_needed() {
    let trees = crates();
    for unneeded in EXCEPTIONS {
        let others: Vec<_> =
            EXCEPTIONS.iter().filter(|exception| !std::ptr::eq(*exception, unneeded)).collect();
        let Exception { folder, files, reason } = unneeded;
        assert!(
            !all_circles(&trees, &others).is_empty(),
            "no circle left in {folder}: {files:?} ({reason}): remove it"
        );
    }
}

#[test]
fn parts_import_only_what_the_tables_allow() {
    let mut wrong = Vec::new();
    for tree in crates() {
        if let Some(floors) = floors::Floors::read(&root(), &tree.name) {
            wrong.extend(floors.violations(&tree));
        }
    }
    assert!(wrong.is_empty(), "not allowed by the table in tests/layout/floors.txt:\n{}", wrong.join("\n"));
}
