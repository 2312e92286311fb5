//! Shutdown of the daemon.
//!
//! ```text
//!  NotStarted ──`relay down`──► StoppingPlatform ──stopped──► PlatformStopped ──drained, or DRAIN_TIMEOUT──► over
//!      └──another relay takes over──► HandingOver ──► over
//! ```

use std::time::Duration;

use tokio::time::Instant;

use super::effect::{Effect, EngineEffect};
use super::handle::Core;
use super::input_context::InputContext;
use crate::engine_kind::EngineKind;
use crate::registry::lease::PlatformStatus;

/// Time for the platform's last events to arrive after `relay down` has stopped the platform.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Stage of the daemon's shutdown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ShutdownStage {
    /// The daemon runs.
    #[default]
    NotStarted,
    /// Another daemon takes over: this daemon ends, and the platform keeps running.
    HandingOver,
    /// The daemon is about to end, and the platform is being stopped.
    StoppingPlatform,
    /// The daemon is about to end, and the platform has stopped.
    PlatformStopped,
}

/// Shutdown state of the daemon.
#[derive(Debug, Default)]
pub(super) struct Shutdown {
    pub(super) stage: ShutdownStage,
    /// Time at which the daemon ends, even if events are still expected.
    pub(super) deadline: Option<Instant>,
}

impl Core {
    /// Returns true if the platform is being stopped or has stopped.
    pub(in crate::daemon) fn is_stopping_platform(&self) -> bool {
        matches!(self.shutdown.stage, ShutdownStage::StoppingPlatform | ShutdownStage::PlatformStopped)
    }

    /// Returns true if the daemon has nothing left to do: `relay down` is done, another daemon takes over, or the
    /// registry is gone.
    pub(in crate::daemon) fn is_over(&self, now: Instant) -> bool {
        let is_past_deadline = self.shutdown.deadline.is_some_and(|deadline| deadline <= now);
        let is_drained = self.shutdown.deadline.is_some()
            && (self.scheduler.is_idle() || self.agents.connections.is_empty());
        is_past_deadline || is_drained || self.shutdown.stage == ShutdownStage::HandingOver
    }

    /// Starts the shutdown of the daemon and its platform.
    pub(super) fn begin_shutdown(&mut self, context: &mut InputContext) {
        if self.is_stopping_platform() {
            return;
        }
        tracing::info!("shutting down");
        self.shutdown.stage = ShutdownStage::StoppingPlatform;
        self.platform.next_attempt_at = None;
        self.scheduler.give_up_awaited_boxes();
        self.boxes.give_up();
        self.stop_platform_if_settled(context);
    }

    /// Stops the platform with all boxes. A container that is being started would not be found, so the platform is
    /// stopped after the start.
    pub(super) fn stop_platform_if_settled(&self, context: &mut InputContext) {
        if self.platform.running_attempt.is_none() && !self.boxes.is_starting() {
            context.push(Effect::Engine(EngineEffect::StopPlatform));
        }
    }

    /// Starts the shutdown of this daemon, so that another one takes over.
    pub(super) fn begin_hand_over(&mut self) {
        if self.shutdown.stage == ShutdownStage::NotStarted {
            tracing::info!("stopping for another relay; workers go on");
            self.shutdown.stage = ShutdownStage::HandingOver;
        }
    }

    /// Handles a registry that was removed or replaced.
    pub(super) fn on_registry_gone(&mut self, context: &mut InputContext) {
        tracing::error!("the registry was removed or replaced: stopping");
        // The platform's jobs belong to the missing registry, and no other relay would search for this platform.
        if self.platform.engine == EngineKind::Local || !self.boxes.boxes.is_empty() {
            context.push(Effect::Engine(EngineEffect::StopPlatformAndWait));
            context.push(Effect::RevokeTokens);
        }
        self.shutdown.deadline = Some(context.now);
    }

    /// Handles the end of an attempt to stop the platform.
    pub(super) fn on_platform_stopped(&mut self, result: Result<(), String>, now: Instant) {
        match result {
            Ok(()) => self.shutdown.stage = ShutdownStage::PlatformStopped,
            Err(reason) => tracing::error!("the platform could not be stopped: {reason}"),
        }
        self.shutdown.deadline = Some(now + DRAIN_TIMEOUT);
    }

    /// Handles the end of the main loop: flushes the writer and closes the subscribers. In a shutdown with the platform,
    /// also closes the agents' connections, revokes all tokens and publishes that the platform has stopped.
    pub(super) fn on_main_loop_ended(&mut self, context: &mut InputContext) {
        context.push(Effect::FlushWriter);
        context.push(Effect::CloseSubscribers);
        if self.is_stopping_platform() {
            context.effects.extend(self.agents.connections.clear().map(Effect::Close));
            context.push(Effect::RevokeTokens);
            self.publish_platform_status(PlatformStatus::Stopped, context);
        }
    }
}
