//! Determinism: a repeated seed repeats every step, log and record, under any load of the machine.

use std::cell::RefCell;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::rc::Rc;

use relay_tests::harness::figures::figure;

use crate::disk::lengths;
use crate::planted::PlantedBug;
use crate::trace::Trace;
use crate::{cases, create_folder, play, seed_count};

/// Digest of all steps of a seed and of the final registry. Clones share one digest.
#[derive(Debug, Clone)]
pub(crate) struct Digest {
    state: Rc<RefCell<DefaultHasher>>,
    /// Path of the seed's folder. It differs in each play, so it is left out of the digest.
    folder: String,
}

impl Digest {
    fn new(folder: &Path) -> Self {
        Self { state: Rc::default(), folder: folder.display().to_string() }
    }

    pub(crate) fn add(&self, text: &str) {
        text.replace(&self.folder, "").hash(&mut *self.state.borrow_mut());
    }

    /// Adds the content of the registry.
    fn add_registry(&self, registry: &Path) {
        for path in lengths(registry).keys().filter(|path| path.parent() == Some(registry)) {
            let Ok(text) = fs::read_to_string(path) else { continue };
            self.add(&path.display().to_string());
            // A line's checksum covers the folder's name.
            text.lines().for_each(|line| self.add(line.split(",\"crc\":").next().unwrap_or_default()));
        }
    }

    fn value(&self) -> u64 {
        self.state.borrow().finish()
    }
}

/// Plays a seed and returns its digest.
fn digest(seed: u64) -> u64 {
    let folder = create_folder();
    let digest = Digest::new(folder.path());
    let played = play(seed, folder.path(), PlantedBug::default(), Trace::Digested(digest.clone()));
    digest.add(&format!("{played:?}"));
    digest.add_registry(&folder.path().join("project/platform/workers"));
    digest.value()
}

/// Returns the digests of the first `seeds` seeds, by seed.
fn digests(seeds: u64) -> Vec<u64> {
    let found = cases::run_cases(seeds, || (), |(), number| Some(digest(number)));
    found.into_iter().map(|(_, digest)| digest).collect()
}

#[test]
fn a_repeated_seed_repeats_every_step_and_leaves_the_same_registry() {
    let seeds = seed_count(100, 1_000);
    let (first, second) = (digests(seeds), digests(seeds));
    let different = first.iter().zip(&second).enumerate().filter(|(_, (first, second))| first != second);
    let different: Vec<usize> = different.map(|(seed, _)| seed).collect();
    assert!(different.is_empty(), "seeds that do something else the second time: {different:?}");
    let mut all_digests = DefaultHasher::new();
    first.hash(&mut all_digests);
    figure(&format!(
        "seeds of the simulation played twice (fault N17): {seeds} seeds, the same both times, digest {:016x}",
        all_digests.finish()
    ));
}
