//! Event loop of `relay top`: it waits for a key, a signal or a change of the registry, and handles it.

use std::io;
use std::time::Duration;

use common::ids::JobId;
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::keys;
use super::loader::JobListLoader;
use super::model::{Effect, Model};
use super::screen::{self, Screen};
use crate::files::dir::RegistryDir;
use crate::files::watch::FolderWatch;
use crate::registry::event_log::LogFollower;
use crate::registry::requests::{self, DaemonRequest};
use crate::registry::{Registry, lease};
use crate::render::Paint;

/// Minimum pause between two reads of the registry, so that a flood of events does not use a whole core.
const MIN_FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// Settings of `relay top`, from the command line.
#[derive(Debug)]
pub struct Options {
    /// Registry to show.
    pub registry: Registry,
    /// Style of the output: with or without color.
    pub paint: Paint,
    /// Time in which a cancelled job may end by itself, in milliseconds.
    pub grace_ms: u64,
}

enum Input {
    /// Terminal event; `None` once the terminal is gone.
    Terminal(Option<io::Result<Event>>),
    /// Wake-up: the registry may have changed, or a second has passed.
    Refresh,
    /// Signal that ends `relay top`: TERM, INT or HUP.
    End,
    /// Signal to suspend (TSTP).
    Stop,
    /// Signal to continue after a stop (CONT).
    Continue,
}

/// Shows the screen until the user quits or a signal ends it.
pub fn run(options: &Options) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Top::new(options)?.run().await })
}

struct Top<'a> {
    options: &'a Options,
    loader: JobListLoader,
    model: Model,
    screen: Screen,
    inputs: Inputs,
}

struct Inputs {
    terminal: EventStream,
    wakeups: mpsc::Receiver<()>,
    next_reload_at: Instant,
    end_signals: [Signal; 3],
    stop_signal: Signal,
    continue_signal: Signal,
}

impl Inputs {
    /// Returns the next input. Every branch is cancel-safe: streams, signals and a channel keep their items, and the
    /// pause ends at a fixed time.
    async fn next(&mut self) -> Input {
        let [term, int, hang_up] = &mut self.end_signals;
        let (wakeups, next_reload_at) = (&mut self.wakeups, self.next_reload_at);
        tokio::select! {
            event = self.terminal.next() => Input::Terminal(event),
            _ = term.recv() => Input::End,
            _ = int.recv() => Input::End,
            _ = hang_up.recv() => Input::End,
            _ = self.stop_signal.recv() => Input::Stop,
            _ = self.continue_signal.recv() => Input::Continue,
            () = async {
                sleep_until(next_reload_at).await;
                wakeups.recv().await;
            } => Input::Refresh,
        }
    }
}

impl<'a> Top<'a> {
    fn new(options: &'a Options) -> io::Result<Self> {
        let signal_kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let [term, int, hang_up] = signal_kinds.map(signal);
        let inputs = Inputs {
            terminal: EventStream::new(),
            wakeups: watch_folder(options.registry.folder().clone()),
            next_reload_at: Instant::now(),
            end_signals: [term?, int?, hang_up?],
            stop_signal: signal(SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()))?,
            continue_signal: signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?,
        };
        let mut loader = JobListLoader::new(options.registry.clone(), options.paint);
        let mut model = Model::new(loader.load(None));
        let update = loader.load(Some(&model));
        model.update(update);
        Ok(Self { options, loader, model, screen: Screen::enter()?, inputs })
    }

    async fn run(mut self) -> io::Result<()> {
        loop {
            self.screen.show(&self.model)?;
            let effect = match self.inputs.next().await {
                Input::Terminal(Some(Ok(Event::Key(key)))) => {
                    keys::action(key, &self.model.mode).and_then(|action| self.model.apply(action))
                }
                // A new size takes effect with the next frame.
                Input::Terminal(Some(Ok(_))) => None,
                Input::Terminal(Some(Err(_)) | None) | Input::End => Some(Effect::Quit),
                Input::Refresh => {
                    self.inputs.next_reload_at = Instant::now() + MIN_FRAME_INTERVAL;
                    Some(Effect::Reload)
                }
                Input::Stop => Some(Effect::Suspend),
                Input::Continue => {
                    self.screen.resume()?;
                    Some(Effect::Reload)
                }
            };
            match effect {
                None => {}
                Some(Effect::Quit) => return Ok(()),
                Some(effect) => self.execute_effect(effect)?,
            }
        }
    }

    fn execute_effect(&mut self, effect: Effect) -> io::Result<()> {
        let registry = &self.options.registry;
        match effect {
            Effect::Cancel(job) => {
                self.model.note = Some(cancel(registry, &job, self.options.grace_ms));
            }
            Effect::Extend { job, is_for_step } => {
                self.model.note = Some(extend(registry, &job, is_for_step));
            }
            Effect::Reload | Effect::Quit => {}
            Effect::Redraw => self.screen.discard_known_content()?,
            Effect::Suspend => {
                screen::suspend_process();
                self.screen.resume()?;
            }
        }
        let update = self.loader.load(Some(&self.model));
        self.model.update(update);
        Ok(())
    }
}

/// Sends a wake-up when an entry in a folder may have changed, and every second.
fn watch_folder(dir: RegistryDir) -> mpsc::Receiver<()> {
    // With a capacity of one, there is at most one pending wake-up, and the watch waits for the reader.
    let (sender, wakeups) = mpsc::channel(1);
    std::thread::spawn(move || {
        let watch = FolderWatch::registry_folder(&dir);
        while sender.blocking_send(()).is_ok() {
            watch.wait(None);
        }
    });
    wakeups
}

/// Time that one key press adds to a limit, in milliseconds.
const EXTENSION_MS: u64 = 10 * 60 * 1000;

/// Requests the cancellation of a job; returns the note to show.
fn cancel(registry: &Registry, job: &JobId, grace_ms: u64) -> String {
    let request = DaemonRequest::Cancel { job: job.clone(), grace_ms };
    file_request_and_confirm(registry, &request, &format!("requested to cancel {job}"))
}

/// Requests an extension for a job, or for its current step; returns the note to show.
fn extend(registry: &Registry, job: &JobId, is_for_step: bool) -> String {
    let unread_lines = LogFollower::new().next_lines(&registry.events(job));
    let newest_id = match unread_lines {
        Ok(lines) => lines.last().map_or(0, |(_, line)| line.id),
        Err(e) => return format!("the event log of {job} can't be read: {e}"),
    };
    let request = DaemonRequest::Extend {
        job: job.clone(),
        step: is_for_step,
        by_ms: EXTENSION_MS,
        after: newest_id,
        to_ms: None,
    };
    let step_prefix = if is_for_step { "the step of " } else { "" };
    file_request_and_confirm(registry, &request, &format!("requested 10m more for {step_prefix}{job}"))
}

fn file_request_and_confirm(registry: &Registry, request: &DaemonRequest, confirmation: &str) -> String {
    match requests::file_request(registry, request) {
        Err(e) => format!("the registry can't be written: {e}"),
        Ok(_) if lease::is_held(registry) => confirmation.to_owned(),
        Ok(_) => format!("{confirmation}; no relay is running: stored until `relay up`"),
    }
}
