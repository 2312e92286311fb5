//! Parser of container events: one line of `docker events` or `podman events`. Pure.

use serde_json::Value;

use super::job_box::box_of_labels;
use crate::engine_kind::EngineKind;
use crate::job_box::BoxId;

/// Maximum length of a line that is read, in bytes. A line contains the labels of the image, which are short.
pub const MAX_LINE_BYTES: usize = 64 * 1024;
/// Exit code of a process that ended by SIGTERM: 128 + 15.
const EXIT_TERMINATED: i32 = 143;
/// Exit code of the agent after it has ended its workers on SIGTERM.
const EXIT_IN_ORDER: i32 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerEvent {
    Started,
    /// The container's first process ended.
    Died {
        /// Exit code, if the engine reports it.
        exit_code: Option<i32>,
    },
    /// The kernel killed one of the container's processes because of the container's memory limit.
    OutOfMemory,
    /// The engine was asked to stop the container. Docker reports this after the exit, podman before it or never: see
    /// [`implies_stop`].
    Stopped,
    /// The container's processes were frozen.
    Paused,
    /// The container's processes continue.
    Unpaused,
    Removed,
}

/// Parses a line. Returns `None` for events of other kinds. Returns the box that the event is about, if it is one.
///
/// Docker writes `{"Type":"container","Action":"die","Actor":{"Attributes":{"exitCode":"137",…}},…}`, podman
/// `{"Type":"container","Status":"died","ContainerExitCode":137,…}`.
pub fn parse_event(line: &[u8]) -> Option<(Option<BoxId>, ContainerEvent)> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let label = |name: &str| attributes(&event).find_map(|all| all.get(name)?.as_str());
    Some((box_of_labels(label), parse_kind(&event)?))
}

fn parse_kind(event: &Value) -> Option<ContainerEvent> {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    if text("Type").is_some_and(|kind| kind != "container") {
        return None;
    }
    match text("Action").or_else(|| text("Status")).or_else(|| text("status"))? {
        "start" | "restart" => Some(ContainerEvent::Started),
        "die" => Some(ContainerEvent::Died { exit_code: docker_exit_code(event) }),
        "died" => Some(ContainerEvent::Died { exit_code: podman_exit_code(event) }),
        "oom" => Some(ContainerEvent::OutOfMemory),
        "stop" => Some(ContainerEvent::Stopped),
        "pause" => Some(ContainerEvent::Paused),
        "unpause" => Some(ContainerEvent::Unpaused),
        "destroy" | "remove" => Some(ContainerEvent::Removed),
        _ => None,
    }
}

/// Returns true if an exit with this code may be the only sign of a stop by a person. Podman reports no stop of a
/// container that ends at once.
pub fn implies_stop(engine: EngineKind, exit_code: Option<i32>) -> bool {
    engine == EngineKind::Podman && matches!(exit_code, Some(EXIT_IN_ORDER | EXIT_TERMINATED))
}

/// Returns the attributes of an event, which contain the labels of the container.
fn attributes(event: &Value) -> impl Iterator<Item = &Value> {
    [event.pointer("/Actor/Attributes"), event.get("Attributes")].into_iter().flatten()
}

fn docker_exit_code(event: &Value) -> Option<i32> {
    attributes(event).find_map(|all| all.get("exitCode")?.as_str()?.parse().ok())
}

/// Returns the exit code of an event of podman, which omits the code 0.
fn podman_exit_code(event: &Value) -> Option<i32> {
    event.get("ContainerExitCode").map_or(Some(0), |code| code.as_i64()?.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job_identity::JobIdentity;

    fn parse_recorded(lines: &[u8]) -> Vec<ContainerEvent> {
        lines.split(|byte| *byte == b'\n').filter_map(parse_event).map(|(_, event)| event).collect()
    }

    #[test]
    fn all_recorded_events_of_a_docker_container_are_parsed() {
        let events = parse_recorded(include_bytes!("recorded/docker-events.jsonl"));
        let died = |code| ContainerEvent::Died { exit_code: Some(code) };
        let expected = [
            ContainerEvent::Started,
            ContainerEvent::Paused,
            ContainerEvent::Unpaused,
            died(137),
            ContainerEvent::Started,
            died(143),
            ContainerEvent::Stopped,
            ContainerEvent::Started,
            ContainerEvent::OutOfMemory,
            died(137),
            ContainerEvent::Removed,
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn all_recorded_events_of_a_podman_container_are_parsed() {
        let events = parse_recorded(include_bytes!("recorded/podman-events.jsonl"));
        let died = |code| ContainerEvent::Died { exit_code: Some(code) };
        let expected = [
            ContainerEvent::Started,
            ContainerEvent::Paused,
            ContainerEvent::Unpaused,
            died(137),
            ContainerEvent::Started,
            died(143),
            ContainerEvent::Started,
            died(0),
            ContainerEvent::Removed,
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn the_event_of_a_box_names_its_job_and_run() {
        let labels = r#""relay.job":"demo.1","relay.epoch":"1","relay.launched":"5""#;
        let expected = BoxId::new(JobIdentity::for_test("demo#1", 5), 1);
        let docker = format!(r#"{{"Action":"destroy","Actor":{{"Attributes":{{{labels}}}}}}}"#);
        assert_eq!(parse_event(docker.as_bytes()), Some((Some(expected.clone()), ContainerEvent::Removed)));
        let podman = format!(r#"{{"Status":"remove","Attributes":{{{labels}}}}}"#);
        assert_eq!(parse_event(podman.as_bytes()), Some((Some(expected), ContainerEvent::Removed)));
    }

    #[test]
    fn only_an_exit_in_order_or_by_sigterm_in_podman_implies_a_stop() {
        assert!(implies_stop(EngineKind::Podman, Some(0)) && implies_stop(EngineKind::Podman, Some(143)));
        assert!(!implies_stop(EngineKind::Podman, Some(137)) && !implies_stop(EngineKind::Podman, None));
        // Docker reports the stop itself.
        assert!(!implies_stop(EngineKind::Docker, Some(143)));
    }

    #[test]
    fn other_lines_are_ignored_and_an_invalid_exit_code_is_unknown() {
        let others: [&[u8]; 6] = [
            b"",
            b"Error: cannot connect",
            b"[1, 2]",
            br#"{"Type":"network","Action":"disconnect"}"#,
            br#"{"Type":"container","Action":"exec_create: die"}"#,
            br#"{"Type":"container","Action":7}"#,
        ];
        for line in others {
            assert_eq!(parse_event(line), None, "{}", String::from_utf8_lossy(line));
        }
        let invalid_exit_code = br#"{"Action":"die","Actor":{"Attributes":{"exitCode":"many"}}}"#;
        assert_eq!(parse_event(invalid_exit_code), Some((None, ContainerEvent::Died { exit_code: None })));
    }
}
