//! The command `relay logs`.

use clap::Args;
use common::ids::JobId;
use serde::Serialize;

use super::help::after_help;
use super::{Context, candidates, follow, job_ref, view_context};
use crate::exit::{ExitCode, Failure};
use crate::registry::log_file::LogReader;
use crate::render::stream::LogCleaner;
use crate::render::{CommandOutput, health};

/// Flags of `relay logs`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay logs -f demo", "relay logs -n 200 demo#1"]))]
pub struct LogsArgs {
    /// NAME#N, NAME.N, or NAME for its newest job [default: the newest job]
    #[arg(value_name = "JOB", add = candidates::any_job())]
    pub(super) job: Option<String>,
    /// Follow until the job has ended
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Number of lines, counted from the end
    #[arg(short = 'n', long, value_name = "N", default_value_t = 40)]
    pub(super) lines: usize,
}

/// Output of `relay logs --json`: one line of the log.
#[derive(Serialize)]
struct JsonLine<'a> {
    job: &'a JobId,
    line: &'a str,
}

/// Prints the end of a log, and follows it if requested. Control characters are removed, except for colours if they are
/// enabled.
///
/// # Errors
/// Exit code 3 if the job does not exist, 2 if it is ambiguous, 5 if its log can't be read.
pub fn run(args: &LogsArgs, context: &Context) -> Result<ExitCode, Failure> {
    let job = job_ref::resolve_job_or_newest(context, args.job.as_deref())?;
    let stored = job_ref::read_record(&context.registry, &job)?;
    let (reader, tail) = LogReader::from_last_lines(&stored.registry.log(&job), args.lines)
        .map_err(|e| job_ref::unreadable_file(&job, "log", &e))?;
    let cleaner =
        if context.output.paint.is_enabled() { LogCleaner::with_colors() } else { LogCleaner::default() };
    let mut printer = LogPrinter { output: &context.output, job: &job, cleaner, is_line_open: false };
    printer.print_bytes(&tail);
    if args.follow {
        follow::follow_log(context, &job, reader, |bytes| printer.print_bytes(bytes))?;
    } else if tail.is_empty() && args.lines > 0 {
        let state = stored.record.state.as_str();
        context.output.print_note(&format!("the log of {job} is empty so far ({state})"));
    }
    printer.finish();
    if !args.follow && !stored.record.state.is_final() && !context.output.json {
        let health = health::health(&stored.record, &view_context::view_of_job(context, &stored.record));
        context.output.print_note(&format!("{job} {health}"));
    }
    Ok(ExitCode::Done)
}

/// Printer of a log, whose bytes arrive in pieces.
struct LogPrinter<'a> {
    output: &'a CommandOutput,
    job: &'a JobId,
    cleaner: LogCleaner,
    /// True if the last line has no line break yet.
    is_line_open: bool,
}

impl LogPrinter<'_> {
    fn print_bytes(&mut self, bytes: &[u8]) {
        if self.output.json {
            for line in self.cleaner.clean_lines(bytes) {
                self.output.print_json(&JsonLine { job: self.job, line: &line });
            }
            return;
        }
        let text = self.cleaner.clean_text(bytes);
        self.print_text(&text);
    }

    fn finish(mut self) {
        let rest = self.cleaner.remaining_text();
        if self.output.json {
            if !rest.is_empty() {
                self.output.print_json(&JsonLine { job: self.job, line: &rest });
            }
            return;
        }
        self.print_text(&rest);
        if self.is_line_open {
            self.output.print_raw(b"\n");
        }
    }

    fn print_text(&mut self, text: &str) {
        if !text.is_empty() {
            self.output.print_raw(text.as_bytes());
            self.is_line_open = !text.ends_with('\n');
        }
    }
}
