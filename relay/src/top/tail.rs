//! Newest lines of one job's log or events, updated on each read.

use std::collections::{BTreeSet, VecDeque};
use std::io;

use common::event::EventBody;
use common::event_line::EventLine;
use common::ids::JobId;
use common::job::StepKind;

use super::model::Pane;
use crate::registry::Registry;
use crate::registry::event_log::LogFollower;
use crate::registry::log_file::LogReader;
use crate::render::View;
use crate::render::event_text::{self, RenderOptions};
use crate::render::stream::LogCleaner;

/// Maximum number of lines in a tail: enough to scroll back several screens.
const MAX_TAIL_LINES: usize = 1000;
/// Maximum length of a line in a tail, in bytes: no screen is wider.
const MAX_LINE_BYTES: usize = 1000;

/// Newest lines of a job's log or events.
pub(super) struct LogTail {
    /// Job that is followed.
    pub(super) job: JobId,
    /// Pane that shows the lines: log or events.
    pub(super) pane: Pane,
    source: Source,
    lines: VecDeque<String>,
}

enum Source {
    Log { reader: LogReader, cleaner: Box<LogCleaner> },
    Events { follower: LogFollower, model_waits: BTreeSet<u32> },
}

impl LogTail {
    /// Creates a tail; nothing is read yet.
    pub(super) fn new(job: JobId, pane: Pane) -> Self {
        let source = match pane {
            Pane::Events => Source::Events { follower: LogFollower::new(), model_waits: BTreeSet::new() },
            _ => Source::Log { reader: LogReader::default(), cleaner: Box::default() },
        };
        Self { job, pane, source, lines: VecDeque::new() }
    }

    /// Reads the new lines.
    ///
    /// # Errors
    /// Returns an error if the file can't be read. An absent file counts as empty.
    pub(super) fn read(&mut self, registry: &Registry, view: &View) -> io::Result<()> {
        let lines = &mut self.lines;
        match &mut self.source {
            Source::Log { reader, cleaner } => {
                while let Some(piece) = reader.read(&registry.log(&self.job))? {
                    for line in cleaner.clean_lines(&piece) {
                        push_line(lines, common::text_format::truncate(&line, MAX_LINE_BYTES));
                    }
                }
                Ok(())
            }
            Source::Events { follower, model_waits } => {
                let path = registry.events(&self.job);
                let read = follower.visit_lines(&path, |raw, line| {
                    if !track_model_wait(&line, model_waits) {
                        push_line(lines, event_text::event_line(raw, &line, RenderOptions::default(), view));
                    }
                });
                match read {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                    read => read.map(drop),
                }
            }
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

fn push_line(lines: &mut VecDeque<String>, line: String) {
    if lines.len() == MAX_TAIL_LINES {
        lines.pop_front();
    }
    lines.push_back(line);
}

/// Returns true if a line starts or ends a wait for the model. `model_waits` holds the step numbers of open waits.
fn track_model_wait(line: &EventLine, model_waits: &mut BTreeSet<u32>) -> bool {
    match line.event.as_ref().map(|event| &event.body) {
        Some(EventBody::StepStarted { n, kind: StepKind::Model, .. }) => {
            model_waits.insert(*n);
            true
        }
        Some(EventBody::StepFinished { n, .. }) => model_waits.remove(n),
        _ => false,
    }
}
