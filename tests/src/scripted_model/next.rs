//! Choice of the next response, from a script and the outputs of a thread so far.

use super::call_id::CallId;
use super::request::{Output, RequestFacts};
use super::script::{Act, Call, Script, Turn};

/// The next response to a thread.
#[derive(Clone, Debug, PartialEq)]
pub enum Next<'a> {
    /// Plays this turn.
    Play {
        /// Index of the turn in the script.
        index: usize,
        /// Turn at that index.
        turn: &'a Turn,
    },
    /// Waits for commands of the last turn that are still running.
    Poll(Vec<Poll>),
    /// Says that the script is over.
    Over,
}

/// A call that waits for a running command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Id of the poll.
    pub id: CallId,
    /// Session that Codex assigned to the command.
    pub session: u64,
}

/// Chooses the next response. `answered` returns the number of requests of this thread that a turn has already
/// answered; it is called only for faults with a limited number of repetitions.
pub fn next<'a>(script: &'a Script, facts: &RequestFacts, answered: impl Fn(usize) -> usize) -> Next<'a> {
    let Some(last) = facts.outputs.iter().map(|output| output.id.turn).max() else {
        return play_from(script, 0, answered);
    };
    let polls = polls(script, facts, last);
    if polls.is_empty() { play_from(script, last + 1, answered) } else { Next::Poll(polls) }
}

/// Plays the first turn from `start` that is not an exhausted fault.
fn play_from(script: &Script, start: usize, answered: impl Fn(usize) -> usize) -> Next<'_> {
    let is_exhausted = |index: usize, turn: &Turn| match turn.act {
        Act::Fault { times: Some(times), .. } => answered(index) >= times,
        _ => false,
    };
    let mut turns = script.turns.iter().enumerate().skip(start);
    match turns.find(|(index, turn)| !is_exhausted(*index, turn)) {
        Some((index, turn)) => Next::Play { index, turn },
        None => Next::Over,
    }
}

/// Returns a poll for each command of a turn whose newest output says that it is still running.
fn polls(script: &Script, facts: &RequestFacts, turn: usize) -> Vec<Poll> {
    let Some(Act::Answer(answer)) = script.turns.get(turn).map(|turn| &turn.act) else { return Vec::new() };
    let newest = |call: usize| {
        let of_call = |output: &&Output| output.id.turn == turn && output.id.call == call;
        facts.outputs.iter().rev().find(of_call)
    };
    let waited_for = |call: &Call| matches!(call, Call::Command(command) if !command.background);
    let calls = answer.calls.iter().enumerate().filter(|(_, call)| waited_for(call));
    calls
        .filter_map(|(index, _)| {
            let output = newest(index)?;
            let id = CallId { poll: output.id.poll + 1, nonce: facts.items, ..output.id };
            Some(Poll { id, session: output.running_session? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::script::{Answer, Command, Fault};
    use super::*;

    fn output(id: &str, running_session: Option<u64>) -> Output {
        Output { id: id.parse().unwrap(), running_session }
    }

    fn facts(outputs: Vec<Output>) -> RequestFacts {
        RequestFacts { outputs, items: 9, ..RequestFacts::default() }
    }

    fn index(next: &Next<'_>) -> usize {
        match next {
            Next::Play { index, .. } => *index,
            other => panic!("{other:?}"),
        }
    }

    fn two_commands(background: bool) -> Script {
        let command = |cmd: &str| {
            Call::Command(Command { cmd: cmd.into(), yield_time_ms: 250, workdir: None, background })
        };
        let calls = vec![command("a"), command("b")];
        Script::new("s").then(Act::Answer(Answer { calls, ..Answer::default() })).say("done")
    }

    #[test]
    fn a_thread_plays_one_turn_after_the_other_until_the_script_is_over() {
        let script = Script::new("s").run("a").run("b").say("done");
        assert_eq!(index(&next(&script, &facts(vec![]), |_| 0)), 0);
        let mut outputs = vec![output("t0c0p0n1", None)];
        assert_eq!(index(&next(&script, &facts(outputs.clone()), |_| 0)), 1);
        outputs.push(output("t1c0p0n3", None));
        assert_eq!(index(&next(&script, &facts(outputs.clone()), |_| 0)), 2);
        outputs.push(output("t2c0p0n5", None));
        assert_eq!(next(&script, &facts(outputs), |_| 0), Next::Over);
    }

    #[test]
    fn parallel_calls_are_one_turn() {
        let both = facts(vec![output("t0c0p0n1", None), output("t0c1p0n1", None)]);
        assert_eq!(index(&next(&two_commands(false), &both, |_| 0)), 1);
    }

    #[test]
    fn a_command_that_still_runs_is_polled_until_it_ends() {
        let script = two_commands(false);
        let mut outputs = vec![output("t0c0p0n1", None), output("t0c1p0n1", Some(77))];
        let poll = |id: &str| Next::Poll(vec![Poll { id: id.parse().unwrap(), session: 77 }]);
        assert_eq!(next(&script, &facts(outputs.clone()), |_| 0), poll("t0c1p1n9"));
        outputs.push(output("t0c1p1n5", Some(77)));
        assert_eq!(next(&script, &facts(outputs.clone()), |_| 0), poll("t0c1p2n9"));
        outputs.push(output("t0c1p2n7", None));
        assert_eq!(index(&next(&script, &facts(outputs), |_| 0)), 1);
    }

    #[test]
    fn a_background_command_is_not_polled() {
        let running = facts(vec![output("t0c0p0n1", Some(1)), output("t0c1p0n1", Some(2))]);
        assert_eq!(index(&next(&two_commands(true), &running, |_| 0)), 1);
    }

    #[test]
    fn a_fault_with_a_limited_count_is_followed_by_the_next_turn() {
        let fault = Act::Fault { fault: Fault::Hang, times: Some(2) };
        let script = Script::new("s").then(fault).say("done");
        assert_eq!(index(&next(&script, &facts(vec![]), |_| 1)), 0);
        assert_eq!(index(&next(&script, &facts(vec![]), |_| 2)), 1);
        let lasting = Script::new("s").fault(Fault::Hang).say("never");
        assert_eq!(index(&next(&lasting, &facts(vec![]), |_| 1_000)), 0);
    }
}
