//! Internals of the agent, for the simulation and the fuzz targets.

pub use crate::codex::test_support::{codex_events, codex_truncated};
pub use crate::deadline::{Action as LimitAction, Timer, TimerEvent, WorkClock};
pub use crate::relay_time::{ClockSource, SimulatedClocks};
pub use crate::spool::{JobSpool, RunId, Spool, test_support};
pub use crate::uplink::LinkError;
pub use crate::uplink::action::{Action, SpoolAction};
pub use crate::uplink::link::{Input, Link};
pub use crate::uplink::spool_access::{apply_action, build_hello, next_frame};
