//! Internals of the relay, for the simulation and the fuzz targets.

use std::io;
use std::path::Path;

pub use crate::daemon::sim::{LIMITED_GROUPS, Outgoing, PlantedBug, SimRelay};
pub use crate::registry::event_log::LogContent;
pub use crate::registry::lease::DaemonId;
pub use crate::registry::requests::DaemonRequest;
pub use crate::time::{Clock, SimulatedTime};

/// Reads an event log like a starting daemon.
///
/// # Errors
/// Returns an error if the file can't be read.
pub fn read_log(path: &Path) -> io::Result<LogContent> {
    crate::registry::event_log::read_log(&crate::files::file_ref::FileRef::at_path(path))
}

/// Reads the configuration of the project at `root`.
///
/// # Errors
/// Returns the error line for users.
pub fn load_config(root: &Path) -> Result<(), String> {
    crate::config::Config::load(root).map(|_| ()).map_err(|failure| failure.to_string())
}

/// Files a request to the daemon of the project at `root`, as the command line does at the time `at`.
///
/// # Errors
/// Returns an error if the registry can't be written, or has a request of the same time.
pub fn file_request(root: &Path, request: &DaemonRequest, at: jiff::Timestamp) -> io::Result<()> {
    crate::registry::requests::file_request_at(&crate::registry::Registry::for_project(root), request, at)
        .map(drop)
}

/// Parses a request to the daemon; `None` if it is not valid.
pub fn read_request(bytes: &[u8]) -> Option<DaemonRequest> {
    serde_json::from_slice(bytes).ok()
}
