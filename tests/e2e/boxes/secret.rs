//! Secrets that the relay adds to requests of a job for one host, and that its container does not have.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use common::record::State;
use relay_tests::harness::docker::docker;
use relay_tests::harness::site::outcome;
use relay_tests::harness::{Engine, PATIENCE, Site};
use relay_tests::scripted_model::write_codex_home;

use super::SETTING;
use crate::trust::host_secrets::set_secret;

const CANARY: &str = "s3cret-canary-of-a-host";
/// Regular expression for the canary that does not match itself.
const PATTERN: &str = "s3cret-canar[y]";

/// Starts an HTTP server on loopback. Returns its address and the heads of the requests.
fn server() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (heads, received) = channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length == 1) {
                head.extend(byte);
            }
            let _ = heads.send(String::from_utf8_lossy(&head).into_owned());
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n");
        }
    });
    (address, received)
}

/// Returns the lines that a script prints which looks for the canary in all processes and files that it can read.
fn search_script() -> String {
    format!(
        "env | grep '{PATTERN}'
         cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep '{PATTERN}'
         grep -rls '{PATTERN}' / --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr
         echo searched"
    )
}

#[test]
#[ignore = "needs Docker"]
fn a_host_gets_a_secret_that_no_part_of_the_jobs_container_has() {
    let (address, heads) = server();
    let site = Site::new(Engine::Docker);
    site.configure(&format!("{SETTING}[model]\ngateway = true\n"));
    write_codex_home(site.codex_home(), "http://127.0.0.1:9/v1").unwrap();
    site.relay(&["up"]);
    // The running relay uses the secret without a restart.
    let host = format!("http://{address}");
    set_secret(&site, &["demo", "--host", &host, "--header", "X-Api-Key", "--prefix", "Key "], CANARY);
    let listed = site.relay(&["secret", "list"]) + &site.relay(&["secret", "list", "--json"]);
    assert!(listed.contains(&host) && !listed.contains(CANARY), "{listed}");
    let job = site.launch_running(
        &format!(
            "echo $RELAY_SECRET_DEMO_URL
             curl -sS -H 'X-Api-Key: own' \"$RELAY_SECRET_DEMO_URL/x?y=1\"
             curl -sS \"${{RELAY_SECRET_DEMO_URL%demo}}other/x\"
             until test -e go; do sleep 0.02; done
             {}",
            search_script()
        ),
        &[],
    );
    let head = heads.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("GET /x?y=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("x-api-key: Key {CANARY}\r\n")) && !head.contains("own"), "{head}");
    let name = site.box_of(&job);
    assert_eq!(docker(&["exec", "-u", "root", &name, "sh", "-c", &search_script()]), "searched");
    assert!(!docker(&["inspect", &name]).contains(CANARY));
    site.write("workspace-projects/demo/go", "");
    let record = site.ended(&job);
    let log = site.log(&job);
    assert_eq!(outcome(&record), (State::Completed, None), "{log}");
    assert!(log.starts_with("http://127.0.0.1:") && log.contains("/secret/demo\nhello\n"), "{log}");
    assert!(
        log.ends_with(
            "relay: there is no secret other: `relay secret list` on the host shows all\nsearched\n"
        )
    );
    let found = Command::new("grep").args(["-rl", CANARY]).args([site.root(), site.state_home()]).output();
    let found = String::from_utf8_lossy(&found.unwrap().stdout).into_owned();
    assert!(found.lines().count() == 1 && found.ends_with("/secrets.json\n"), "{found}");
    site.wait_for_no_box();
}
