//! Masking of secrets in events.

use std::borrow::Cow;

use common::event::{ChangedFile, EventBody, JobError, MAX_TEXT, MAX_TITLE, PlanItem, Queued};
use common::text;

use super::Masker;

impl Masker {
    /// Returns an event without secrets in any of its texts. Each variant is destructured, so that a new field is
    /// noticed here.
    pub(crate) fn event(&self, body: EventBody) -> EventBody {
        if self.is_empty() {
            return body;
        }
        match body {
            EventBody::Queued(queued) => EventBody::Queued(Box::new(self.queued(*queued))),
            EventBody::Accepted { agent, isolation, workspace_log } => EventBody::Accepted {
                agent: self.line(agent),
                isolation,
                workspace_log: workspace_log.map(|path| self.line(path)),
            },
            EventBody::Started { pid, thread_id } => {
                EventBody::Started { pid, thread_id: thread_id.map(|id| self.line(id)) }
            }
            EventBody::StepStarted { n, kind, title, limit_ms, parent } => {
                EventBody::StepStarted { n, kind, title: self.bounded(title, MAX_TITLE), limit_ms, parent }
            }
            EventBody::Message { text } => EventBody::Message { text: self.line(text) },
            EventBody::Plan { items } => {
                let masked = |PlanItem { text, completed }| PlanItem { text: self.line(text), completed };
                EventBody::Plan { items: items.into_iter().map(masked).collect() }
            }
            EventBody::FileChange { files } => {
                let masked =
                    |ChangedFile { path, kind }| ChangedFile { path: self.line(path), kind: self.line(kind) };
                EventBody::FileChange { files: files.into_iter().map(masked).collect() }
            }
            EventBody::Warning { message } => EventBody::Warning { message: self.line(message) },
            EventBody::Stalled { n, evidence } => EventBody::Stalled { n, evidence: self.line(evidence) },
            EventBody::LinkLost { reason } => EventBody::LinkLost { reason: self.line(reason) },
            EventBody::LinkRestored { agent } => EventBody::LinkRestored { agent: self.line(agent) },
            EventBody::Stopping { reason } => EventBody::Stopping { reason: self.line(reason) },
            EventBody::Finished { state, error, exit_code, changes } => {
                let error = error.map(|JobError { kind, message, step }| JobError {
                    kind,
                    message: self.line(message),
                    step,
                });
                EventBody::Finished { state, error, exit_code, changes }
            }
            EventBody::Interrupted { n, reason } => EventBody::Interrupted { n, reason: self.line(reason) },
            textless @ (EventBody::StepFinished {
                n: _,
                outcome: _,
                exit_code: _,
                elapsed_ms: _,
                resources: _,
            }
            | EventBody::Usage(_)
            | EventBody::Cleanup { killed: _, survivors: _ }
            | EventBody::Vitals(_)
            | EventBody::Extended { n: _, limit_ms: _ }) => textless,
        }
    }

    /// Masks a queued event. Only the relay writes this event, from what the client gave it. Its origin names
    /// sessions and jobs.
    fn queued(&self, queued: Queued) -> Queued {
        let Queued { workspace, prompt_summary, runner, engine, log_path, events_path, origin, model } =
            queued;
        Queued {
            workspace: self.line(workspace),
            prompt_summary: self.line(prompt_summary),
            runner,
            engine: self.line(engine),
            log_path: self.line(log_path),
            events_path: self.line(events_path),
            origin,
            model: model.map(|model| self.line(model)),
        }
    }

    fn line(&self, text: String) -> String {
        self.bounded(text, MAX_TEXT)
    }

    /// Masks a text and bounds its length: markers may be longer than the text they replace.
    fn bounded(&self, text: String, most: usize) -> String {
        let Cow::Owned(masked) = self.text(&text) else { return text };
        text::truncate(&masked, most.max(text.len()))
    }
}
