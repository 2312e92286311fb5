//! Authentication: the agent verifies the relay's certificate, and only then the relay gets and verifies the token.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::record::State;
use common::wire::{self, RelayFrame};
use relay_tests::harness::figures::{figure, percentile};
use relay_tests::harness::{Engine, PATIENCE, Site, processes, programs, until};
use relay_tests::simulated_agent::connection::hello;
use relay_tests::simulated_agent::{Connection, ConnectionEnd, Endpoint, block_on};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::flood::is_open;

/// Launches a job that runs until the file `go` exists in its workspace.
fn launch_job_until_go(site: &Site) -> String {
    let job = site.launch_shell("until test -e go; do sleep 0.02; done; echo done", &[]);
    site.record_when(&job, "runs", |record| record.state == State::Running);
    job
}

/// Returns the frames `Welcome` and `Start` of a forged job that would write a file, as WebSocket messages.
fn forged_start_message(site: &Site) -> Vec<u8> {
    let spec = serde_json::json!({
        "schema": 1, "job": "forged#1", "runner": "shell", "prompt": "touch owned",
        "workspace": site.workspace(), "limits": {},
    });
    let welcome = RelayFrame::Welcome {
        protocol: wire::PROTOCOL,
        durable: Vec::new(),
        exit_cause: None,
        now: jiff::Timestamp::now(),
    };
    let start = RelayFrame::Start { job: "forged#1".parse().unwrap(), epoch: 1, spec: spec.to_string() };
    let mut bytes = Vec::new();
    for frame in [welcome, start] {
        let frame = wire::encode(&frame).unwrap();
        bytes.extend([0x82, 126]);
        bytes.extend(u16::try_from(frame.len()).unwrap().to_be_bytes());
        bytes.extend(frame);
    }
    bytes
}

/// Returns a TLS configuration with another certificate than the relay's, for the same server name.
fn foreign_tls() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec![wire::TLS_NAME.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.unwrap().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key);
    Arc::new(config.unwrap())
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Protocol: worker-relay.v1\r\n\r\n";

/// Answers an upgrade request, sends `start`, and adds everything that the other side sends to `received`.
fn answer_and_listen(mut stream: impl Read + Write, start: &[u8], received: &mut Vec<u8>) {
    let mut piece = [0; 4096];
    let read = stream.read(&mut piece).unwrap_or(0);
    received.extend(&piece[..read]);
    let _ = stream.write_all(SWITCHING.as_bytes()).and_then(|()| stream.write_all(start));
    let _ = stream.read_to_end(received);
}

/// Accepts connections of an agent without TLS; returns all received bytes.
fn listen_in_clear(listener: &TcpListener, connections: usize, start: &[u8]) -> Vec<u8> {
    let mut received = Vec::new();
    for _ in 0..connections {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        answer_and_listen(stream, start, &mut received);
    }
    received
}

/// Accepts TLS connections of an agent with a foreign certificate; returns the bytes after the handshakes.
fn listen_over_tls(listener: &TcpListener, connections: usize, start: &[u8]) -> Vec<u8> {
    let (tls, mut received) = (foreign_tls(), Vec::new());
    for _ in 0..connections {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let stream = StreamOwned::new(ServerConnection::new(Arc::clone(&tls)).unwrap(), stream);
        answer_and_listen(stream, start, &mut received);
    }
    received
}

#[test]
fn a_program_on_the_port_of_a_killed_relay_gets_no_token_and_starts_no_job() {
    let site = Site::new(Engine::Local);
    let job = launch_job_until_go(&site);
    let address: SocketAddr = Endpoint::of_site(&site).address();
    processes::kill(site.daemon_pid());
    let listener = until("the port is free", || TcpListener::bind(address).ok());
    let start = forged_start_message(&site);
    let clear = listen_in_clear(&listener, 3, &start);
    let text = String::from_utf8_lossy(&clear).to_ascii_lowercase();
    assert!(clear.first() == Some(&0x16), "the agent began with something else than TLS: {text}");
    assert!(!text.contains("bearer") && !text.contains("authorization"), "{text}");
    let behind = listen_over_tls(&listener, 3, &start);
    assert_eq!(String::from_utf8_lossy(&behind), "", "the agent sent data to a foreign server");

    // The relay has to use another port, and its agent follows with its job.
    site.relay(&["up"]);
    assert_ne!(Endpoint::of_site(&site).address(), address);
    site.record_when(&job, "is back", |record| record.link == Some(common::record::Link::Connected));
    site.write("workspace-projects/demo/go", "");
    assert_eq!(site.ended(&job).state, State::Completed);
    assert_eq!(site.log(&job), "done\n");
    assert!(!site.workspace().join("owned").exists(), "a forged job was run");
}

