//! nginx, a peer of the gateway: a reverse proxy that passes each event on at once.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use relay_tests::harness::processes::OwnedChild;

use crate::{Fallible, proc, setup, stop};

const PROGRAM: &str = "nginx";
/// Debian's package with the program.
const PACKAGE: &str = "nginx-light";
/// Argument of the benchmark that lets it install the package.
const INSTALL: &str = "--install-peers";

/// A running nginx in front of a server.
pub(crate) struct Nginx {
    server: OwnedChild,
    address: SocketAddr,
}

impl Nginx {
    /// Starts nginx with its files in `dir`, as a proxy for the server at `upstream`.
    pub(crate) fn start(dir: &Path, upstream: SocketAddr) -> Fallible<Self> {
        install_if_asked()?;
        let dir = dir.join("nginx");
        fs::create_dir_all(&dir)?;
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let path = dir.join("nginx.conf");
        fs::write(&path, config(&dir, address, upstream))?;
        let mut server = Command::new(PROGRAM);
        server.arg("-p").arg(&dir).arg("-c").arg(&path).arg("-e").arg(dir.join("error.log"));
        let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = OwnedChild(server);
        let (interval, timeout) = (Duration::from_millis(20), Duration::from_secs(10));
        stop::until(PROGRAM, interval, timeout, || TcpStream::connect(address).ok())?;
        Ok(Self { server, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the memory of all its processes, in MiB.
    pub(crate) fn memory(&self) -> Fallible<f64> {
        let workers = proc::children(self.server.id())?;
        workers.into_iter().chain([self.server.id()]).map(proc::proportional_mib).sum()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A killed nginx would leave its workers.
        let pid = i32::try_from(self.server.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = self.server.wait();
        }
    }
}

/// Returns the configuration: without buffers, logs and keep-alive, as the gateway passes on an answer.
fn config(dir: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        "daemon off;\nworker_processes auto;\npid {dir}/pid;\nevents {{ worker_connections 1024; }}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\n\
         fastcgi_temp_path {dir}/fastcgi;\nuwsgi_temp_path {dir}/uwsgi;\nscgi_temp_path {dir}/scgi;\n\
         server {{\nlisten {address};\nlocation / {{\nproxy_pass http://{upstream};\nproxy_http_version 1.1;\n\
         proxy_buffering off;\n}}\n}}\n}}\n"
    )
}

fn install_if_asked() -> Fallible<()> {
    if setup::on_path(PROGRAM) {
        return Ok(());
    }
    if !std::env::args().any(|arg| arg == INSTALL) {
        let reason = format!("{PROGRAM} is not installed (`{INSTALL}` installs Debian's {PACKAGE})");
        return Err(reason.into());
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-q", "--no-install-recommends", PACKAGE]);
    // The benchmark starts its own.
    install.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    let output = install.stdin(Stdio::null()).output()?;
    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{PACKAGE}: {error}").into()) }
}
