//! Notifications through the user's own program.

use relay_tests::harness::processes::by_environment;
use relay_tests::harness::{Engine, Site, until};
use serde_json::Value;

use super::{entry, way_is};

#[test]
fn a_command_gets_the_record_and_one_that_hangs_holds_nobody_up() {
    let site = Site::new(Engine::Local);
    // Outside of every folder where a session could change it: the project and the folders for temporary files.
    let outside = tempfile::tempdir_in(site.root().parent().unwrap()).unwrap();
    let told = outside.path().join("told");
    std::fs::write(
        &told,
        "#!/bin/sh\ncase $RELAY_JOB in hang*) sleep 1000;; esac\n\
         cat >got.$RELAY_JOB.json\necho \"$RELAY_STATE $RELAY_REASON $RELAY_DELIVERY $1\" >got.$RELAY_JOB\n",
    )
    .unwrap();
    site.configure(&format!(
        "[notify]\ncommand = [\"sh\", \"{}\", \"argument\"]\non = [\"failed\", \"completed\"]\n",
        told.display()
    ));
    site.relay(&["up"]);
    for n in 1..=2 {
        site.launch_shell("true", &["-n", &format!("hang{n}")]);
    }
    until("two of them hang", || (by_environment("RELAY_DELIVERY").len() == 2).then_some(()));
    let job = site.launch_shell("exit 3", &["-n", "bad"]);
    way_is(&site, &job, "command", "taken");
    let record = site.record(&job);
    let told = std::fs::read_to_string(site.root().join("got.bad#1")).unwrap();
    let expected = format!("failed exited bad.1-{} argument\n", record.created_at.as_millisecond());
    assert_eq!(told, expected);
    let json = std::fs::read(site.root().join("got.bad#1.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&json).unwrap()["job"], "bad#1");

    let job = site.launch_running("sleep 1000", &["-n", "gone"]);
    site.relay(&["cancel", &job]);
    let ways = until("the end is in the outbox", || entry(&site, &job).get("ways").cloned());
    assert_eq!(ways, serde_json::json!({}), "nobody wants to know of cancelled jobs");

    site.relay(&["down", "--force"]);
    until("what hangs has ended with the relay", || {
        by_environment("RELAY_DELIVERY").is_empty().then_some(())
    });
    assert_eq!(entry(&site, "hang1#1")["ways"]["command"]["state"], "pending");
}