#[test]
fn an_agent_reconnects_to_a_restarted_relay_with_the_same_token() {
    let site = Site::new(Engine::Local);
    let job = launch_job_until_go(&site);
    let (before, address) = (token_files(&site), Endpoint::of_site(&site).address());
    for _ in 0..2 {
        processes::kill(site.daemon_pid());
        site.relay(&["up"]);
        site.record_when(&job, "is back", |record| record.link == Some(common::record::Link::Connected));
    }
    assert_eq!((token_files(&site), Endpoint::of_site(&site).address()), (before, address));
    site.write("workspace-projects/demo/go", "");
    assert_eq!(site.ended(&job).state, State::Completed);
}

/// Returns the names of the files of valid tokens.
fn token_files(site: &Site) -> BTreeSet<String> {
    let entries = fs::read_dir(site.state().join("tokens")).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_stolen_token_is_refused_with_another_agent_s_id() {
    let site = Site::up(Engine::Local);
    let endpoint = Endpoint::of_site(&site);
    let token = endpoint.fresh_token();
    block_on(async {
        let (_owner, _) =
            Connection::handshake_with_token(&endpoint, &token, hello("owner", 0, Vec::new())).await.unwrap();
        for _ in 0..3 {
            let thief =
                Connection::handshake_with_token(&endpoint, &token, hello("thief", 50, Vec::new())).await;
            let Err(ConnectionEnd::Closed(code, reason)) = thief else { panic!("{thief:?}") };
            assert_eq!((code, &*reason), (wire::CLOSE_PROTOCOL, "this token belongs to another agent"));
        }
    });
    let record = site.ended(&site.launch_shell("echo mine", &[]));
    assert_eq!(record.state, State::Completed);
    assert_ne!(record.agent.as_deref(), Some("thief"));
    let text = site.daemon_log();
    assert_eq!(text.matches("presented the token of another agent").count(), 1, "{text}");
}

/// Returns true if the relay accepts a connection with a token.
fn is_accepted(endpoint: &Endpoint, token: &str) -> bool {
    match block_on(Connection::connect_with_token(endpoint, token)) {
        Ok(_) => true,
        Err(ended) => {
            assert!(matches!(&ended, ConnectionEnd::Broken(e) if e.contains("401")), "{ended:?}");
            false
        }
    }
}

#[test]
fn tokens_are_revoked_by_down_and_when_their_agent_is_replaced() {
    let site = Site::up(Engine::Local);
    let first = token_files(&site);
    assert_eq!(first.len(), 1);
    let agent = fs::read_to_string(site.agent().join("agent.lock")).unwrap();
    processes::kill(agent.trim().parse().unwrap());
    until("another token has taken its place", || {
        let now = token_files(&site);
        (now.len() == 1 && now != first).then_some(())
    });
    let endpoint = Endpoint::of_site(&site);
    let kept = endpoint.fresh_token();
    assert!(is_accepted(&endpoint, &kept));
    site.relay(&["down"]);
    assert_eq!(token_files(&site), BTreeSet::new());
    site.relay(&["up"]);
    assert!(!is_accepted(&Endpoint::of_site(&site), &kept));
    // `relay down` also revokes the tokens of a daemon that was killed.
    let kept = endpoint.fresh_token();
    processes::kill(site.daemon_pid());
    let lock = fs::File::open(site.registry().join("relay.lock")).unwrap();
    until("the relay is dead", || lock.try_lock_shared().ok());
    drop(lock);
    site.relay(&["down"]);
    assert_eq!(token_files(&site), BTreeSet::new());
    site.relay(&["up"]);
    assert!(!is_accepted(&Endpoint::of_site(&site), &kept));
}

#[test]
fn a_forged_lease_authenticates_no_agent_and_ends_no_job() {
    let site = Site::new(Engine::Local);
    let job = launch_job_until_go(&site);
    let forge = || {
        let path = site.registry().join("relay.json");
        let mut lease: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        lease["token_sha256"] = sha256("forged").into();
        lease["older_tokens_sha256"] = vec![sha256("forged")].into();
        lease["agent"] = "forged".into();
        lease["listen"] = vec!["127.0.0.1:1"].into();
        lease["death"] = serde_json::json!({
            "exit_code": 137, "oom_killed": true, "memory_limit": 1, "finished_at": "x", "cut_off": [job],
        });
        fs::write(&path, lease.to_string()).unwrap();
    };
    forge();
    processes::kill(site.daemon_pid());
    forge();
    site.relay(&["up"]);
    let endpoint = Endpoint::of_site(&site);
    assert!(!is_accepted(&endpoint, "forged"));
    assert!(is_accepted(&endpoint, &endpoint.fresh_token()), "a valid token is accepted");
    site.record_when(&job, "is back", |record| record.link == Some(common::record::Link::Connected));
    site.write("workspace-projects/demo/go", "");
    assert_eq!(site.ended(&job).state, State::Completed);
}

fn sha256(text: &str) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(text.as_bytes()))
}

