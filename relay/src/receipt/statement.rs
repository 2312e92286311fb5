//! Statement of a receipt: an in-toto statement with the test-result predicate. Without side effects.
//!
//! The annotation `reportedBy` names the source of each fact: `relay` for a fact that relay computed from the job's
//! repository, `agent` for a fact that the agent reported over its own connection.

use common::evidence::{CheckEvidence, Evidence};
use common::record::{JobRecord, State};
use common::result::JobResult;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::git::digest::{ChangeDigest, DIFF_COMMAND};

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://in-toto.io/attestation/test-result/v0.1";
/// Media type of a diff.
const DIFF_MEDIA_TYPE: &str = "text/x-diff";

/// An in-toto statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    #[serde(rename = "_type")]
    type_uri: String,
    subject: Vec<Resource>,
    predicate_type: String,
    predicate: TestResult,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TestResult {
    result: String,
    configuration: Vec<Resource>,
    passed_tests: Vec<String>,
    failed_tests: Vec<String>,
}

/// A resource descriptor of in-toto.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resource {
    name: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    digest: Map<String, Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    media_type: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    annotations: Map<String, Value>,
}

/// Facts from which the statement of a receipt is built.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Record of the job, which has ended.
    pub record: &'a JobRecord,
    pub result: &'a JobResult,
    /// Newest commit of the result.
    pub commit: &'a str,
    pub digest: &'a ChangeDigest,
    /// Agent's report, as it came over the agent's connection. `None` if an earlier relay received the report: the
    /// registry's copy of the report is not signed.
    pub evidence: Option<&'a Evidence>,
}

/// Facts of a statement that `relay verify` checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub job: String,
    pub base: String,
    pub commit: String,
    pub diff_sha256: String,
    /// Checks that ran; `None` if the receipt says nothing about them.
    pub checks: Option<Vec<CheckClaim>>,
}

/// Facts of a statement about one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckClaim {
    pub command_sha256: String,
    pub exit_code: Option<i32>,
    pub output_sha256: String,
}

impl Statement {
    /// Builds the statement of a job.
    pub fn new(facts: &Facts<'_>) -> Self {
        let Facts { result, commit, evidence, .. } = facts;
        let mut configuration = vec![job_resource(facts), base_resource(facts), diff_resource(facts)];
        let mut tests = [Vec::new(), Vec::new()];
        if let Some(evidence) = evidence {
            configuration.push(worker_resource(facts.record, evidence));
            for (index, check) in evidence.checks.iter().enumerate() {
                configuration.push(check_resource(index, check));
                tests[usize::from(!check.has_passed())].push(check.command.clone());
            }
        }
        let [passed_tests, failed_tests] = tests;
        Self {
            type_uri: STATEMENT_TYPE.to_owned(),
            subject: vec![Resource {
                name: result.branch.clone(),
                digest: git_commit(commit),
                ..Resource::default()
            }],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: TestResult {
                result: test_result(facts.record.state, &passed_tests, &failed_tests).to_owned(),
                configuration,
                passed_tests,
                failed_tests,
            },
        }
    }

    /// Reads the claims about a job from the JSON of a statement.
    ///
    /// # Errors
    /// Returns one line that says what is missing or unreadable.
    pub fn claims(bytes: &[u8]) -> Result<Claims, String> {
        let statement: Self =
            serde_json::from_slice(bytes).map_err(|e| format!("its statement can't be read: {e}"))?;
        if statement.predicate_type != PREDICATE_TYPE {
            return Err("its statement is not a test result".to_owned());
        }
        let text = |map: &Map<String, Value>, key: &str| map.get(key)?.as_str().map(str::to_owned);
        let configuration = &statement.predicate.configuration;
        let part = |name: &str| configuration.iter().find(|part| part.name == name);
        let commit = statement.subject.first().and_then(|subject| text(&subject.digest, "gitCommit"));
        let checks = configuration.iter().filter(|part| part.name.starts_with("check "));
        let checks = checks.map(|part| CheckClaim {
            command_sha256: text(&part.digest, "sha256").unwrap_or_default(),
            exit_code: part
                .annotations
                .get("exitCode")
                .and_then(Value::as_i64)
                .and_then(|code| code.try_into().ok()),
            output_sha256: text(&part.annotations, "outputSha256").unwrap_or_default(),
        });
        Ok(Claims {
            job: part("job")
                .and_then(|job| text(&job.annotations, "job"))
                .ok_or("its statement names no job")?,
            base: part("base")
                .and_then(|base| text(&base.digest, "gitCommit"))
                .ok_or("its statement names no base")?,
            commit: commit.ok_or("its statement names no commit")?,
            diff_sha256: part("diff").and_then(|diff| text(&diff.digest, "sha256")).unwrap_or_default(),
            checks: part("worker").is_some().then(|| checks.collect()),
        })
    }
}

