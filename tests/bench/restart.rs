//! Time from a daemon's start until it serves requests.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use relay_tests::harness::Site;
use rustix::process::{Pid, Signal, kill_process};

use crate::samples::Samples;
use crate::table::{Row, Target};
use crate::{Fallible, stop};

/// Number of restarts.
const RESTARTS: usize = 5;
/// Polling interval, far finer than the measured times.
const STEP: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// A `relay serve` that ends with its handle. Workers and agent outlive it.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// Starts the relay of a site that is down and has never seen its jobs, then restarts it several times. The relay is up
/// when this returns.
pub(crate) fn measure(site: &Site) -> Fallible<Vec<Row>> {
    let (first, daemon) = serve(site)?;
    drop(daemon);
    let mut samples = Samples::default();
    for _ in 0..RESTARTS {
        let (time, daemon) = serve(site)?;
        samples.push(time);
        drop(daemon);
    }
    site.relay(&["up"]);
    let mut once = Samples::default();
    once.push(first);
    Ok(vec![
        Row::new("start → serving", samples.median()?).target(Target::AtMost(1000.0)),
        Row::new("start → serving, archiving all but 200 of them", once.median()?),
    ])
}

fn serve(site: &Site) -> Fallible<(Duration, Daemon)> {
    let lock = site.registry().join("relay.lock");
    stop::until("the last relay's end", STEP, PATIENCE, || File::open(&lock).ok()?.try_lock_shared().ok())?;
    let begun = Instant::now();
    let mut command = site.command(&["serve"]);
    let daemon = Daemon(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    stop::until("an answer of the relay", STEP, PATIENCE, || answers(site, daemon.0.id()))?;
    Ok((begun.elapsed(), daemon))
}

/// Returns a value once the daemon answers a request. A request without a token gets a refusal, which takes the same
/// path as any other answer.
fn answers(site: &Site, pid: u32) -> Option<()> {
    let lease = fs::read(site.registry().join("relay.json")).ok()?;
    let lease: serde_json::Value = serde_json::from_slice(&lease).ok()?;
    let address: SocketAddr = lease["listen"][0].as_str()?.parse().ok()?;
    if lease["pid"] != pid {
        return None;
    }
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    socket.write_all(format!("GET /agent HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).ok()?;
    let mut answer = [0; 1];
    socket.read_exact(&mut answer).ok()
}
