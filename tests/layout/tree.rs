//! The modules of a crate, and who imports whom.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::source::Source;

/// Path of a module below its crate.
pub(crate) type ModulePath = Vec<String>;

/// A crate.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Folder of the crate.
    pub(crate) name: String,
    modules: BTreeMap<ModulePath, Module>,
    /// All imports between two of its modules.
    pub(crate) imports: Vec<Import>,
}

#[derive(Debug)]
struct Module {
    /// Path below the repository.
    file: PathBuf,
    lines: Vec<String>,
    source: Source,
}

/// An import of one module in another.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    pub(crate) from: ModulePath,
    pub(crate) to: ModulePath,
    /// File of the importing module, below the repository.
    pub(crate) file: PathBuf,
    /// File of the imported module, below the repository.
    pub(crate) target: PathBuf,
    /// True for a `use`, false for a path in the code.
    pub(crate) is_use: bool,
    /// The line, with its place.
    pub(crate) shown: String,
}

/// Target of a path: a module, an item of one, or something of another crate.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Module(ModulePath),
    Item(ModulePath),
    Elsewhere,
}

/// Maximum number of imports followed for one name. Only a circle of imports is longer.
const MAX_STEPS: usize = 20;

impl Tree {
    /// Reads a crate of the repository at `root`.
    pub(crate) fn read(root: &Path, name: &str) -> Self {
        let mut tree = Self { name: name.to_owned(), modules: BTreeMap::new(), imports: Vec::new() };
        let src = Path::new(name).join("src");
        tree.add(root, Vec::new(), src.join("lib.rs"), &src);
        tree.imports = tree.modules.keys().flat_map(|path| tree.imports_of(path)).collect();
        tree
    }

    /// Adds a module, whose children are in `folder`.
    fn add(&mut self, root: &Path, path: ModulePath, file: PathBuf, folder: &Path) {
        let text = fs::read_to_string(root.join(&file)).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let source = Source::parse(&text);
        for child in &source.children {
            let (path, inner) = ([path.clone(), vec![child.clone()]].concat(), folder.join(child));
            let (alone, with_folder) = (folder.join(format!("{child}.rs")), inner.join("mod.rs"));
            let file = if root.join(&alone).exists() { alone } else { with_folder };
            self.add(root, path, file, &inner);
        }
        let lines = text.lines().map(|line| line.trim().to_owned()).collect();
        self.modules.insert(path, Module { file, lines, source });
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &ModulePath> {
        self.modules.keys()
    }

    /// Returns true for a module with modules inside.
    pub(crate) fn is_folder(&self, path: &[String]) -> bool {
        self.modules.get(path).is_some_and(|module| !module.source.children.is_empty())
    }

    fn imports_of(&self, path: &ModulePath) -> Vec<Import> {
        let module = &self.modules[path];
        let mut found = Vec::new();
        for one in &module.source.uses {
            let to = self.resolve(path, &one.path, MAX_STEPS);
            // A folder's re-export of its own items is not an import: a user of the name imports the file that defines
            // it.
            let is_passed_on = one.is_public
                && self.is_folder(path)
                && matches!(&to, Found::Module(to) | Found::Item(to) if to.starts_with(path));
            if !is_passed_on {
                found.push((to, one.line, true));
            }
        }
        for (named, line) in &module.source.paths {
            if self.is_known(path, &named[0]) {
                found.push((self.resolve(path, named, MAX_STEPS), *line, false));
            }
        }
        let imports = found.into_iter().filter_map(|(to, line, is_use)| {
            let to = match to {
                // Its files are imported where they are named.
                Found::Module(to) if self.is_folder(&to) => return None,
                Found::Elsewhere => return None,
                Found::Module(to) | Found::Item(to) => to,
            };
            (to != *path && !to.is_empty()).then(|| Import {
                shown: format!("{}:{}: {}", module.file.display(), line + 1, module.lines[line]),
                is_use,
                from: path.clone(),
                file: module.file.clone(),
                target: self.modules[&to].file.clone(),
                to,
            })
        });
        imports.collect()
    }

    /// Returns true if a path in this module may begin with this name.
    fn is_known(&self, path: &ModulePath, name: &str) -> bool {
        let source = &self.modules[path].source;
        matches!(name, "crate" | "self" | "super")
            || source.children.iter().any(|child| child == name)
            || source.uses.iter().any(|one| one.name == name)
    }

    /// Returns what a path in this module leads to.
    fn resolve(&self, here: &[String], path: &[String], steps: usize) -> Found {
        let Some((first, rest)) = path.split_first() else { return Found::Elsewhere };
        match first.as_str() {
            "crate" => self.walk(Vec::new(), rest, steps),
            "self" => self.walk(here.to_vec(), rest, steps),
            "super" => {
                let ups = path.iter().take_while(|name| *name == "super").count();
                self.walk(here[..here.len().saturating_sub(ups)].to_vec(), &path[ups..], steps)
            }
            name if self.modules[here].source.children.iter().any(|child| child == name) => {
                self.walk(here.to_vec(), path, steps)
            }
            name => self.follow(here, name, rest, steps).unwrap_or(Found::Elsewhere),
        }
    }

    /// Follows a path from a module inside the crate.
    fn walk(&self, mut at: ModulePath, path: &[String], steps: usize) -> Found {
        for (n, name) in path.iter().enumerate() {
            let source = &self.modules[&at].source;
            if source.children.contains(name) {
                at.push(name.clone());
            } else if name == "*" {
                break;
            } else {
                return self.follow(&at, name, &path[n + 1..], steps).unwrap_or(Found::Item(at));
            }
        }
        Found::Module(at)
    }

    /// Follows a name that a module imports; `None` if it imports no such name.
    fn follow(&self, at: &[String], name: &str, rest: &[String], steps: usize) -> Option<Found> {
        let import = self.modules[at].source.uses.iter().find(|one| one.name == name)?;
        let steps = steps.checked_sub(1)?;
        // A path into another crate begins with its name.
        let is_inside = matches!(import.path[0].as_str(), "crate" | "self" | "super")
            || self.modules[at].source.children.contains(&import.path[0]);
        if !is_inside {
            return Some(Found::Elsewhere);
        }
        Some(match self.resolve(at, &import.path, steps) {
            Found::Module(module) => self.walk(module, rest, steps),
            other => other,
        })
    }
}
