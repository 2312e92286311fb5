//! Evidence for a job's receipt: the checks that ran, with their exit codes, and the version and model of Codex.

use common::event::EventBody;
use common::evidence::{CheckEvidence, Evidence, MAX_CHECKS, MAX_COMMAND};
use common::job::Runner;
use common::text_format;
use sha2::{Digest, Sha256};

use super::check_output_digest::OutputDigest;
use super::running_command::RunningCommand;
use super::stage::Stage;
use super::supervisor::Supervisor;

impl Supervisor {
    /// Notes the result of a check that has ended.
    pub(super) fn note_check(&mut self, running: &RunningCommand, exit_code: Option<i32>) {
        let Stage::Check(line) = &running.stage else { return };
        if self.checks.len() >= MAX_CHECKS {
            return;
        }
        let OutputDigest { sha256, bytes } = running.check_output_digest.clone();
        self.checks.push(CheckEvidence {
            command: text_format::one_line(line, MAX_COMMAND),
            command_sha256: hex::encode(Sha256::digest(line.as_bytes())),
            exit_code: exit_code.filter(|_| self.end_reason.is_none()),
            output_sha256: hex::encode(sha256.finalize()),
            output_bytes: bytes,
        });
    }

    /// Returns the evidence of a job with a clone of its own. Other jobs get no receipt.
    pub(super) fn evidence(&mut self, has_place: bool) -> Option<EventBody> {
        let is_codex = self.spec.runner == Runner::Codex;
        has_place.then(|| {
            EventBody::Evidence(Box::new(Evidence {
                codex_version: self.resources.codex_version.clone().filter(|_| is_codex),
                model: self.spec.codex.model.clone().filter(|_| is_codex),
                checks: std::mem::take(&mut self.checks),
            }))
        })
    }
}
