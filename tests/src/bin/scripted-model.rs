//! A scripted model server for the real Codex.

use std::error::Error;

use clap::Parser;
use relay_tests::scripted_model::cli::{Cli, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    run(Cli::parse()).await
}