/// Returns the result for the predicate: `PASSED` only if the job completed, and if one or more checks ran and passed.
fn test_result(state: State, passed_checks: &[String], failed_checks: &[String]) -> &'static str {
    match state {
        State::Completed if !failed_checks.is_empty() => "FAILED",
        State::Completed if passed_checks.is_empty() => "WARNED",
        State::Completed => "PASSED",
        _ => "FAILED",
    }
}

fn job_resource(facts: &Facts<'_>) -> Resource {
    let JobRecord { job, state, created_at, started_at, finished_at, engine, isolation, error, .. } =
        facts.record;
    let reported_by = if facts.evidence.is_some() { "agent" } else { "event log of an earlier relay" };
    let mut fields = json!({
        "job": job, "state": state, "createdAt": created_at, "startedAt": started_at, "finishedAt": finished_at,
        "engine": engine, "isolation": isolation, "relayVersion": env!("CARGO_PKG_VERSION"),
        "reportedBy": reported_by,
    });
    if let Some(error) = error {
        fields["failure"] = json!(error.kind);
    }
    Resource { name: "job".to_owned(), annotations: annotations(fields), ..Resource::default() }
}

fn base_resource(facts: &Facts<'_>) -> Resource {
    Resource {
        name: "base".to_owned(),
        digest: git_commit(&facts.result.base),
        annotations: annotations(json!({"reportedBy": "relay"})),
        ..Resource::default()
    }
}

fn diff_resource(facts: &Facts<'_>) -> Resource {
    let JobResult { commits, files, insertions, deletions, .. } = facts.result;
    Resource {
        name: "diff".to_owned(),
        digest: digest_map("sha256", &facts.digest.diff_sha256),
        media_type: DIFF_MEDIA_TYPE.to_owned(),
        annotations: annotations(json!({
            "command": format!("{DIFF_COMMAND} {} {}", facts.result.base, facts.commit),
            "bytes": facts.digest.diff_bytes, "commits": commits, "files": files, "insertions": insertions,
            "deletions": deletions, "gitTree": facts.digest.tree, "reportedBy": "relay",
        })),
    }
}

fn worker_resource(record: &JobRecord, evidence: &Evidence) -> Resource {
    let mut fields = json!({
        "runner": record.runner, "model": evidence.model, "codexVersion": evidence.codex_version,
        "reportedBy": "agent",
    });
    if let Some(cleanup) = record.cleanup {
        (fields["processesKilled"], fields["processesLeft"]) =
            (json!(cleanup.killed), json!(cleanup.survivors));
    }
    if let Some(usage) = record.usage {
        fields["tokens"] = json!({
            "input": usage.input_tokens, "cachedInput": usage.cached_input_tokens,
            "output": usage.output_tokens, "reasoningOutput": usage.reasoning_output_tokens,
            "scope": if record.has_usage_of_thread() { "thread" } else { "job" },
        });
    }
    Resource { name: "worker".to_owned(), annotations: annotations(fields), ..Resource::default() }
}

fn check_resource(index: usize, check: &CheckEvidence) -> Resource {
    Resource {
        name: format!("check {}", index + 1),
        digest: digest_map("sha256", &check.command_sha256),
        annotations: annotations(json!({
            "command": check.command, "exitCode": check.exit_code, "outputSha256": check.output_sha256,
            "outputBytes": check.output_bytes, "reportedBy": "agent",
        })),
        ..Resource::default()
    }
}

fn git_commit(id: &str) -> Map<String, Value> {
    digest_map("gitCommit", id)
}

fn digest_map(algorithm: &str, value: &str) -> Map<String, Value> {
    Map::from_iter([(algorithm.to_owned(), value.into())])
}

