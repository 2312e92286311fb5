//! Latency that the gateway adds to each event of a streamed answer: a client in the worker's place asks a model server
//! through the gateway, and directly.

use std::fs;
use std::path::Path;
use std::time::Duration;

use relay_tests::harness::{Engine, Site};

use crate::model_stream::{self, EventServer};
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
    for (jobs, connections) in LOADS {
        let clients = jobs * connections;
        let mut direct = Samples::default();
        model_stream::receive(server.address(), "", clients)?.into_iter().for_each(|time| direct.push(time));
        let (through, memory) = through_gateway(&site, jobs, connections)?;
        let row = |name: &str, part: f64| -> Fallible<Row> {
            let [Figure::Millis(through), Figure::Millis(direct)] =
                [through.quantile(part)?, direct.quantile(part)?]
            else {
                return Err("a time is in milliseconds".into());
            };
            let label = format!("event: server → worker, {name}: added by the gateway");
            Ok(Row::new(&label, Figure::Millis((through - direct).max(0.0)))
                .beside("direct", Ok(Figure::Millis(direct))))
        };
        let rows = [
            row("p50", 0.5)?,
            row("p99", 0.99)?.target(Target::AtMost(2.0)),
            Row::new("memory of relay meanwhile", Figure::MiB(memory)),
        ];
        report.section(&format!("{clients} answers of {EVENTS} events streamed at once"), rows);
    }
    Ok(())
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
