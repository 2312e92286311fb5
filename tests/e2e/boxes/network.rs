//! Jobs without a network: what they reach through the relay's proxy, and that they reach nothing else.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::thread;

use common::event::EventBody;
use common::record::State;
use common::refused_hosts::RefusedHost;
use relay_tests::harness::docker::{docker, gateway};
use relay_tests::harness::podman::{BASE_IMAGE, build_base_image};
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, Site, until};
use relay_tests::scripted_model::script::Script;
use relay_tests::scripted_model::write_codex_home;

use super::SETTING;
use crate::codex::launch;
use crate::model_gateway;

/// Starts an HTTP server on the address at which containers usually reach this machine. Returns its address.
fn server() -> String {
    let listener = TcpListener::bind((gateway(), 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n");
        }
    });
    address
}

/// Listeners on one port of this machine, which nothing should reach.
struct Unreached {
    tcp: TcpListener,
    udp: UdpSocket,
    address: String,
}

impl Unreached {
    fn listen() -> Self {
        let tcp = TcpListener::bind((gateway(), 0)).unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).unwrap();
        tcp.set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();
        Self { tcp, udp, address: address.to_string() }
    }

    fn assert_unreached(&self) {
        assert!(self.tcp.accept().is_err(), "a connection has arrived");
        assert!(self.udp.recv(&mut [0; 512]).is_err(), "a datagram has arrived");
    }
}

/// Settings of a site whose jobs reach these hosts only.
fn settings(allow: &str) -> String {
    format!("{SETTING}[model]\ngateway = true\n[network]\nallow = [\"{allow}\"]\n")
}