fn annotations(fields: Value) -> Map<String, Value> {
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use common::event::{FailureKind, JobError, Queued};
    use common::result::ResultState;

    use super::*;

    fn record(state: State) -> JobRecord {
        let queued = Queued { engine: "local".to_owned(), ..Queued::default() };
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        let mut record = JobRecord::from_queued("demo#1".parse().unwrap(), at, &queued);
        record.state = state;
        record.usage = Some(common::event::Usage { input_tokens: 5, ..Default::default() });
        record.cleanup = Some(common::record::Cleanup { killed: 1, survivors: 0 });
        record
    }

    fn evidence(exit_codes: &[i32]) -> Evidence {
        let check = |(at, code): (usize, &i32)| CheckEvidence {
            command: format!("check {at}"),
            command_sha256: format!("c{at}"),
            exit_code: Some(*code),
            output_sha256: format!("o{at}"),
            output_bytes: 1,
        };
        Evidence {
            codex_version: Some("0.169.0".to_owned()),
            model: None,
            checks: exit_codes.iter().enumerate().map(check).collect(),
        }
    }

    fn statement_json(record: &JobRecord, evidence: Option<&Evidence>) -> Value {
        let mut result = JobResult::none("relay/demo-1".to_owned(), "b".repeat(40));
        result.state = ResultState::Open;
        let digest = ChangeDigest { tree: "t".to_owned(), diff_sha256: "d".to_owned(), diff_bytes: 7 };
        let commit = "c".repeat(40);
        let facts = Facts { record, result: &result, commit: &commit, digest: &digest, evidence };
        serde_json::to_value(Statement::new(&facts)).unwrap()
    }

    #[test]
    fn a_statement_lists_the_checks_and_names_the_source_of_each_fact() {
        let statement = statement_json(&record(State::Completed), Some(&evidence(&[0, 0])));
        assert_eq!(statement["_type"], STATEMENT_TYPE);
        let subject = json!([{"name": "relay/demo-1", "digest": {"gitCommit": "c".repeat(40)}}]);
        assert_eq!(statement["subject"], subject);
        let predicate = &statement["predicate"];
        assert_eq!(predicate["result"], "PASSED");
        assert_eq!(predicate["passedTests"], json!(["check 0", "check 1"]));
        let parts: Vec<(&str, &str)> = predicate["configuration"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| (part["name"].as_str().unwrap(), part["annotations"]["reportedBy"].as_str().unwrap()))
            .collect();
        let expected = [
            ("job", "agent"),
            ("base", "relay"),
            ("diff", "relay"),
            ("worker", "agent"),
            ("check 1", "agent"),
            ("check 2", "agent"),
        ];
        assert_eq!(parts, expected);
        let worker = &predicate["configuration"][3]["annotations"];
        assert_eq!((&worker["processesKilled"], &worker["codexVersion"]), (&json!(1), &json!("0.169.0")));
        assert_eq!(worker["tokens"]["input"], 5);

        let claims = Statement::claims(&serde_json::to_vec(&statement).unwrap()).unwrap();
        assert_eq!((&*claims.job, &*claims.diff_sha256), ("demo#1", "d"));
        assert_eq!((claims.base, claims.commit), ("b".repeat(40), "c".repeat(40)));
        let checks = claims.checks.unwrap();
        assert_eq!((checks.len(), checks[1].exit_code, &*checks[1].command_sha256), (2, Some(0), "c1"));
    }

    #[test]
    fn a_job_passes_only_if_it_was_completed_and_checked() {
        let result = |state, exit_codes: &[i32]| {
            let mut record = record(state);
            if state == State::Failed {
                let kind = FailureKind::CheckFailed;
                record.error = Some(JobError { kind, message: String::new(), step: None });
            }
            statement_json(&record, Some(&evidence(exit_codes)))["predicate"]["result"].clone()
        };
        assert_eq!(result(State::Completed, &[0]), "PASSED");
        assert_eq!(result(State::Completed, &[]), "WARNED");
        assert_eq!(result(State::Failed, &[0, 1]), "FAILED");
        assert_eq!(result(State::Cancelled, &[0]), "FAILED");
    }

    #[test]
    fn a_report_that_did_not_come_over_the_agents_connection_is_not_claimed() {
        let mut stored = record(State::Completed);
        stored.evidence = Some(evidence(&[0]));
        let statement = statement_json(&stored, None);
        assert_eq!(statement["predicate"]["result"], "WARNED");
        assert_eq!(statement["predicate"]["configuration"].as_array().unwrap().len(), 3);
        let claims = Statement::claims(&serde_json::to_vec(&statement).unwrap()).unwrap();
        assert_eq!(claims.checks, None);
    }
}
