//! A relay and its agent in separate network namespaces, connected only by a wire that can be cut.
//!
//! ```text
//!  namespace of the relay                              namespace of the agent
//!   relay on 127.0.0.1 ◄─nft─ wire 10.99.0.1 ◄── wire.py ──► 10.99.0.2 wire ◄─nft: may drop─ worker-agent
//! ```
//!
//! The relay runs with engine `local`. A script takes the place of its agent and starts the real one in the other
//! namespace, where loopback leads to the relay. Requires root, iproute2, nftables and python3.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Engine, Site, programs};

/// Address of the relay's end of the wire.
const RELAY: &str = "10.99.0.1";
/// Address of the agent's end of the wire.
const AGENT: &str = "10.99.0.2";

/// Direction in which packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Neither direction.
    None,
    /// Packets from the relay to the agent.
    ToAgent,
    /// Packets from the agent to the relay.
    ToRelay,
    /// Both directions.
    Both,
}

/// Two network namespaces and the wire between them. Dropping this value removes them.
#[derive(Debug)]
pub struct Net {
    /// Names of the relay's and the agent's namespace.
    relay: String,
    agent: String,
    /// The running `wire.py`, and its stdin, which takes settings.
    wire: Child,
    control: ChildStdin,
}

impl Net {
    /// Creates both namespaces, connected by a wire that delivers everything immediately.
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("rt{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (relay, agent) = (format!("{id}-relay"), format!("{id}-agent"));
        for name in [&relay, &agent] {
            run(Command::new("ip").args(["netns", "add", name]));
        }
        let mut wire = Command::new("python3")
            .args(["-c", include_str!("wire.py"), &relay, RELAY, &agent, AGENT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("python3: {e}"));
        let mut ready = String::new();
        let said = wire.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut ready));
        assert!(ready == "ready\n", "the wire is not ready: {said:?} {ready:?}");
        let control = wire.stdin.take().unwrap_or_else(|| panic!("the wire has no stdin"));
        let net = Self { relay, agent, wire, control };
        // The relay listens only on loopback.
        run(net.in_relay("sysctl").args(["-q", "-w", "net.ipv4.conf.all.route_localnet=1"]));
        load_rules(
            &net.relay,
            &format!(
                "table ip door {{ chain in {{ type nat hook prerouting priority -100; ip daddr {RELAY} dnat to 127.0.0.1\n}}\n}}"
            ),
        );
        // The agent connects to the loopback of its namespace, from where packets are sent to the relay.
        run(inside(&net.agent, "ip").args(["link", "set", "lo", "up"]));
        run(inside(&net.agent, "sysctl").args(["-q", "-w", "net.ipv4.conf.all.route_localnet=1"]));
        load_rules(
            &net.agent,
            &format!(
                "table ip door {{ chain out {{ type nat hook output priority -100; ip daddr 127.0.0.1 dnat to {RELAY}\n}}\n\
                 chain from {{ type nat hook postrouting priority 100; oifname wire snat to {AGENT}\n}}\n}}"
            ),
        );
        net
    }

    /// Drops all packets of these directions from now on, so that neither end notices.
    pub fn cut(&self, cut: Cut) {
        let rule = |cuts: &[Cut]| if cuts.contains(&cut) { "drop" } else { "accept" };
        let (come, go) = (rule(&[Cut::ToAgent, Cut::Both]), rule(&[Cut::ToRelay, Cut::Both]));
        load_rules(
            &self.agent,
            &format!(
                "table ip cut {{}}\ndelete table ip cut\ntable ip cut {{\n\
                 chain come {{ type filter hook input priority 0; iifname wire {come}\n}}\n\
                 chain go {{ type filter hook output priority 0; ip daddr {RELAY} {go}\n}}\n}}"
            ),
        );
    }

    /// Sets the packet loss (in percent), the delay and its jitter (in ms) from now on. The jitter reorders packets.
    pub fn disturb(&mut self, loss: u32, delay: u32, jitter: u32) {
        let written = writeln!(self.control, "{loss} {delay} {jitter}").and_then(|()| self.control.flush());
        written.unwrap_or_else(|e| panic!("the wire: {e}"));
    }

    fn in_relay(&self, program: &str) -> Command {
        inside(&self.relay, program)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.wire.kill();
        let _ = self.wire.wait();
        for name in [&self.relay, &self.agent] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// A site whose relay and agent are in separate namespaces, connected by a [`Net`].
#[derive(Debug)]
pub struct SeparatedSite {
    /// The site; the first field, so that it is stopped while everything else still exists.
    pub site: Site,
    daemon: Child,
    /// The network between relay and agent.
    pub net: Net,
}

impl SeparatedSite {
    /// Starts relay and agent, connected.
    pub fn new() -> Self {
        let (net, site) = (Net::new(), Site::new(Engine::Local));
        let bin = site.root().join("bin");
        let real = programs::dir().join("worker-agent");
        let real = real.display();
        site.write(
            "bin/worker-agent",
            &format!(
                "#!/bin/sh\ncase $1 in\nrun) exec ip netns exec {} '{real}' \"$@\" ;;\n*) exec '{real}' \"$@\" ;;\nesac\n",
                net.agent
            ),
        );
        let set = fs::set_permissions(bin.join("worker-agent"), fs::Permissions::from_mode(0o755));
        set.unwrap_or_else(|e| panic!("{}: {e}", bin.display()));
        // The relay is copied, because it runs the agent that is beside its own program: here the script.
        let copied = fs::copy(programs::dir().join("relay"), bin.join("relay"));
        copied.unwrap_or_else(|e| panic!("{}: {e}", bin.display()));
        let daemon = serve(&site, &net);
        site.relay(&["up"]);
        Self { site, daemon, net }
    }
}

/// Starts the daemon in the relay's namespace, as `relay up` would start it.
fn serve(site: &Site, net: &Net) -> Child {
    fs::create_dir_all(site.registry()).unwrap_or_else(|e| panic!("{e}"));
    let log = fs::File::create(site.registry().join("relay.log")).unwrap_or_else(|e| panic!("{e}"));
    let command = site.command(&[]);
    let mut daemon = net.in_relay(&site.root().join("bin/relay").to_string_lossy());
    daemon.args(["serve", "--yes", "--engine", "local"]).current_dir(site.root());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => daemon.env(name, value),
            None => daemon.env_remove(name),
        };
    }
    let daemon = daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
    let daemon = daemon.unwrap_or_else(|e| panic!("the relay: {e}"));
    super::until("the relay holds the registry", || {
        fs::read_to_string(site.registry().join("relay.json")).is_ok().then_some(())
    });
    daemon
}

impl Default for SeparatedSite {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SeparatedSite {
    fn drop(&mut self) {
        // After a failed test the network may still be cut, and `relay down` needs the agent.
        if std::thread::panicking() {
            self.net.cut(Cut::None);
        }
        let _ = self.site.run(&["down", "--force"]);
        let _ = self.daemon.wait();
    }
}

fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]);
    command
}

fn load_rules(namespace: &str, rules: &str) {
    run(inside(namespace, "nft").arg(rules));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
