//! Ids of events. They increase across all jobs, and no id is used twice.
//!
//! A file contains an upper bound that is raised in large blocks, so most ids need no write. After a crash, the rest of
//! a block is skipped.

use std::io;

use crate::files::atomic::Durability;
use crate::files::refused::RefusedEntry;
use crate::registry::{Registry, event_log, layout};

/// Number of ids between two writes of the upper bound: at 100,000 events a second, less than one write a second.
const ID_BLOCK: u64 = 1 << 17;

/// Maximum length of the file with the upper bound, in bytes.
const MAX_FILE_SIZE: u64 = 4096;

/// Source of event ids.
pub(super) struct EventIds {
    registry: Registry,
    next_id: u64,
    /// Upper bound in the file: no id from it on was used.
    stored_bound: u64,
}

impl EventIds {
    /// Continues above every id in use. A lost upper bound is restored from the existing logs.
    pub(super) fn load(registry: &Registry) -> io::Result<Self> {
        let stored = match registry.event_ids().read_text(MAX_FILE_SIZE) {
            Ok(text) => text.trim().parse().ok(),
            Err(e) if e.kind() == io::ErrorKind::NotFound || RefusedEntry::from_error(&e).is_some() => None,
            Err(e) => return Err(e),
        };
        let next = match stored {
            Some(bound) => bound,
            None => highest_logged_id(registry)?.max(highest_logged_id(&registry.archive_registry())?) + 1,
        };
        Ok(Self { registry: registry.clone(), next_id: next, stored_bound: next })
    }

    /// Returns the newest id in use; 0 if there is none.
    pub(super) fn newest_id(&self) -> u64 {
        self.next_id.saturating_sub(1)
    }

    pub(super) fn next_id(&mut self) -> io::Result<u64> {
        if self.next_id == self.stored_bound {
            let bound = self.stored_bound + ID_BLOCK;
            self.registry
                .event_ids()
                .replace_or_overwrite(bound.to_string().as_bytes(), Durability::Synced)?;
            // The folder is synced too: a power loss must not bring back the older file, whose bound is exceeded.
            self.registry.folder().sync()?;
            self.stored_bound = bound;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }
}

impl Drop for EventIds {
    fn drop(&mut self) {
        // This write lets the next daemon continue without skipping ids. Skipped ids would be harmless.
        let next = self.next_id.to_string();
        let _ = self.registry.event_ids().replace(next.as_bytes(), Durability::Cached);
    }
}

/// Returns the highest id in the logs of a registry or an archive.
fn highest_logged_id(registry: &Registry) -> io::Result<u64> {
    let names = match registry.folder().names() {
        Err(e) if RefusedEntry::from_error(&e).is_some() => Vec::new(),
        names => names?,
    };
    let mut highest = 0;
    for job in names.iter().filter_map(|name| layout::job_of_events(name)) {
        let scan = event_log::scan_log(&registry.events(&job), |_, line| highest = highest.max(line.id));
        match scan {
            Err(e) if RefusedEntry::from_error(&e).is_some() => {}
            scan => drop(scan?),
        }
    }
    Ok(highest)
}
