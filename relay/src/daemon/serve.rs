//! Starts and stops the daemon.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use common::hold::Hold;
use futures_util::FutureExt;
use jiff::Zoned;
use jiff::tz::TimeZone;
use tokio::sync::{mpsc, watch};

use super::app_state::AppState;
use super::core::{Core, CoreSettings, Input};
use super::deliver::DeliveryThread;
use super::driver::Driver;
use super::effects::Executor;
use super::gateway::LoginHold;
use super::job_repositories::JobRepositories;
use super::latest_map::LatestMap;
use super::listen::Listener;
use super::message::Message;
use super::model_access::ModelAccess;
use super::network::SecretRoutes;
use super::network_access::NetworkAccess;
use super::platform::Platform;
use super::receipts::ReceivedEvidence;
use super::results::ResultPublisher;
use super::subscribe::{Broadcast, Subscribers};
use super::tls::TlsIdentity;
use super::{engine_events, freeze_detector, leftover_state, listen, main_loop, writer};
use crate::config::Config;
use crate::engine::local;
use crate::engine_kind::EngineKind;
use crate::exit::Failure;
use crate::files::atomic::Durability;
use crate::inheritance;
use crate::output::store::Outputs;
use crate::policy::JobPolicy;
use crate::receipt::store::Receipts;
use crate::registry::lease::{self, DaemonId, Lease, PlatformStatus};
use crate::registry::{Registry, leftovers, reserve};
use crate::state_dir::StateDir;
use crate::state_dir::saved_state::SavedState;
use crate::time::{self, Clock};

/// Capacity of the queue of messages to the main loop. Events of jobs go to the writer instead.
const MESSAGE_CAPACITY: usize = 64;
/// Maximum time to wait for the registry lock. Readers hold it for microseconds, a daemon holds it for its lifetime.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);
/// Maximum time to wait for a refresh of the user's login at the end. `relay restart` waits twice as long.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the daemon until `relay down`, SIGTERM or Ctrl-C. Workers continue after SIGTERM and Ctrl-C.
///
/// # Errors
/// A one-line message if the registry is in use or not writable, a port is in use, or the system refuses a call.
pub fn serve(config: &Config, root: &Path, registry: &Registry, engine: EngineKind) -> Result<(), Failure> {
    // The memory of this process has the model's key and the agents' tokens. Without this call, processes of the same
    // user, which may include workers, could read them.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    inheritance::prepare_daemon(root)
        .map_err(|e| Failure::unreachable(format!("{} can't be entered: {e}", root.display())))?;
    registry.ensure()?;
    let not_writable = |e: io::Error| registry.not_writable(&e);
    let Some(lock) = lock_registry(registry).map_err(not_writable)? else {
        let holder = lease::read_lease(registry).map_or("another process".to_owned(), |lease| {
            format!("process {} (relay {})", lease.pid, lease.version)
        });
        let dir = registry.dir().display();
        return Err(Failure::usage(format!("{holder} serves {dir} already: stop it with `relay down`")));
    };
    let holder = DaemonId { pid: std::process::id(), started_at: time::now() };
    lease::take_over(registry, &holder).map_err(not_writable)?;
    let state = StateDir::for_project(root)?;
    state.ensure()?;
    leftovers::remove_leftovers(registry, SystemTime::now());
    leftover_state::set_aside(registry, &state, time::now().to_zoned(TimeZone::UTC).date());
    if local::remove_old_agent_config(registry.folder()) {
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
    let lock_copy = lock.try_clone().map_err(not_writable)?;
    let mut writer = None;
    let result = runtime.block_on(run_daemon(config, registry, state, engine, (lock, holder), &mut writer));
    // A hanging engine call must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if writer.is_some_and(|writer| writer.join().is_err()) {
        tracing::error!("the writer of the registry failed");
    }
    drop(lock_copy);
    result
}

