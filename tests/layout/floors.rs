//! The tables of `floors.txt`: one block per crate, one line per part of the crate, the highest part first.
//!
//! ```text
//! relay/src
//! cli     → top, render
//! top     → render
//! render
//! ```
//!
//! A part may import the parts after its arrow, all of which are below it, and the ground floor: the files directly in
//! `src` that have no line. The ground floor imports no part.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::tree::Tree;

/// Module that opens parts to the simulation and the fuzz targets. No program of the product contains it.
const INTERNALS: &str = "internals";

/// The table of one crate.
#[derive(Debug)]
pub(crate) struct Floors {
    allowed: BTreeMap<String, BTreeSet<String>>,
}

impl Floors {
    /// Reads the table of the crate `name`, if there is one.
    pub(crate) fn read(root: &Path, name: &str) -> Option<Self> {
        let path = root.join("tests/layout/floors.txt");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut blocks = text.split("\n\n");
        let block = blocks.find_map(|block| block.strip_prefix(&format!("{name}/src\n")))?;
        Some(Self::parse(block.trim_end()))
    }

    fn parse(block: &str) -> Self {
        let mut allowed = BTreeMap::new();
        for line in block.lines().rev() {
            let (part, imported) = line.split_once('→').unwrap_or((line, ""));
            let words = imported.split(',').map(str::trim).filter(|word| !word.is_empty());
            let imported: BTreeSet<String> = words.map(str::to_owned).collect();
            let above: Vec<&String> = imported.iter().filter(|one| !allowed.contains_key(*one)).collect();
            assert!(above.is_empty(), "floors.txt: no line below that of {}: {above:?}", part.trim());
            allowed.insert(part.trim().to_owned(), imported);
        }
        Self { allowed }
    }

    /// Returns the imports that the table does not allow.
    pub(crate) fn violations(&self, tree: &Tree) -> Vec<String> {
        let parts: BTreeSet<&String> = tree.paths().filter_map(|path| path.first()).collect();
        let gone = self.allowed.keys().filter(|part| !parts.contains(part));
        let mut wrong: BTreeSet<String> =
            gone.map(|part| format!("{}: there is no {part}", tree.name)).collect();
        for import in &tree.imports {
            let (Some(from), Some(to)) = (import.from.first(), import.to.first()) else { continue };
            let is_allowed = || self.allowed.get(from).is_some_and(|allowed| allowed.contains(to));
            if from != to && from != INTERNALS && self.allowed.contains_key(to) && !is_allowed() {
                wrong.insert(format!("{from} → {to}\n    {}", import.shown));
            }
        }
        wrong.into_iter().collect()
    }
}
