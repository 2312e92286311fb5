//! Starts and stops the daemon.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::core::{Core, Input};
use super::deliver::Deliveries;
use super::driver::Driver;
use super::effects::Executor;
use super::latest_map::LatestMap;
use super::platform::Platform;
use super::subscribe::{Broadcast, Subscribers};
use super::tls::Identity;
use super::upgrade::AppState;
use super::{engine_events, freeze_detector, listen, main_loop, writer};
use crate::config::Config;
use crate::engine::local;
use crate::engine_kind::EngineKind;
use crate::exit::Failure;
use crate::files::atomic::Durability;
use crate::inheritance;
use crate::policy::Policy;
use crate::registry::lease::{self, Holder, Lease, PlatformStatus};
use crate::registry::{Registry, leftovers, reserve};
use crate::state_dir::StateDir;
use crate::state_dir::saved_state::SavedState;
use crate::time::{self, Clock};

/// Capacity of the main loop's queue: frames other than events from the few connections there can be, hints and engine
/// results.
const MESSAGE_CAPACITY: usize = 64;
/// Time to wait for the registry lock. A reader that probes the lock holds it for microseconds; a daemon holds it for
/// its lifetime.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);

/// Runs the daemon until `relay down`, SIGTERM or Ctrl-C. Workers survive the latter two.
///
/// # Errors
/// One line, if the registry is taken or not writable, a port is taken, or the system refuses a call.
pub fn serve(config: &Config, root: &Path, registry: &Registry, engine: EngineKind) -> Result<(), Failure> {
    inheritance::settle_daemon(root)
        .map_err(|e| Failure::unreachable(format!("{} can't be entered: {e}", root.display())))?;
    registry.ensure()?;
    let broken = |e: io::Error| registry.not_writable(&e);
    let Some(lock) = take_lock(registry).map_err(broken)? else {
        let holder = lease::read(registry).map_or("another process".to_owned(), |lease| {
            format!("process {} (relay {})", lease.pid, lease.version)
        });
        let dir = registry.dir().display();
        return Err(Failure::usage(format!("{holder} serves {dir} already: stop it with `relay down`")));
    };
    let holder = Holder { pid: std::process::id(), started_at: time::now() };
    lease::take_over(registry, &holder).map_err(broken)?;
    let state = StateDir::for_project(root)?;
    state.ensure()?;
    leftovers::remove(registry, SystemTime::now());
    if local::retire_old(registry.folder()) {
        tracing::warn!(
            "an earlier version kept its agent's token and the model's key in {}/agent: removed; if its agent still \
             runs, end it by hand",
            registry.dir().display()
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::unreachable(format!("no runtime: {e}")))?;
    // The writer outlives the runtime: another daemon may write to the registry only after this writer has ended.
    let held = lock.try_clone().map_err(broken)?;
    let mut writer = None;
    let served = runtime.block_on(run(config, registry, state, engine, (lock, holder), &mut writer));
    // An engine call that hangs must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if writer.is_some_and(|writer| writer.join().is_err()) {
        tracing::error!("the writer of the registry failed");
    }
    drop(held);
    served
}

fn take_lock(registry: &Registry) -> io::Result<Option<File>> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match lease::try_lock(registry)? {
            Some(lock) => return Ok(Some(lock)),
            None if Instant::now() >= deadline => return Ok(None),
            // A file lock has no timed wait.
            None => std::thread::park_timeout(LOCK_TIMEOUT / 20),
        }
    }
}

async fn run(
    config: &Config,
    registry: &Registry,
    state: StateDir,
    engine: EngineKind,
    (lock, holder): (File, Holder),
    writer_thread: &mut Option<JoinHandle<()>>,
) -> Result<(), Failure> {
    let saved = SavedState::load(&state);
    let clock = Clock::new(saved.clock.as_ref());
    let identity = Identity::load(&state).map_err(Failure::unreachable)?;
    let listener = listen::bind(config.port, saved.port).map_err(Failure::unreachable)?;
    let address = listener.local_addr().map_err(|e| Failure::unreachable(e.to_string()))?;
    let changes = LatestMap::new();
    let broadcast = Broadcast::new();
    let subscribers = reserve::with_reserve(registry, || Subscribers::new(registry, broadcast.clone()))
        .map_err(|e| registry.not_writable(&e))?;
    let (writer, thread, active) = writer::start(registry.clone(), clock.clone(), changes.clone(), broadcast)
        .map_err(|e| registry.not_writable(&e))?;
    *writer_thread = Some(thread);
    let (sender, mut messages) = mpsc::channel(MESSAGE_CAPACITY);
    let platform = Platform::new(engine, config, registry, &state, &identity, address.port());
    if active.is_empty() {
        clock.set_by_wall_clock();
    }
    let deliveries = Deliveries::start(registry, config, clock.clone());
    let app = AppState {
        tokens: state.tokens(),
        identity,
        writer,
        core: sender,
        subscribers,
        clock: clock.clone(),
    };
    let lease = first_lease(engine, &holder, address, &clock, &saved);
    let core = Core::new(lease, &saved, platform.name().to_owned(), config.platform.min_free);
    let world = Executor {
        registry: registry.clone(),
        lock,
        state,
        saved,
        app: app.clone(),
        platform: platform.clone(),
        policy: Policy::new(engine, config),
        deliveries: deliveries.map_err(|e| Failure::unreachable(e.to_string()))?,
        outbound: BTreeMap::new(),
        admission: None,
    };
    let mut driver = Driver { core, world };
    publish_first(&mut driver).map_err(|e| registry.not_writable(&e))?;
    tracing::info!("relay {} serves {} on {address}", env!("CARGO_PKG_VERSION"), registry.dir().display());
    driver.handle(Input::Opened(active)).await;
    let inputs = app.core.clone();
    freeze_detector::spawn(inputs.clone());
    listen::spawn(listener, app);
    engine_events::spawn(platform, inputs);
    driver.handle(Input::Listening).await;
    main_loop::run(&mut driver, &mut messages, &changes).await?;
    close(driver, &changes).await;
    Ok(())
}

/// Writes the first lease and the state for the next relay.
fn publish_first(driver: &mut Driver<Executor>) -> io::Result<()> {
    let Driver { core, world } = driver;
    world.save_state(core.saved_state(), Durability::Synced);
    let registry = &world.registry;
    reserve::with_reserve(registry, || lease::write(registry, core.lease(), Durability::Synced))
}

/// Shuts the core down, and ends the deliveries.
async fn close(mut driver: Driver<Executor>, changes: &writer::Changes) {
    driver.handle(Input::Closing).await;
    // The core did not see the last completed jobs: their notices go into the outbox, and the next relay delivers them.
    let deliveries = driver.world.deliveries;
    for record in changes.take_all().now_or_never().unwrap_or_default().into_values() {
        deliveries.ended(record);
    }
    deliveries.close().await;
}

/// Returns the first lease of a daemon that continues what the last one stored.
pub(super) fn first_lease(
    engine: EngineKind,
    holder: &Holder,
    address: SocketAddr,
    clock: &Clock,
    saved: &SavedState,
) -> Lease {
    Lease {
        schema: lease::SCHEMA,
        pid: holder.pid,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engine,
        listen: vec![address],
        started_at: holder.started_at,
        heartbeat_at: clock.now(),
        platform: PlatformStatus::Starting { detail: "just started".to_owned() },
        agent: saved.agent.clone(),
        death: saved.death.clone(),
        clock: clock.boot_scale(),
    }
}