fn lock_registry(registry: &Registry) -> io::Result<Option<File>> {
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

async fn run_daemon(
    config: &Config,
    registry: &Registry,
    state: StateDir,
    engine: EngineKind,
    (lock, holder): (File, DaemonId),
    writer_thread: &mut Option<JoinHandle<()>>,
) -> Result<(), Failure> {
    let saved_state = SavedState::load(&state);
    let clock = Clock::new(saved_state.clock.as_ref());
    let identity = TlsIdentity::load(&state).map_err(Failure::unreachable)?;
    let listener = listen::bind_loopback(config.port, saved_state.port).map_err(Failure::unreachable)?;
    let address = listener.local_addr().map_err(|e| Failure::unreachable(e.to_string()))?;
    let (box_listener, obstacle) = listen::open_box_socket(engine, &state.box_socket_dir());
    let changes = LatestMap::new();
    let broadcast = Broadcast::new();
    let subscribers = reserve::with_reserve(registry, || Subscribers::new(registry, broadcast.clone()))
        .map_err(|e| registry.not_writable(&e))?;
    let (writer, thread, active) =
        writer::start_writer(registry.clone(), clock.clone(), changes.clone(), broadcast)
            .map_err(|e| registry.not_writable(&e))?;
    *writer_thread = Some(thread);
    let (sender, mut messages) = mpsc::channel(MESSAGE_CAPACITY);
    let platform = Platform::new(engine, config, registry, &state, &identity, address.port())
        .with_socket_obstacle(obstacle);
    if active.is_empty() {
        clock.set_by_wall_clock();
    }
    let repositories = JobRepositories::new(registry, JobPolicy::new(engine, config), state.repositories());
    let has_gateway = config.has_model_gateway(engine);
    let load_access = || {
        let prices = config.prices.clone();
        let access = ModelAccess::load(&state.model_secret(), registry.clone(), prices, writer.clone())?;
        // Without the gateway, only boxes that an earlier relay started reach the model through this one.
        let has_list = config.has_allow_list(engine) || !has_gateway;
        let access = access.with_allowed_hosts(has_list && !config.network.allow.is_open());
        access.with_day_budget(config.day_budget, &Zoned::now())
    };
    let new_jobs_model = has_gateway.then(load_access).transpose().map_err(Failure::unreachable)?;
    // Boxes that were started under other settings may have no network: their jobs go on with this relay's.
    let load_for_open_boxes = || box_listener.as_ref().and_then(|_| load_access().ok());
    let model = new_jobs_model.clone().or_else(load_for_open_boxes);
    let network = box_listener.is_some().then(|| {
        let (allow, secrets) = (config.network.allow.clone(), SecretRoutes::new(state.host_secrets()));
        NetworkAccess::new(allow, secrets, registry.clone(), writer.clone())
    });
    let deliveries = DeliveryThread::start(registry, config, clock.clone(), repositories.clone());
    let evidence = ReceivedEvidence::default();
    let outputs = Outputs::in_folder(state.outputs());
    let app = AppState {
        tokens: state.tokens(),
        identity,
        writer,
        core: sender,
        repositories: repositories.clone(),
        evidence: evidence.clone(),
        outputs: outputs.clone(),
        model: model.clone(),
        network,
        subscribers,
        clock: clock.clone(),
        connection_counter: Arc::default(),
    };
    let receipts = Receipts::in_folder(state.receipts());
    let lease = first_lease(engine, &holder, address, &clock, &saved_state);
    let lease = Lease { groups: config.groups.clone(), ..lease };
    let core = Core::new(lease, &saved_state, core_settings(config, &platform));
    let executor = Executor {
        registry: registry.clone(),
        lock_file: lock,
        saved_state,
        app: app.clone(),
        platform: platform.clone(),
        policy: JobPolicy::new(engine, config),
        new_jobs_model: new_jobs_model.clone(),
        results: ResultPublisher::new(repositories, (receipts, evidence), outputs, app.writer.clone()),
        deliveries: deliveries.map_err(|e| Failure::unreachable(e.to_string()))?,
        outbound_queues: BTreeMap::new(),
        admission_reply: None,
        state_dir: state,
    };
    let mut driver = Driver { core, environment: executor };
    write_first_state(&mut driver).map_err(|e| registry.not_writable(&e))?;
    tracing::info!("relay {} serves {} on {address}", env!("CARGO_PKG_VERSION"), registry.dir().display());
    driver.environment.results.publish_all_missing();
    driver.handle_input(Input::RegistryOpened(active)).await;
    let inputs = app.core.clone();
    freeze_detector::spawn_checks(inputs.clone());
    if let Some(listener) = box_listener {
        listen::spawn_server(Listener::Unix(listener), app.clone());
    }
    listen::spawn_server(Listener::Tcp(listener), app);
    check_model(new_jobs_model, &mut driver, inputs.clone()).await;
    engine_events::spawn(platform, inputs);
    driver.handle_input(Input::Listening).await;
    main_loop::run(&mut driver, &mut messages, &changes).await?;
    let model = driver.environment.app.model.clone();
    let _logins = tokio::join!(shut_down(driver, &changes), hold_logins(model)).1;
    Ok(())
}

/// Waits for refreshes of the user's login that are under way, which must not be lost. None begins until the returned
/// values are dropped.
async fn hold_logins(model: Option<ModelAccess>) -> Vec<LoginHold> {
    let Some(model) = model else { return Vec::new() };
    let held = tokio::time::timeout(LOGIN_TIMEOUT, model.hold_logins()).await;
    held.unwrap_or_else(|_| {
        tracing::warn!(
            "a refresh of the ChatGPT login is lost: if codex has to log in again, run `codex login`"
        );
        Vec::new()
    })
}

/// Reports the reason why workers can't reach their model, now and whenever it changes.
async fn check_model(
    model: Option<ModelAccess>,
    driver: &mut Driver<Executor>,
    inputs: mpsc::Sender<Message>,
) {
    if let Some(model) = model {
        let problem = model.problem();
        driver.handle_input(Input::ModelChecked(problem.clone())).await;
        if let Some(mut day_hold) = model.day_hold() {
            let hold = day_hold.borrow_and_update().clone();
            driver.handle_input(Input::DayBudget(hold)).await;
            spawn_day_budget(day_hold, inputs.clone());
        }
        model.spawn_checks(problem, inputs);
    }
}

/// Reports whenever the budget of the day is used up, or a new day begins.
fn spawn_day_budget(mut day_hold: watch::Receiver<Option<Hold>>, inputs: mpsc::Sender<Message>) {
    tokio::spawn(async move {
        while day_hold.changed().await.is_ok() {
            let hold = day_hold.borrow_and_update().clone();
            if inputs.send(Input::DayBudget(hold).into()).await.is_err() {
                return;
            }
        }
    });
}

fn core_settings(config: &Config, platform: &Platform) -> CoreSettings {
    CoreSettings {
        container_name: platform.name().to_owned(),
        min_free: config.platform.min_free,
        group_limits: config.groups.clone(),
        has_boxes: config.platform.has_boxes(platform.engine()),
        has_gateway: config.has_model_gateway(platform.engine()),
    }
}

/// Writes the first lease, and the state that the next relay starts with.
fn write_first_state(driver: &mut Driver<Executor>) -> io::Result<()> {
    let Driver { core, environment } = driver;
    environment.save_state(core.saved_state(), Durability::Synced);
    let registry = &environment.registry;
    reserve::with_reserve(registry, || lease::write_lease(registry, core.lease(), Durability::Synced))
}

/// Shuts the core down, and ends the deliveries.
async fn shut_down(mut driver: Driver<Executor>, changes: &writer::Changes) {
    driver.handle_input(Input::MainLoopEnded).await;
    // The core did not handle the jobs that ended last. Their notices go to the outbox, for the next relay.
    let deliveries = driver.environment.deliveries;
    for record in changes.take_all().now_or_never().unwrap_or_default().into_values() {
        deliveries.queue_ended_job(record);
    }
    deliveries.close().await;
}

/// Returns the first lease of a daemon, with the state that the last daemon saved.
pub(super) fn first_lease(
    engine: EngineKind,
    holder: &DaemonId,
    address: SocketAddr,
    clock: &Clock,
    saved_state: &SavedState,
) -> Lease {
    Lease {
        schema: lease::SCHEMA_VERSION,
        pid: holder.pid,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engine,
        listen: vec![address],
        started_at: holder.started_at,
        heartbeat_at: clock.now(),
        platform: PlatformStatus::Starting { detail: "just started".to_owned() },
        agent: saved_state.agent.clone(),
        last_exit: saved_state.last_exit.clone(),
        clock: clock.boot_scale(),
        groups: BTreeMap::new(),
        path: std::env::var("PATH").ok(),
    }
}