/// Returns every file below a folder that contains one of these texts.
fn files_with(dir: &Path, texts: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_with(&path, texts));
        } else if let Ok(bytes) = fs::read(&path) {
            let text = String::from_utf8_lossy(&bytes);
            found.extend(texts.iter().any(|secret| text.contains(secret)).then_some(path));
        }
    }
    found
}

#[test]
fn neither_the_key_of_the_model_nor_the_agent_s_token_is_on_the_disk() {
    const KEY: &str = "sk-canary-5f1e9b";
    let site = Site::new(Engine::Local);
    // A script that runs instead of the agent saves the configuration that the agent gets.
    let bin = tempfile::tempdir_in(programs::workspace().join("target/tests")).unwrap();
    fs::copy(programs::dir().join("relay"), bin.path().join("relay")).unwrap();
    let (real, seen) = (programs::dir().join("worker-agent"), bin.path().join("seen"));
    let (real, shown) = (real.display(), seen.display());
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--config-stdin*) cat >{shown}; exec {real} \"$@\" <{shown};; esac\nexec {real} \"$@\"\n"
    );
    let wrapper = bin.path().join("worker-agent");
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let mut up = site.environment(Command::new(bin.path().join("relay")));
    up.args(["up", "--yes"]).current_dir(site.root()).env("CODEX_HOME", site.codex_home());
    let up = up.env("CODEX_API_KEY", KEY).env("OPENAI_API_KEY", KEY).output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let config: serde_json::Value = serde_json::from_slice(&fs::read(&seen).unwrap()).unwrap();
    let token = config["token"].as_str().unwrap();
    assert_eq!((token.len(), config["env"]["CODEX_API_KEY"].as_str()), (64, Some(KEY)));

    let job = site.launch_shell("echo hi", &[]);
    assert_eq!(site.ended(&job).state, State::Completed);
    for dir in [site.root(), site.state_home()] {
        assert_eq!(files_with(dir, &[KEY, token]), Vec::<PathBuf>::new());
    }
    let mut agents = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let shown = |file: &str| {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (cmdline, environ) = (shown("cmdline"), shown("environ"));
        assert!(!cmdline.contains(token) && !environ.contains(token) && !cmdline.contains(KEY), "{cmdline}");
        if cmdline.contains("worker-agent") && cmdline.contains(&*site.agent().to_string_lossy()) {
            agents += 1;
            assert!(!environ.contains(KEY), "the agent's environment");
        }
    }
    assert_eq!(agents, 1);
}

#[test]
fn agents_connect_over_tls_one_after_the_other() {
    const TRIES: usize = 50;
    let site = Site::up(Engine::Local);
    let endpoint = Endpoint::of_site(&site);
    let tokens: Vec<String> = (0..TRIES).map(|_| endpoint.fresh_token()).collect();
    let address = endpoint.address();
    let times: Vec<Duration> = block_on(async {
        let mut times = Vec::new();
        for token in &tokens {
            let started = Instant::now();
            let connection = Connection::connect_to(&endpoint, address, token).await.unwrap();
            times.push(started.elapsed());
            drop(connection);
        }
        times
    });
    let half = percentile(times, 50);
    figure(&format!("TCP, TLS and upgrade of an agent on loopback: p50 {} µs of {TRIES}", half.as_micros()));
    // The relay drops a connection that takes longer.
    assert!(half < common::wire::HELLO_TIMEOUT, "{half:?}");
}

#[test]
fn a_thousand_half_open_tls_handshakes_are_dropped_while_an_honest_agent_connects() {
    const CLIENTS: usize = 1000;
    let site = Site::up(Engine::Local);
    let endpoint = Endpoint::of_site(&site);
    let address = endpoint.address();
    let started = Instant::now();
    let mut clients: Vec<std::net::TcpStream> =
        (0..CLIENTS).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    for client in &mut clients {
        // The client sends the header of a handshake record and nothing more.
        client.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    }
    block_on(Connection::handshake(&endpoint, hello("honest", 0, Vec::new()))).unwrap();
    let honest = started.elapsed();
    assert!(is_open(clients.last().unwrap()), "the honest agent had to wait for the others: {honest:?}");
    let mut dropped = 0;
    for mut client in clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let ended = client.read_to_end(&mut Vec::new());
        dropped += usize::from(!ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock));
    }
    let last = started.elapsed();
    figure(&format!(
        "{CLIENTS} half-open TLS handshakes: {dropped} dropped after {} ms, an honest agent welcomed after {} ms",
        last.as_millis(),
        honest.as_millis()
    ));
    assert_eq!(dropped, CLIENTS);
}
