//! The command line of `scripted-model`.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use super::{Script, ScriptedModel, Scripts, write_codex_home};

/// A model server for the real Codex that plays scripts.
///
/// A prompt that contains `[script:NAME]` selects the script.
#[derive(Debug, Parser)]
#[command(name = "scripted-model", version)]
pub struct Cli {
    /// Address to listen on; port 0 means any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A script to serve (repeatable)
    #[arg(long, value_name = "FILE")]
    script: Vec<PathBuf>,
    /// A folder of scripts to serve (repeatable)
    #[arg(long, value_name = "DIR")]
    scripts: Vec<PathBuf>,
    /// Write the port to this file once the server listens
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
    /// Write a config.toml for this server to this folder
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
        write_codex_home(dir, &model.base_url())?;
    }
    if let Some(file) = &cli.port_file {
        fs::write(file, format!("{}\n", model.address().port()))?;
    }
    writeln!(io::stdout(), "{}", model.base_url())?;
    Ok(model.serve().await?)
}
