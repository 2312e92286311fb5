//! The core's part that brings the platform up and takes it down. Engine calls are slow: they run one at a time, and
//! events are handled meanwhile.

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::container_exit;
use super::core::{CONNECT_TIMEOUT, Core, Gateway, RETRY_PAUSE};
use super::listen;
use super::message::{ContainerChange, Input};
use super::platform::Platform;
use crate::container_state::ContainerState;
use crate::files::atomic::Durability;
use crate::registry::lease::PlatformStatus;

/// A running attempt to bring the platform up.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// Newest event since the attempt began.
    pub(super) news: Option<AttemptEvent>,
}

/// Event that came after an attempt began.
#[derive(Debug)]
pub(super) enum AttemptEvent {
    /// The container ended; the next attempt is due at `again_at`.
    Died { again_at: Instant },
    /// A person stopped the container.
    Stopped,
    /// `relay up` asked for the platform.
    Wanted,
}

impl Attempt {
    /// Records that `relay up` requested the platform during this attempt.
    pub(super) fn up_requested(&mut self) {
        self.news = Some(match self.news {
            None | Some(AttemptEvent::Wanted) => AttemptEvent::Wanted,
            Some(AttemptEvent::Died { .. } | AttemptEvent::Stopped) => {
                AttemptEvent::Died { again_at: Instant::now() }
            }
        });
    }
}

impl Core {
    /// Starts an attempt to bring the platform up, unless one is under way or none is needed.
    pub(super) fn try_platform(&mut self) {
        self.next_try = None;
        if self.attempt.is_some() || self.has_platform() || self.is_going_down() {
            return;
        }
        // The status stays as it is until there is a better one: retrying a failure changes nothing.
        self.attempt = Some(Attempt::default());
        let (platform, inputs) = (self.platform.clone(), self.inputs().clone());
        tokio::spawn(async move {
            let result = bring_up(&platform, &inputs).await;
            let _ = inputs.send(Input::Ensured(result)).await;
        });
    }

    /// Handles the outcome of an attempt.
    pub(super) fn platform_ensured(&mut self, result: Result<(), String>) {
        let news = self.attempt.take().and_then(|attempt| attempt.news);
        if self.is_going_down() {
            return self.stop_platform();
        }
        match (news, &result) {
            (Some(AttemptEvent::Stopped), _) if self.scheduler.is_empty() => return self.container_stopped(),
            (Some(AttemptEvent::Stopped), _) => {
                tracing::info!("a job came while the container was being stopped: it is started again");
                return self.try_platform();
            }
            (Some(AttemptEvent::Died { again_at }), _) => {
                self.next_try = Some(again_at);
                return;
            }
            (Some(AttemptEvent::Wanted), Err(detail)) => {
                tracing::info!("asked for once more meanwhile, so it is tried again: {detail}");
                return self.try_platform();
            }
            _ => {}
        }
        match result {
            Err(detail) => {
                tracing::warn!("no platform: {detail}");
                self.set_platform(PlatformStatus::Failed { detail });
                self.next_try = Some(Instant::now() + RETRY_PAUSE);
            }
            Ok(()) if self.agents.is_empty() => {
                let detail = "waiting for the agent to connect".to_owned();
                self.set_platform(PlatformStatus::Starting { detail });
                self.next_try = Some(Instant::now() + CONNECT_TIMEOUT);
            }
            Ok(()) => {}
        }
        if self.gateway == Gateway::Unknown {
            self.gateway = Gateway::Asked;
            let (platform, inputs) = (self.platform.clone(), self.inputs().clone());
            tokio::spawn(async move {
                let _ = inputs.send(Input::Gateway(platform.gateway().await)).await;
            });
        }
    }

    /// Listens on the address under which containers reach this host; if it is unknown, the next start of the platform
    /// asks again.
    pub(super) fn listen_on_gateway(&mut self, listener: Option<TcpListener>) {
        let Some(listener) = listener else {
            self.gateway = Gateway::Unknown;
            return;
        };
        self.gateway = Gateway::Bound;
        if let Ok(address) = listener.local_addr() {
            self.lease.listen.push(address);
        }
        listen::spawn(listener, self.app.clone());
        self.publish(Durability::Cached);
    }

    /// Publishes the status of a platform without a connected agent.
    pub(super) fn set_platform(&mut self, status: PlatformStatus) {
        if self.lease.platform != status && self.agents.is_empty() {
            self.lease.platform = status;
            self.publish(Durability::Cached);
        }
    }

    /// Stops the platform, and its workers with it.
    pub(super) fn stop_platform(&self) {
        let (platform, inputs) = (self.platform.clone(), self.inputs().clone());
        tokio::spawn(async move {
            let _ = inputs.send(Input::Stopped(platform.stop().await)).await;
        });
    }
}

/// Brings the platform up. Inspects a container that has ended first: starting it erases its exit state.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub(super) async fn bring_up(platform: &Platform, inputs: &mpsc::Sender<Input>) -> Result<(), String> {
    // An engine that does not answer fails again below, with a better message.
    if platform.engine().is_container()
        && let Ok(state) = platform.container_state().await
    {
        let paused = state == ContainerState::Paused;
        // The core lives as long as the process.
        let _ = inputs.send(Input::Container(ContainerChange::Inspected(state))).await;
        if paused {
            return Err(container_exit::describe_pause(platform.engine(), platform.name()));
        }
    }
    platform.ensure().await
}
