//! `relay logs`

use clap::Args;
use common::ids::JobId;
use serde::Serialize;

use super::help::after_help;
use super::{Context, candidates, follow, job_ref, view_context};
use crate::exit::{Code, Failure};
use crate::registry::log_file::LogReader;
use crate::render::stream::Cleaner;
use crate::render::{Output, health};

/// Flags of `relay logs`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(["relay logs -f demo", "relay logs -n 200 demo#1"]))]
pub struct LogsArgs {
    /// NAME#N, NAME.N, or NAME for its newest job [default: the newest job]
    #[arg(value_name = "JOB", add = candidates::any())]
    pub(super) job: Option<String>,
    /// Follow until the job has ended
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Number of lines, counted from the end
    #[arg(short = 'n', long, value_name = "N", default_value_t = 40)]
    pub(super) lines: usize,
}

/// One line as JSON.
#[derive(Serialize)]
struct JsonLine<'a> {
    job: &'a JobId,
    line: &'a str,
}

/// Prints the end of a log and, if asked to, follows it. Control characters are removed, except for colours if those
/// are enabled.
///
/// # Errors
/// Exit code 3 if the job does not exist, 2 if it is ambiguous, 5 if its log can't be read.
pub fn run(args: &LogsArgs, context: &Context) -> Result<Code, Failure> {
    let job = job_ref::one_or_newest(context, args.job.as_deref())?;
    let stored = job_ref::record(&context.registry, &job)?;
    let (reader, tail) = LogReader::tail(&stored.home.log(&job), args.lines)
        .map_err(|e| job_ref::unreadable(&job, "log", &e))?;
    let cleaner = if context.output.paint.is_on() { Cleaner::with_colors() } else { Cleaner::default() };
    let mut printer = Printer { output: &context.output, job: &job, cleaner, open: false };
    printer.piece(&tail);
    if args.follow {
        follow::log(context, &job, reader, |piece| printer.piece(piece))?;
    } else if tail.is_empty() && args.lines > 0 {
        let state = stored.record.state.as_str();
        context.output.note(&format!("the log of {job} is empty so far ({state})"));
    }
    printer.end();
    if !args.follow && !stored.record.state.is_final() && !context.output.json {
        let health = health::health(&stored.record, &view_context::view_of(context, &stored.record));
        context.output.note(&format!("{job} {health}"));
    }
    Ok(Code::Done)
}

/// Prints pieces of a log as they arrive.
struct Printer<'a> {
    output: &'a Output,
    job: &'a JobId,
    cleaner: Cleaner,
    /// True if the last line has no line break yet.
    open: bool,
}

impl Printer<'_> {
    fn piece(&mut self, piece: &[u8]) {
        if self.output.json {
            for line in self.cleaner.lines(piece) {
                self.output.json(&JsonLine { job: self.job, line: &line });
            }
            return;
        }
        let text = self.cleaner.text(piece);
        self.text(&text);
    }

    fn end(mut self) {
        let rest = self.cleaner.rest();
        if self.output.json {
            if !rest.is_empty() {
                self.output.json(&JsonLine { job: self.job, line: &rest });
            }
            return;
        }
        self.text(&rest);
        if self.open {
            self.output.raw(b"\n");
        }
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.output.raw(text.as_bytes());
            self.open = !text.ends_with('\n');
        }
    }
}
