//! Build of the platform image. The build files are part of this program, so that `relay up --build` works in any
//! project.

#![expect(clippy::disallowed_methods, reason = "a private temporary folder, and the user's certificates")]

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::command;
use crate::approval::ApprovableSettings;
use crate::bounded_file;
use crate::config::PlatformConfig;
use crate::engine_kind::EngineKind;
use crate::exit::Failure;

const BUILD_FILES: [(&str, &str); 3] = [
    ("Dockerfile", include_str!("../../../docker/Dockerfile")),
    ("entrypoint.sh", include_str!("../../../docker/entrypoint.sh")),
    (".dockerignore", include_str!("../../../docker/.dockerignore")),
];

/// Builds the image from approved settings; the engine's progress goes to stderr.
///
/// # Errors
/// Returns exit code 5 with advice when the agent or the engine is missing, a certificate has changed or the build
/// fails.
pub fn build_image(
    engine: EngineKind,
    platform: &PlatformConfig,
    approved_settings: &ApprovableSettings,
) -> Result<(), Failure> {
    let agent = command::agent_program().map_err(Failure::unreachable)?;
    let context = tempfile::tempdir()
        .and_then(|dir| {
            assemble_build_context(dir.path(), &agent, &platform.certs_folder, approved_settings)
                .map(|()| dir)
        })
        .map_err(|e| Failure::unreachable(format!("the image's files could not be put together: {e}")))?;
    let (uid, gid) = platform.worker_ids;
    let mut build = Command::new(engine.as_str());
    build
        .args(["build", "--tag", &platform.image])
        .args(["--build-arg", &format!("BASE={}", platform.base_image)])
        .args(["--build-arg", &format!("CODEX_VERSION={}", platform.codex_version)])
        .args(["--build-arg", &format!("WORKER_UID={uid}"), "--build-arg", &format!("WORKER_GID={gid}")])
        .args(["--build-arg", concat!("AGENT_VERSION=", env!("CARGO_PKG_VERSION"))])
        .arg(context.path())
        .stdin(Stdio::null())
        // Progress goes to stderr, because stdout is for data.
        .stdout(io::stderr());
    let status = command::run_attached(&mut build, command::BUILD_TIMEOUT).map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut => Failure::unreachable(e.to_string()),
        _ => Failure::unreachable(command::not_installed_message(engine, &e)),
    })?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::unreachable(format!("{engine} could not build {}: see its output above", platform.image)))
}

fn assemble_build_context(
    dir: &Path,
    agent: &Path,
    certs: &Path,
    approved_settings: &ApprovableSettings,
) -> io::Result<()> {
    for (name, text) in BUILD_FILES {
        fs::write(dir.join(name), text)?;
    }
    fs::copy(agent, dir.join("worker-agent"))?;
    let certs_dir = dir.join("certs");
    fs::create_dir(&certs_dir)?;
    // `COPY` in the image's build file needs at least one file.
    fs::write(certs_dir.join("README"), "Extra CA certificates (*.crt) for the image.\n")?;
    let entries = match fs::read_dir(certs) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|e| e == "crt")) else {
            continue;
        };
        let bytes = bounded_file::read_bounded(&path)?;
        if !approved_settings.covers_certificate(&path, &bytes) {
            let message =
                format!("{} has changed since it was approved: run `relay up` again", path.display());
            return Err(io::Error::other(message));
        }
        fs::write(certs_dir.join(name), bytes)?;
    }
    Ok(())
}
