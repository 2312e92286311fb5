//! Time from the start of the daemon until it answers requests.

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

/// Number of measured restarts; the median counts.
const RESTARTS: usize = 5;
/// Polling interval, much shorter than the measured times.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Maximum wait until the daemon has started or ended.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A running `relay serve`, which ends when this is dropped. Its workers and its agent go on.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// Starts the relay of a site several times, and leaves it up. The relay must be down; at the first start it sees the
/// copied jobs of the registry for the first time.
pub(crate) fn measure(site: &Site) -> Fallible<Vec<Row>> {
    let (first_time, daemon) = start_daemon(site)?;
    drop(daemon);
    let mut samples = Samples::default();
    for _ in 0..RESTARTS {
        let (time, daemon) = start_daemon(site)?;
        samples.push(time);
        drop(daemon);
    }
    site.relay(&["up"]);
    let mut first = Samples::default();
    first.push(first_time);
    Ok(vec![
        Row::new("start → serving", samples.median()?).target(Target::AtMost(1000.0)),
        Row::new("start → serving, archiving all but 200 of them", first.median()?),
    ])
}

/// Starts the daemon when the previous one has ended; returns the time until its first answer.
fn start_daemon(site: &Site) -> Fallible<(Duration, Daemon)> {
    let lock = site.registry().join("relay.lock");
    stop::until("the last relay's end", POLL_INTERVAL, TIMEOUT, || {
        File::open(&lock).ok()?.try_lock_shared().ok()
    })?;
    let begun = Instant::now();
    let mut command = site.command(&["serve"]);
    let daemon = Daemon(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    stop::until("an answer of the relay", POLL_INTERVAL, TIMEOUT, || try_request(site, daemon.0.id()))?;
    Ok((begun.elapsed(), daemon))
}

/// Sends a request without a token, which the daemon refuses; returns `None` if the daemon does not answer yet.
fn try_request(site: &Site, pid: u32) -> Option<()> {
    let lease = fs::read(site.registry().join("relay.json")).ok()?;
    let lease: serde_json::Value = serde_json::from_slice(&lease).ok()?;
    let address: SocketAddr = lease["listen"][0].as_str()?.parse().ok()?;
    if lease["pid"] != pid {
        return None;
    }
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(TIMEOUT)).ok()?;
    socket.write_all(format!("GET /agent HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).ok()?;
    let mut answer = [0; 1];
    socket.read_exact(&mut answer).ok()
}