/// Runs a job that tries every way to an allowed and to another host, and checks where it got.
fn check_ways_out(site: &Site, allowed: &str) {
    let other = Unreached::listen();
    let (host, port) = other.address.split_once(':').unwrap();
    let ways = format!(
        "echo proxy $https_proxy $NO_PROXY
         curl -sS http://{allowed}/
         curl -sS --proxytunnel http://{allowed}/
         curl -sS http://{other}/
         curl -sS --proxytunnel http://{other}/ -o /dev/null -w 'tunnel %{{http_connect}}\\n'
         curl -sS --noproxy '*' -m 5 http://{other}/
         bash -c 'echo direct >/dev/tcp/{host}/{port}'
         bash -c 'echo query >/dev/udp/{host}/{port}'
         echo end",
        other = other.address
    );
    let job = site.launch_shell(&ways, &[]);
    let record = site.ended(&job);
    let log = site.log(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{log}");
    assert!(log.contains("proxy http://127.0.0.1:") && log.contains(" 127.0.0.1,localhost\n"), "{log}");
    assert_eq!(log.matches("hello\n").count(), 2, "{log}");
    let refusal = format!("relay: {} is not in [network] allow of platform/relay.toml", other.address);
    assert!(log.contains(&refusal) && log.contains("tunnel 403\n") && log.ends_with("end\n"), "{log}");
    other.assert_unreached();
    let refused = RefusedHost { host: other.address.clone(), count: 1 };
    assert_eq!(record.network_refused, std::slice::from_ref(&refused));
    let summary = record.summary.as_deref().unwrap_or_default();
    assert!(summary.contains(&format!("network {refused}")), "{summary}");
    let is_refusal = |body: &EventBody| matches!(body, EventBody::NetworkRefused(event) if *event == refused);
    let events = site.events(&job);
    let bodies = events.iter().filter_map(|line| line.event.as_ref()).map(|event| &event.body);
    assert_eq!(bodies.filter(|body| is_refusal(body)).count(), 1);
    let hint = format!("refused {}", other.address);
    for command in ["status", "explain"] {
        let shown = site.relay(&[command, &job]);
        assert!(shown.contains(&hint) && shown.contains("[network] allow"), "{command}: {shown}");
    }
    site.wait_for_no_box();
}

#[test]
#[ignore = "needs Docker"]
fn a_job_reaches_the_hosts_of_the_list_and_no_other_byte_leaves_its_container() {
    let allowed = server();
    let site = Site::new(Engine::Docker);
    site.configure(&settings(&allowed));
    write_codex_home(site.codex_home(), "http://127.0.0.1:9/v1").unwrap();
    site.relay(&["up"]);
    let doctor = String::from_utf8_lossy(&site.run(&["doctor"]).stdout).into_owned();
    assert!(doctor.contains("jobs reach the model and the hosts in [network] allow"), "{doctor}");
    check_ways_out(&site, &allowed);
}

#[test]
#[ignore = "needs Docker"]
fn a_box_without_a_network_keeps_its_way_out_after_a_restart_with_other_settings() {
    let other = Unreached::listen();
    let site = Site::new(Engine::Docker);
    site.configure(&format!("{SETTING}[model]\ngateway = true\n"));
    write_codex_home(site.codex_home(), "http://127.0.0.1:9/v1").unwrap();
    site.relay(&["up"]);
    let commands = format!("until test -e go; do sleep 0.02; done; curl -sS http://{}/", other.address);
    let job = site.launch_running(&commands, &[]);
    site.configure("isolation = \"shared\"\n[model]\ngateway = false\n");
    site.relay(&["restart", "--yes"]);
    site.write("workspace-projects/demo/go", "");
    let record = site.ended(&job);
    let log = site.log(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{log}\n{}", site.daemon_log());
    assert!(log.contains(&format!("relay: {} is not in [network] allow", other.address)), "{log}");
    other.assert_unreached();
    site.wait_for_no_box();
}

#[test]
#[ignore = "needs Docker and podman"]
fn a_job_in_podman_reaches_the_hosts_of_the_list_and_nothing_else() {
    let allowed = server();
    let site = Site::in_podman("localhost/relay-test-podman-network:1");
    build_base_image();
    site.configure(&format!("base = \"{BASE_IMAGE}\"\n{}", settings(&allowed)));
    write_codex_home(site.codex_home(), "http://127.0.0.1:9/v1").unwrap();
    site.relay(&["up", "--build"]);
    check_ways_out(&site, &allowed);
}

#[test]
#[ignore = "needs Docker and the real Codex"]
fn codex_without_a_network_reaches_its_model_and_its_commands_the_allowed_hosts() {
    let allowed = server();
    let fetch = format!("curl -sS http://{allowed}/; ls /sys/class/net");
    let (_model, site) =
        model_gateway::site(Engine::Docker, [Script::new("fetches").run(&fetch).say("Fetched.")]);
    site.configure(&settings(&allowed));
    model_gateway::up(&site);
    let job = launch(&site, "[script:fetches] Fetch.");
    let record = site.ended(&job);
    let log = site.log(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{log}\n{}", site.daemon_log());
    assert_eq!(record.message.as_deref(), Some("Fetched."));
    assert!(log.contains("hello\n") && log.contains("    lo\n") && !log.contains("eth0"), "{log}");
}

#[test]
#[ignore = "needs Docker"]
fn a_job_without_a_network_survives_its_relay() {
    let allowed = server();
    let site = Site::new(Engine::Docker);
    site.configure(&settings(&allowed));
    write_codex_home(site.codex_home(), "http://127.0.0.1:9/v1").unwrap();
    site.relay(&["up"]);
    let wait = "until test -e go; do sleep 0.02; done";
    let job = site.launch_running(&format!("{wait}; curl -sS http://{allowed}/"), &[]);
    let name = site.box_of(&job);
    assert_eq!(docker(&["inspect", "--format", "{{.HostConfig.NetworkMode}}", &name]), "none");
    let pid = site.daemon_pid().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    site.relay(&["up"]);
    until("another relay runs", || (site.daemon_pid().to_string() != pid).then_some(()));
    site.write("workspace-projects/demo/go", "");
    let record = site.ended(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{}", site.log(&job));
    assert_eq!(site.log(&job), "hello\n");
    site.wait_for_no_box();
}
