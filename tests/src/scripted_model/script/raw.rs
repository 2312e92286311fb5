//! The file format of scripts: parsed into plain optional fields, then resolved into turns.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{
    Act, Answer, Call, Command, Deltas, Fault, PlanStep, Script, ScriptError, ToolCall, Turn, Usage,
};

/// Maximum of `repeat`. Scripts are kept in memory with repeated turns expanded, and no test needs more turns.
const MAX_REPEAT: usize = 100_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScript {
    name: Option<String>,
    turns: Vec<RawTurn>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawTurn {
    delay_ms: u64,
    repeat: Option<usize>,
    reasoning: Option<String>,
    message: Option<String>,
    commands: Vec<Command>,
    plan: Option<Vec<PlanStep>>,
    patch: Option<String>,
    search: Option<String>,
    tools: Vec<ToolCall>,
    deltas: Option<Deltas>,
    usage: Option<Usage>,
    hang: bool,
    stall_stream: bool,
    disconnect: bool,
    http_error: Option<RawHttpError>,
    failed: Option<RawFailed>,
    times: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttpError {
    status: u16,
    #[serde(default)]
    body: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFailed {
    code: String,
    message: String,
}

pub(super) fn parse(name: &str, json: &str) -> Result<Script, ScriptError> {
    let raw: RawScript =
        serde_json::from_str(json).map_err(|source| ScriptError::Parse { name: name.to_owned(), source })?;
    let mut script = Script { name: raw.name.unwrap_or_else(|| name.to_owned()), turns: Vec::new() };
    for (turn, raw) in raw.turns.into_iter().enumerate() {
        let repeat = raw.repeat.unwrap_or(1);
        let resolved = if (1..=MAX_REPEAT).contains(&repeat) {
            raw.resolve()
        } else {
            Err("repeat must be from 1 to 100000")
        };
        let resolved = resolved.map_err(|why| ScriptError::Turn { name: script.name.clone(), turn, why })?;
        script.turns.extend(std::iter::repeat_n(resolved, repeat));
    }
    Ok(script)
}

impl RawTurn {
    fn resolve(mut self) -> Result<Turn, &'static str> {
        let delay = Duration::from_millis(self.delay_ms);
        let mut faults = self.take_faults();
        let calls = self.take_calls();
        let has_content = self.reasoning.is_some() || self.message.is_some() || !calls.is_empty();
        let act = match (faults.pop(), has_content) {
            (Some(_), _) if !faults.is_empty() => return Err("more than one fault"),
            (Some(_), true) => return Err("a fault and an answer"),
            (Some(_), false) if self.usage.is_some() => return Err("a fault with usage"),
            (Some(_), false) if self.deltas.is_some() => return Err("a fault with deltas"),
            (Some(Fault::HttpError { status, .. }), _) if !(400..600).contains(&status) => {
                return Err("status must be from 400 to 599");
            }
            (Some(fault), false) => Act::Fault { fault, times: self.times },
            (None, _) if self.times.is_some() => return Err("times without a fault"),
            (None, false) => return Err("neither an answer nor a fault"),
            (None, true) => Act::Answer(Answer {
                reasoning: self.reasoning,
                message: self.message,
                calls,
                deltas: self.deltas.unwrap_or_default(),
                usage: self.usage.unwrap_or_default(),
            }),
        };
        Ok(Turn { delay, act })
    }

    fn take_faults(&mut self) -> Vec<Fault> {
        let flags = [
            (self.hang, Fault::Hang),
            (self.stall_stream, Fault::StallStream),
            (self.disconnect, Fault::Disconnect),
        ];
        let http = self.http_error.take().map(|e| Fault::HttpError { status: e.status, body: e.body });
        let failed = self.failed.take().map(|e| Fault::Failed { code: e.code, message: e.message });
        let flagged = flags.into_iter().filter_map(|(on, fault)| on.then_some(fault));
        flagged.chain(http).chain(failed).collect()
    }

    fn take_calls(&mut self) -> Vec<Call> {
        let commands = std::mem::take(&mut self.commands).into_iter().map(Call::Command);
        let plan = self.plan.take().map(Call::Plan);
        let patch = self.patch.take().map(Call::Patch);
        let search = self.search.take().map(Call::Search);
        let tools = std::mem::take(&mut self.tools).into_iter().map(Call::Tool);
        commands.chain(plan).chain(patch).chain(search).chain(tools).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_file_becomes_turns_with_repeats_expanded() {
        let json = r#"{"turns": [
            {"delay_ms": 5, "repeat": 2, "commands": [{"cmd": "true"}]},
            {"http_error": {"status": 500, "body": "no"}, "times": 1},
            {"message": "done", "deltas": {"count": 3}, "usage": {"input_tokens": 7}}
        ]}"#;
        let usage = Usage { input_tokens: 7, ..Usage::default() };
        let deltas = Deltas { count: 3, every_ms: 0 };
        let mut expected = Script::new("stem").run("true").run("true");
        expected.turns.iter_mut().for_each(|turn| turn.delay = Duration::from_millis(5));
        let expected = expected
            .then(Act::Fault { fault: Fault::HttpError { status: 500, body: "no".into() }, times: Some(1) })
            .then(Act::Answer(Answer { message: Some("done".into()), deltas, usage, ..Answer::default() }));
        similar_asserts::assert_eq!(Script::parse("stem", json).unwrap(), expected);
    }

    #[test]
    fn a_contradictory_turn_is_refused_with_its_index() {
        let cases = [
            (r"{}", "neither an answer nor a fault"),
            (r#"{"hang": true, "disconnect": true}"#, "more than one fault"),
            (r#"{"hang": true, "message": "x"}"#, "a fault and an answer"),
            (r#"{"hang": true, "deltas": {"count": 1}}"#, "a fault with deltas"),
            (r#"{"message": "x", "times": 1}"#, "times without a fault"),
            (r#"{"http_error": {"status": 200}}"#, "status must be from 400 to 599"),
            (r#"{"message": "x", "repeat": 0}"#, "repeat must be from 1 to 100000"),
        ];
        for (turn, why) in cases {
            let json = format!(r#"{{"name": "n", "turns": [{{"message": "ok"}}, {turn}]}}"#);
            let error = Script::parse("stem", &json).unwrap_err();
            assert_eq!(error.to_string(), format!("script n, turn 1: {why}"));
        }
    }

    #[test]
    fn an_unknown_key_of_a_turn_is_refused() {
        assert!(Script::parse("stem", r#"{"turns": [{"mesage": "x"}]}"#).is_err());
    }
}
