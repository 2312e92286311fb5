//! The command `relay output`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use common::text_format;
use serde_json::json;

use super::help::after_help;
use super::{Context, candidates, job_ref};
use crate::exit::{ExitCode, Failure};
use crate::job_identity::JobIdentity;
use crate::output::archive;
use crate::output::store::Outputs;
use crate::state_dir::StateDir;

/// Flags of `relay output`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "A job's commands put files into the folder $RELAY_OUTPUT. relay keeps them when the job ends, also if its \
     agent was killed: regular files, at most 1000 and 256 MiB; a warning names what is left out.",
    ["relay output demo", "relay output demo report.html > report.html"]
))]
pub struct OutputArgs {
    /// NAME#N, NAME.N, or NAME for its newest job
    #[arg(value_name = "JOB", add = candidates::any_job())]
    pub(super) job: String,
    /// File to write to stdout [default: list all files]
    #[arg(value_name = "FILE")]
    pub(super) file: Option<OsString>,
}

/// Lists the output of a job, or writes one file of it to stdout.
///
/// # Errors
/// Exit code 3 if the job does not exist, 2 if it is ambiguous, has not ended or left no such file, 5 if the output
/// can't be read.
pub fn run(args: &OutputArgs, context: &Context) -> Result<ExitCode, Failure> {
    let job = job_ref::resolve_job_or_newest(context, Some(&args.job))?;
    let record = job_ref::read_record(&context.registry, &job)?.record;
    let unreadable = |e: io::Error| Failure::unreachable(format!("the output of {job} can't be read: {e}"));
    let outputs = Outputs::in_folder(StateDir::for_project(&context.root)?.outputs());
    let Some(stored) = outputs.open(&JobIdentity::of(&record)).map_err(unreadable)? else {
        if !record.state.is_final() {
            return Err(Failure::usage(format!("{job} has not ended: its output is kept when it ends")));
        }
        if args.file.is_some() {
            return Err(Failure::usage(format!("{job} left no output in $RELAY_OUTPUT")));
        }
        context.output.print_note(&format!("{job} left no output in $RELAY_OUTPUT"));
        return Ok(ExitCode::Done);
    };
    match &args.file {
        None => print_list(context, stored).map_err(unreadable)?,
        Some(name) => {
            let writer = OutputWriter(context);
            if !archive::extract_file(stored, name.as_bytes(), writer).map_err(unreadable)? {
                let name = text_format::one_line(&name.to_string_lossy(), 200);
                return Err(Failure::usage(format!(
                    "{job} left no file '{name}': `relay output {job}` lists its files"
                )));
            }
        }
    }
    Ok(ExitCode::Done)
}

fn print_list(context: &Context, stored: File) -> io::Result<()> {
    for file in archive::list_files(stored)? {
        let name = String::from_utf8_lossy(&file.name);
        if context.output.json {
            context.output.print_json(&json!({"name": name, "size": file.size}));
        } else {
            // The worker chose the name.
            context.output.print(&format!("{:>12}  {}", file.size, text_format::to_printable(&name)));
        }
    }
    Ok(())
}

/// Writer to the output of the command.
struct OutputWriter<'a>(&'a Context);

impl io::Write for OutputWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.output.print_raw(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
