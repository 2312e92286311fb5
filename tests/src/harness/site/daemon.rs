//! The relay of a site: its address, log and tokens.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use super::Site;
use crate::harness::until;

/// Maximum length of a log in the message of a failed test, in bytes.
const MAX_LOG_TAIL: u64 = 4 * 1024 * 1024;

impl Site {
    /// Creates a valid token for a simulated agent.
    pub fn create_token(&self) -> String {
        create_token(&self.state())
    }

    /// Returns the configuration of an agent: the relay's address and certificate, and a new token.
    pub fn agent_config(&self) -> serde_json::Value {
        let address = self.address();
        let pem = fs::read_to_string(self.state().join("relay.pem")).unwrap_or_default();
        let url = format!("wss://{address}{}", common::wire::AGENT_PATH);
        serde_json::json!({"url": url, "certificate": pem, "token": self.create_token()})
    }

    /// Returns the end of the daemon's log, for the message of a failed test.
    pub fn daemon_log(&self) -> String {
        log_tail(&self.registry().join("relay.log"))
    }

    /// Waits until the relay has written its lease, and returns the daemon's process id.
    pub fn daemon_pid(&self) -> u32 {
        until("the relay has written its lease", || {
            self.lease()["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
        })
    }

    /// Waits until the relay listens and returns its address.
    pub fn address(&self) -> SocketAddr {
        until("the relay listens", || self.lease()["listen"][0].as_str()?.parse().ok())
    }

    fn lease(&self) -> serde_json::Value {
        let lease = fs::read(self.registry().join("relay.json")).unwrap_or_default();
        serde_json::from_slice(&lease).unwrap_or_default()
    }
}

/// Creates a valid token for a simulated agent: stores its hash in the project's state folder, as the relay does.
pub fn create_token(state_dir: &Path) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let token = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let hash = hex::encode(Sha256::digest(token.as_bytes()));
    let path = state_dir.join("tokens").join(format!("{hash}.json"));
    fs::write(&path, r#"{"holder":"test"}"#).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    token
}

/// Returns the end of a program's log. Does not read a pipe or device that a test has put in the log's place.
pub(super) fn log_tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW).bits().cast_signed();
        let mut file = fs::File::options().read(true).custom_flags(flags).open(log)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Ok(format!("{} is not a file", log.display()).into_bytes());
        }
        file.seek(SeekFrom::Start(meta.len().saturating_sub(MAX_LOG_TAIL)))?;
        let mut end = Vec::new();
        file.take(MAX_LOG_TAIL).read_to_end(&mut end)?;
        Ok(end)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}
