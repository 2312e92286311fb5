//! The command line of `scripted-model`.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use super::{Script, ScriptedModel, Scripts, codex_home};

/// A model server that the real Codex talks to, and that says what a script says.
///
/// A prompt that holds `[script:NAME]` chooses the script.
#[derive(Debug, Parser)]
#[command(name = "scripted-model", version)]
pub struct Cli {
    /// Where to listen; port 0 is any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A script to serve (repeatable)
    #[arg(long, value_name = "FILE")]
    script: Vec<PathBuf>,
    /// A folder of scripts to serve (repeatable)
    #[arg(long, value_name = "DIR")]
    scripts: Vec<PathBuf>,
    /// Write the port there once it is open
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
    /// Write a config.toml there that leads Codex to this server
    #[arg(long, value_name = "DIR")]
    write_codex_home: Option<PathBuf>,
}

/// Serves until the process is ended. The first line on stdout is the base URL.
pub async fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    let mut scripts = Scripts::default();
    for folder in &cli.scripts {
        scripts.add_folder(folder)?;
    }
    for file in &cli.script {
        scripts.add(Script::load(file)?);
    }
    let model = ScriptedModel::listen(cli.listen, scripts).await?;
    if let Some(dir) = &cli.write_codex_home {
        codex_home(dir, &model.base_url())?;
    }
    if let Some(file) = &cli.port_file {
        fs::write(file, format!("{}\n", model.address().port()))?;
    }
    writeln!(io::stdout(), "{}", model.base_url())?;
    Ok(model.serve().await?)
}
