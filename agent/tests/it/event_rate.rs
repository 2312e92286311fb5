//! Measurement of the rate at which the agent delivers events to a relay that acknowledges at once.

use std::fs;

use crate::support::figures::{cpu_ms, figure, times};
use crate::support::{codex, relay_and_agent};
use common::event::EventBody;

#[tokio::test]
async fn a_flood_of_events_is_delivered_in_full_and_its_rate_is_measured() {
    let (mut relay, agent) = relay_and_agent().await;
    let commands = times(10_000, 50_000);
    let path = agent.dir.path().join("flood");
    fs::write(&path, codex::command_lines(commands)).unwrap();
    relay.start(&codex::job_spec(&agent, "flood#1", &codex::turn(&format!("cat {}", path.display())))).await;
    let cpu_before = cpu_ms(agent.child.id());
    let run = relay.until_completed("flood#1").await;
    let steps = run.finished_step_count();
    assert!(steps >= commands, "{steps}");
    let time_of =
        |matches: fn(&EventBody) -> bool| run.events.iter().find(|event| matches(&event.body)).unwrap().at;
    let begun = time_of(|body| matches!(body, EventBody::Started { .. }));
    let ended = time_of(|body| matches!(body, EventBody::Finished { .. }));
    let (events, took) = (run.events.len() as u64, ended.duration_since(begun).as_secs_f64());
    let cpu = cpu_ms(agent.child.id()) - cpu_before;
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousand events")]
    let (rate, each) = (events as f64 / took, cpu as f64 * 1000.0 / events as f64);
    figure(&format!(
        "flood of {events} events, acknowledged at once: {rate:.0} /s, {each:.1} µs of the agent's CPU each"
    ));
}
