//! Internals of the agent, for the simulation and the fuzz targets.

use std::path::{Path, PathBuf};

use crate::codex::event::parse;
use crate::codex::lines::{Line, LineSplitter};

pub use crate::deadline::{Action as LimitAction, Timer, TimerEvent, WorkTime};
pub use crate::relay_time::SimulatedClocks;
pub use crate::spool::{RunId, test_support};
pub use crate::uplink::LinkError;
pub use crate::uplink::action::{Action, SpoolAction};
pub use crate::uplink::link::{Input, Link};
pub use crate::uplink::sim::{AgentSide, RunState};

/// Parses Codex's output, cut into pieces of this size; returns the number of events.
pub fn codex_events(bytes: &[u8], piece: usize) -> usize {
    let mut splitter = LineSplitter::default();
    let mut lines = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        splitter.push(piece, |line| lines.push(line));
    }
    lines.extend(splitter.finish());
    lines.iter().filter_map(parse).count()
}

/// Parses the two ends of an over-long line of Codex; returns true if it is an event.
pub fn codex_truncated(head: &[u8], tail: &[u8]) -> bool {
    parse(&Line::Truncated { head: head.to_vec(), tail: tail.to_vec(), dropped: 1 }).is_some()
}

/// Returns the spool's folder in an agent's state directory.
pub fn spool_folder(state: &Path) -> PathBuf {
    state.join(format!("spool.v{}", common::wire::PROTOCOL))
}
