//! End of the daemon.
//!
//! ```text
//!  No ──`relay down`──► Down ──platform stopped──► Stopped ──DRAIN_TIMEOUT, or nothing left to record──► over
//!   └──another relay takes over──► HandingOver ──► over
//! ```

use std::time::Duration;

use tokio::time::Instant;

use super::effect::{Effect, EngineEffect};
use super::handle::Core;
use super::turn::Turn;
use crate::engine_kind::EngineKind;
use crate::registry::lease::PlatformStatus;

/// Time for the platform's last events to arrive after `down` has stopped it.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Stage of the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// The daemon goes on.
    #[default]
    No,
    /// Another daemon takes over: this one ends and leaves everything else.
    HandingOver,
    /// The daemon ends with its platform.
    Down,
    /// The daemon ends, and nothing of the platform is left on its engine.
    Stopped,
}

/// Shutdown state of the daemon.
#[derive(Debug, Default)]
pub(super) struct Shutdown {
    pub(super) stage: Stage,
    /// Deadline for last events: during `down`, or at once.
    pub(super) deadline: Option<Instant>,
}

impl Core {
    /// Returns true if the platform is being stopped or has stopped.
    pub(in crate::daemon) fn is_going_down(&self) -> bool {
        matches!(self.shutdown.stage, Stage::Down | Stage::Stopped)
    }

    /// Returns true if the daemon has nothing left to do: `relay down` is done, another daemon takes over, or the
    /// registry is gone.
    pub(in crate::daemon) fn is_over(&self, now: Instant) -> bool {
        let waited = self.shutdown.deadline.is_some_and(|deadline| deadline <= now);
        let told = self.shutdown.deadline.is_some()
            && (self.scheduler.is_idle() || self.agents.connections.is_empty());
        waited || told || self.shutdown.stage == Stage::HandingOver
    }

    /// Begins to end the daemon and its platform.
    pub(super) fn go_down(&mut self, turn: &mut Turn) {
        if self.is_going_down() {
            return;
        }
        tracing::info!("shutting down");
        self.shutdown.stage = Stage::Down;
        self.platform.next_try = None;
        // A platform that is just being started would not be found: it is stopped once it is up.
        if self.platform.attempt.is_none() {
            turn.push(Effect::Engine(EngineEffect::Stop));
        }
    }

    /// Ends the daemon for another one.
    pub(super) fn hand_over(&mut self) {
        if self.shutdown.stage == Stage::No {
            tracing::info!("stopping for another relay; workers go on");
            self.shutdown.stage = Stage::HandingOver;
        }
    }

    /// Handles a registry that was removed or replaced.
    pub(super) fn registry_gone(&mut self, turn: &mut Turn) {
        tracing::error!("the registry was removed or replaced: stopping");
        // Its jobs belong to the registry that is gone, and no other relay would look for this platform.
        if self.platform.engine == EngineKind::Local {
            turn.push(Effect::Engine(EngineEffect::StopNow));
            turn.push(Effect::RevokeTokens);
        }
        self.shutdown.deadline = Some(turn.now);
    }

    /// Handles the end of an attempt to stop the platform.
    pub(super) fn platform_stopped(&mut self, result: Result<(), String>, now: Instant) {
        match result {
            Ok(()) => self.shutdown.stage = Stage::Stopped,
            Err(reason) => tracing::error!("the platform could not be stopped: {reason}"),
        }
        self.shutdown.deadline = Some(now + DRAIN_TIMEOUT);
    }

    /// Flushes the writer and closes the subscribers before the process ends.
    pub(super) fn close(&mut self, turn: &mut Turn) {
        turn.push(Effect::Flush);
        turn.push(Effect::CloseSubscribers);
        if self.is_going_down() {
            turn.effects.extend(self.agents.connections.clear().map(Effect::Close));
            turn.push(Effect::RevokeTokens);
            self.set_platform(PlatformStatus::Stopped, turn);
        }
    }
}
