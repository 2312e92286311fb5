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

/// Maximum number of lines kept: several screens to scroll back.
const MAX_KEPT_LINES: usize = 1000;
/// Maximum length of a kept line, in bytes: no screen is wider.
const MAX_LINE: usize = 1000;

/// Tail of a job's log or events.
pub(super) struct Tail {
    /// Job that is followed.
    pub(super) job: JobId,
    /// Log or events.
    pub(super) pane: Pane,
    source: Source,
    lines: VecDeque<String>,
}

enum Source {
    Log { reader: LogReader, cleaner: Box<LogCleaner> },
    Events { follower: LogFollower, waits: BTreeSet<u32> },
}

impl Tail {
    /// Creates a tail; nothing is read yet.
    pub(super) fn new(job: JobId, pane: Pane) -> Self {
        let source = match pane {
            Pane::Events => Source::Events { follower: LogFollower::new(), waits: BTreeSet::new() },
            _ => Source::Log { reader: LogReader::default(), cleaner: Box::default() },
        };
        Self { job, pane, source, lines: VecDeque::new() }
    }

    /// Reads the new lines.
    ///
    /// # Errors
    /// Returns an error if the file can't be read. An absent file is empty.
    pub(super) fn read(&mut self, registry: &Registry, view: &View) -> io::Result<()> {
        let lines = &mut self.lines;
        match &mut self.source {
            Source::Log { reader, cleaner } => {
                while let Some(piece) = reader.read(&registry.log(&self.job))? {
                    for line in cleaner.clean_lines(&piece) {
                        push_line(lines, common::text_format::truncate(&line, MAX_LINE));
                    }
                }
                Ok(())
            }
            Source::Events { follower, waits } => {
                let path = registry.events(&self.job);
                let read = follower.visit_lines(&path, |raw, line| {
                    if !track_model_wait(&line, waits) {
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
    if lines.len() == MAX_KEPT_LINES {
        lines.pop_front();
    }
    lines.push_back(line);
}

/// Returns true if a line is the start or the end of a wait for the model.
fn track_model_wait(line: &EventLine, waits: &mut BTreeSet<u32>) -> bool {
    match line.event.as_ref().map(|event| &event.body) {
        Some(EventBody::StepStarted { n, kind: StepKind::Model, .. }) => {
            waits.insert(*n);
            true
        }
        Some(EventBody::StepFinished { n, .. }) => waits.remove(n),
        _ => false,
    }
}
