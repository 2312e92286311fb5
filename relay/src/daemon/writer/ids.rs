//! Event ids: they grow over all jobs and are never used twice.
//!
//! A file holds an upper bound that is raised in large blocks, so an id costs nothing; a crash skips the rest of a block.

use std::fs;
use std::io;

use crate::registry::atomic::{self, Durability};
use crate::registry::{Registry, event_log, layout};

/// Ids per write of the bound: at 100,000 events a second, less than one write a second.
const BLOCK: u64 = 1 << 17;

pub(super) struct EventIds {
    registry: Registry,
    next: u64,
    bound: u64,
}

impl EventIds {
    /// Begins above every id in use. A lost bound is made again from the logs that are there.
    pub(super) fn load(registry: &Registry) -> io::Result<Self> {
        let stored = match fs::read_to_string(registry.event_ids()) {
            Ok(text) => text.trim().parse().ok(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let next = match stored {
            Some(bound) => bound,
            None => highest(registry)?.max(highest(&registry.archived())?) + 1,
        };
        Ok(Self { registry: registry.clone(), next, bound: next })
    }

    /// The newest id that was handed out; 0 for none.
    pub(super) fn newest(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// The next id.
    pub(super) fn next(&mut self) -> io::Result<u64> {
        if self.next == self.bound {
            let bound = self.bound + BLOCK;
            atomic::replace(&self.registry.event_ids(), bound.to_string().as_bytes(), Durability::Synced)?;
            // Its name too: a power loss must not bring back the bound before, whose ids are in use by then.
            atomic::sync_dir(self.registry.dir())?;
            self.bound = bound;
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}

impl Drop for EventIds {
    fn drop(&mut self) {
        // After an orderly end no id is skipped; without this write some are, which is fine too.
        let _ =
            atomic::replace(&self.registry.event_ids(), self.next.to_string().as_bytes(), Durability::Cached);
    }
}

/// The highest id in a folder's logs.
fn highest(registry: &Registry) -> io::Result<u64> {
    let entries = match fs::read_dir(registry.dir()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut highest = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().and_then(layout::job_of_events).is_some() {
            let log = event_log::read(&entry.path())?;
            highest = log.lines.iter().map(|line| line.id).max().unwrap_or(0).max(highest);
        }
    }
    Ok(highest)
}
