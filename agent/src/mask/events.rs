//! Masking of secrets in events.

use std::borrow::Cow;

use common::event::{ChangedFile, EventBody, JobError, MAX_TEXT, MAX_TITLE, PlanItem, Queued};
use common::evidence::{CheckEvidence, Evidence, MAX_COMMAND};
use common::text_format;

use super::Masker;

impl Masker {
    /// Returns an event without secrets in any of its texts. Each variant is destructured, so that a new field causes a
    /// compiler error here.
    pub(crate) fn mask_event(&self, body: EventBody) -> EventBody {
        if self.is_empty() {
            return body;
        }
        match body {
            EventBody::Queued(queued) => EventBody::Queued(Box::new(self.mask_queued(*queued))),
            EventBody::Accepted { agent, isolation, workspace_log } => EventBody::Accepted {
                agent: self.mask_field(agent),
                isolation,
                workspace_log: workspace_log.map(|path| self.mask_field(path)),
            },
            EventBody::Started { pid, thread_id } => {
                EventBody::Started { pid, thread_id: thread_id.map(|id| self.mask_field(id)) }
            }
            EventBody::StepStarted { n, kind, title, limit_ms, parent } => EventBody::StepStarted {
                n,
                kind,
                title: self.mask_bounded(title, MAX_TITLE),
                limit_ms,
                parent,
            },
            EventBody::Message { text } => EventBody::Message { text: self.mask_field(text) },
            EventBody::Plan { items } => {
                let masked =
                    |PlanItem { text, completed }| PlanItem { text: self.mask_field(text), completed };
                EventBody::Plan { items: items.into_iter().map(masked).collect() }
            }
            EventBody::FileChange { files } => {
                let masked = |ChangedFile { path, kind }| ChangedFile {
                    path: self.mask_field(path),
                    kind: self.mask_field(kind),
                };
                EventBody::FileChange { files: files.into_iter().map(masked).collect() }
            }
            EventBody::Warning { message } => EventBody::Warning { message: self.mask_field(message) },
            EventBody::Stalled { n, evidence } => {
                EventBody::Stalled { n, evidence: self.mask_field(evidence) }
            }
            EventBody::LinkLost { reason } => EventBody::LinkLost { reason: self.mask_field(reason) },
            EventBody::LinkRestored { agent } => EventBody::LinkRestored { agent: self.mask_field(agent) },
            EventBody::Stopping { reason } => EventBody::Stopping { reason: self.mask_field(reason) },
            EventBody::Finished { state, error, exit_code, changes } => {
                let error = error.map(|JobError { kind, message, step }| JobError {
                    kind,
                    message: self.mask_field(message),
                    step,
                });
                EventBody::Finished { state, error, exit_code, changes }
            }
            EventBody::Interrupted { n, reason } => {
                EventBody::Interrupted { n, reason: self.mask_field(reason) }
            }
            EventBody::Result(mut result) => {
                result.branch = self.mask_field(result.branch);
                result.base = self.mask_field(result.base);
                result.commit = result.commit.map(|commit| self.mask_field(commit));
                result.note = result.note.map(|note| self.mask_field(note));
                EventBody::Result(result)
            }
            EventBody::Evidence(evidence) => {
                let Evidence { codex_version, model, checks } = *evidence;
                let masked = |check: CheckEvidence| CheckEvidence {
                    command: self.mask_bounded(check.command, MAX_COMMAND),
                    command_sha256: self.mask_field(check.command_sha256),
                    output_sha256: self.mask_field(check.output_sha256),
                    ..check
                };
                EventBody::Evidence(Box::new(Evidence {
                    codex_version: codex_version.map(|version| self.mask_field(version)),
                    model: model.map(|model| self.mask_field(model)),
                    checks: checks.into_iter().map(masked).collect(),
                }))
            }
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
            // Only the relay writes these events.
            | EventBody::Waiting { reason: _ }
            | EventBody::FolderShared { jobs: _ }
            | EventBody::ModelUsage(_)
            | EventBody::ModelProblem { problem: _ }
            | EventBody::NetworkRefused(_)
            | EventBody::Extended { n: _, limit_ms: _ }) => textless,
        }
    }

    /// Masks a `queued` event. Only the relay writes this event, with data from the client. The origin contains only
    /// ids of sessions and jobs, so it is not masked.
    fn mask_queued(&self, queued: Queued) -> Queued {
        let Queued {
            workspace,
            prompt_summary,
            runner,
            engine,
            log_path,
            events_path,
            origin,
            model,
            folder_use,
            after,
            base_job,
            group,
        } = queued;
        Queued {
            workspace: self.mask_field(workspace),
            prompt_summary: self.mask_field(prompt_summary),
            runner,
            engine: self.mask_field(engine),
            log_path: self.mask_field(log_path),
            events_path: self.mask_field(events_path),
            origin,
            model: model.map(|model| self.mask_field(model)),
            folder_use,
            after,
            base_job,
            group,
        }
    }

    fn mask_field(&self, text: String) -> String {
        self.mask_bounded(text, MAX_TEXT)
    }

    /// Masks a text and truncates it: markers may be longer than the text they replace.
    fn mask_bounded(&self, text: String, max_bytes: usize) -> String {
        let Cow::Owned(masked) = self.mask_text(&text) else { return text };
        text_format::truncate(&masked, max_bytes.max(text.len()))
    }
}
