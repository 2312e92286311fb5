//! The command `relay schema`.

use clap::Args;

use super::global::Global;
use super::help::after_help;
use crate::exit::{ExitCode, Failure};
use crate::render::CommandOutput;
use crate::schema::{self, Schema};

/// Flags of `relay schema`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay schema record", "relay schema > relay.schema.json"]))]
pub struct SchemaArgs {
    /// Name of the schema [default: all schemas in one document]
    #[arg(value_name = "WHAT")]
    schema: Option<Schema>,
}

/// Prints the named schema, or all schemas in one document.
pub fn run(args: &SchemaArgs, global: &Global) -> Result<ExitCode, Failure> {
    let output = CommandOutput::new(global.color, false);
    if let Some(schema) = args.schema {
        output.print_raw(schema.text().as_bytes());
    } else {
        let all = schema::all_schemas()
            .map_err(|e| Failure::unreachable(format!("the schemas are broken: {e}")))?;
        output.print_raw(format!("{all:#}\n").as_bytes());
    }
    output.check_written().map(|()| ExitCode::Done)
}
