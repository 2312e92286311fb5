//! Circles of imports: among all files of a crate, and on each floor of its folders among what is in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{Import, ModulePath, Tree};

/// Maximum number of imports shown of a circle, one of each pair.
const MAX_LINES: usize = 12;

/// Imports from one node to another.
type Graph<'a> = BTreeMap<(String, String), Vec<&'a Import>>;

/// Describes the circles of a crate, apart from imports that are excepted.
pub(crate) fn circles(tree: &Tree, is_excepted: &dyn Fn(&Import) -> bool) -> Vec<String> {
    let imports: Vec<&Import> = tree.imports.iter().filter(|import| !is_excepted(import)).collect();
    let src = format!("{}/src", tree.name);
    let mut found = describe(&format!("files of {src}"), &graph(&imports, &|path| Some(path.join("/"))));
    for folder in tree.paths().filter(|path| tree.is_folder(path)) {
        let place = [vec![src.clone()], folder.clone()].concat().join("/");
        found.extend(describe(&format!("folder {place}"), &graph(&imports, &|path| inside(folder, path))));
    }
    found
}

/// Returns the entry of `folder` in which the module `path` is.
fn inside(folder: &ModulePath, path: &ModulePath) -> Option<String> {
    let rest = path.strip_prefix(folder.as_slice())?;
    // The library's own file puts its modules together.
    let own = || (!folder.is_empty()).then(|| "mod".to_owned());
    rest.first().cloned().or_else(own)
}

fn graph<'a>(imports: &[&'a Import], node: &dyn Fn(&ModulePath) -> Option<String>) -> Graph<'a> {
    let mut graph = Graph::new();
    for import in imports {
        if let (Some(from), Some(to)) = (node(&import.from), node(&import.to))
            && from != to
        {
            graph.entry((from, to)).or_default().push(import);
        }
    }
    graph
}

/// Describes each circle with the lines that make it.
fn describe(place: &str, graph: &Graph<'_>) -> Vec<String> {
    let mut described = Vec::new();
    let mut seen = BTreeSet::new();
    let ahead = neighbours(graph.keys().map(|(from, to)| (from.as_str(), to.as_str())));
    let behind = neighbours(graph.keys().map(|(from, to)| (to.as_str(), from.as_str())));
    for (from, _) in graph.keys() {
        if seen.contains(from.as_str()) {
            continue;
        }
        let behind = reach(&behind, from);
        let circle: BTreeSet<&str> = reach(&ahead, from).intersection(&behind).copied().collect();
        if circle.len() > 1 {
            let names: Vec<&str> = circle.iter().copied().collect();
            let mut text = format!("{place}: {}", names.join(" ↔ "));
            let is_within = |name: &String| circle.contains(name.as_str());
            let within = graph.iter().filter(|((from, to), _)| is_within(from) && is_within(to));
            let mut pairs: Vec<&Vec<&Import>> = within.map(|(_, imports)| imports).collect();
            // A wrong import is mostly the only one in its direction.
            pairs.sort_by_key(|imports| imports.len());
            for imports in pairs.into_iter().take(MAX_LINES) {
                let shown = imports.iter().find(|import| import.is_use).unwrap_or(&imports[0]);
                text.push_str("\n    ");
                text.push_str(&shown.shown);
            }
            described.push(text);
        }
        seen.extend(circle);
    }
    described
}

/// Nodes that are one step from each node.
type Neighbours<'a> = BTreeMap<&'a str, Vec<&'a str>>;

fn neighbours<'a>(steps: impl Iterator<Item = (&'a str, &'a str)>) -> Neighbours<'a> {
    let mut neighbours = Neighbours::new();
    for (from, to) in steps {
        neighbours.entry(from).or_default().push(to);
    }
    neighbours
}

/// Returns the nodes that can be reached from one, itself among them.
fn reach<'a>(neighbours: &Neighbours<'a>, start: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::from([start]);
    let mut queue = vec![start];
    while let Some(node) = queue.pop() {
        for next in neighbours.get(node).into_iter().flatten() {
            if reached.insert(*next) {
                queue.push(*next);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_circle_is_told_with_the_lines_that_make_it() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.path().join("one/src").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("lib.rs", "mod ground;\nmod high;\nmod low;\npub use high::run;\n");
        write("ground.rs", "//! use crate::high::run;\npub struct Ground;\n");
        write("high/mod.rs", "mod inner;\npub use inner::run;\n");
        write(
            "high/inner.rs",
            "use crate::low::Low;\npub fn run(_: Low, _: super::super::ground::Ground) {}\n",
        );
        write("low.rs", "use crate::ground::Ground;\npub struct Low(Ground);\n");
        assert_eq!(circles(&Tree::read(root.path(), "one"), &|_| false), Vec::<String>::new());
        write("low.rs", "pub struct Low;\npub fn up() {\n    crate::high::run(Low);\n}\n");
        let lines =
            "one/src/high/inner.rs:1: use crate::low::Low;\n    one/src/low.rs:3: crate::high::run(Low);";
        assert_eq!(
            circles(&Tree::read(root.path(), "one"), &|_| false),
            [
                format!("files of one/src: high/inner ↔ low\n    {lines}"),
                format!("folder one/src: high ↔ low\n    {lines}")
            ]
        );
        assert_eq!(circles(&Tree::read(root.path(), "one"), &|_| true), Vec::<String>::new());
    }
}
