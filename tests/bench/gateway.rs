//! Latency that the gateway adds to each event of a streamed answer: a client in the worker's place asks a model server
//! through the gateway, through nginx, and directly.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use relay_tests::harness::{Engine, Site};

use crate::model_stream::{self, EventServer};
use crate::peers::Nginx;
use crate::samples::Samples;
use crate::table::{Figure, Report, Row, Target};
use crate::{Fallible, proc, stop};

/// Jobs, and connections of each job, that run at once. A job may have 32 connections.
const LOADS: [(usize, usize); 2] = [(1, 1), (4, 25)];
/// Number of events of each answer.
const EVENTS: usize = 400;
/// Maximum time of the answers.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Measures the group `gateway` and adds its rows.
pub(crate) fn measure(report: &mut Report) -> Fallible<()> {
    let server = EventServer::start(EVENTS)?;
    let site = site(&server)?;
    site.relay(&["up"]);
    let nginx = Nginx::start(site.root(), server.address()).map_err(|error| error.to_string());
    for (jobs, connections) in LOADS {
        let clients = jobs * connections;
        let direct = receive(server.address(), clients)?;
        let beside = nginx.as_ref().map_err(Clone::clone).and_then(|nginx| through_nginx(nginx, clients));
        let (through, memory) = through_gateway(&site, jobs, connections)?;
        let row = |name: &str, part: f64| -> Fallible<Row> {
            let direct = millis(direct.quantile(part)?)?;
            let added = |times: &Samples| -> Fallible<Figure> {
                Ok(Figure::Millis((millis(times.quantile(part)?)? - direct).max(0.0)))
            };
            let label = format!("event: server → worker, {name}: added (directly: {direct:.3} ms)");
            let peer = beside.as_ref().map_err(Clone::clone);
            let peer = peer.and_then(|(times, _)| added(times).map_err(|error| error.to_string()));
            Ok(Row::new(&label, added(&through)?).beside("nginx", peer))
        };
        let memory_of_nginx = beside.as_ref().map(|(_, memory)| Figure::MiB(*memory)).map_err(Clone::clone);
        let rows = [
            row("p50", 0.5)?.target(Target::AtMost(0.2)),
            row("p99", 0.99)?.target(Target::AtMost(2.0)),
            Row::new("memory meanwhile, of relay with all its other work", Figure::MiB(memory))
                .beside("nginx", memory_of_nginx),
        ];
        report.section(&format!("{clients} answers of {EVENTS} events streamed at once"), rows);
    }
    Ok(())
}

fn millis(figure: Figure) -> Fallible<f64> {
    match figure {
        Figure::Millis(millis) => Ok(millis),
        _ => Err("a time is in milliseconds".into()),
    }
}

/// Returns the times of all events of so many answers at once, from the server or a proxy at this address.
fn receive(address: SocketAddr, clients: usize) -> Fallible<Samples> {
    let mut samples = Samples::default();
    model_stream::receive(address, "", clients)?.into_iter().for_each(|time| samples.push(time));
    Ok(samples)
}

/// Returns the times of all events through nginx, and its memory after them, in MiB.
fn through_nginx(nginx: &Nginx, clients: usize) -> Result<(Samples, f64), String> {
    let samples = receive(nginx.address(), clients).map_err(|error| error.to_string())?;
    Ok((samples, nginx.memory().map_err(|error| error.to_string())?))
}

/// Creates a site whose worker is the stand-in, with the gateway to the server.
fn site(server: &EventServer) -> Fallible<Site> {
    let site = Site::new(Engine::Local);
    let codex = std::env::current_exe()?;
    site.configure(&format!(
        "max_jobs = 4\n[codex]\nsandbox = \"off\"\nprogram = \"{}\"\n[model]\ngateway = true\n",
        codex.display()
    ));
    let config = format!(
        "model_provider = \"bench\"\n[model_providers.bench]\nname = \"bench\"\nbase_url = \"http://{}/v1\"\n",
        server.address()
    );
    fs::create_dir_all(site.codex_home())?;
    fs::write(site.codex_home().join("config.toml"), config)?;
    Ok(site)
}

/// Returns the times of all events of so many jobs, and the memory of the relay while they run, in MiB.
fn through_gateway(site: &Site, jobs: usize, connections: usize) -> Fallible<(Samples, f64)> {
    let file = |job: usize| site.root().join(format!("times.{job}"));
    let launch = |job: usize| {
        let prompt = format!("stream {connections} {}", file(job).display());
        site.relay(&["launch", "-q", "--share", "-w", &site.workspace().to_string_lossy(), &prompt])
    };
    let launched: Vec<String> = (0..jobs).map(|job| launch(job).trim().to_owned()).collect();
    let mut memory: f64 = 0.0;
    // Looks are rare, so that they don't slow down what is measured.
    stop::until("the end of the answers", Duration::from_secs(1), TIMEOUT, || {
        memory = memory.max(proc::resident_mib(site.daemon_pid()).unwrap_or_default());
        launched.iter().all(|job| site.record(job).state.is_final()).then_some(())
    })?;
    let mut samples = Samples::default();
    for job in 0..jobs {
        read_times(&file(job))?.into_iter().for_each(|time| samples.push(time));
    }
    Ok((samples, memory))
}

fn read_times(path: &Path) -> Fallible<Vec<Duration>> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    text.lines().map(|nanos| Ok(Duration::from_nanos(nanos.parse()?))).collect()
}
