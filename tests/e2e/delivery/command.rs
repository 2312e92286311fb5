//! Delivery of completion notices to the command that the user has configured.

use relay_tests::harness::processes::count_by_variable;
use relay_tests::harness::{Engine, Site, until};
use serde_json::Value;

use super::{outbox_entry, wait_for_channel};

#[test]
fn a_command_gets_the_record_and_a_hanging_one_delays_no_other_notice() {
    let site = Site::new(Engine::Local);
    // relay refuses a program in the project or in a folder for temporary files, where a session could change it.
    let outside = tempfile::tempdir_in(site.root().parent().unwrap()).unwrap();
    let program = outside.path().join("told");
    std::fs::write(
        &program,
        "#!/bin/sh\ncase $RELAY_JOB in hang*) sleep 1000;; esac\n\
         cat >got.$RELAY_JOB.json\necho \"$RELAY_STATE $RELAY_REASON $RELAY_DELIVERY $1\" >got.$RELAY_JOB\n",
    )
    .unwrap();
    site.configure(&format!(
        "[notify]\ncommand = [\"sh\", \"{}\", \"argument\"]\non = [\"failed\", \"completed\"]\n",
        program.display()
    ));
    site.relay(&["up"]);
    for n in 1..=2 {
        site.launch_shell("true", &["-n", &format!("hang{n}")]);
    }
    until("two of them hang", || (count_by_variable("RELAY_DELIVERY").len() == 2).then_some(()));
    let job = site.launch_shell("exit 3", &["-n", "bad"]);
    wait_for_channel(&site, &job, "command", "taken");
    let record = site.record(&job);
    let received = std::fs::read_to_string(site.root().join("got.bad#1")).unwrap();
    let expected = format!("failed exited bad.1-{} argument\n", record.created_at.as_millisecond());
    assert_eq!(received, expected);
    let json = std::fs::read(site.root().join("got.bad#1.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&json).unwrap()["job"], "bad#1");

    let job = site.launch_running("sleep 1000", &["-n", "gone"]);
    site.relay(&["cancel", &job]);
    let ways = until("the notice is in the outbox", || outbox_entry(&site, &job).get("ways").cloned());
    assert_eq!(ways, serde_json::json!({}), "no channel gets notices of cancelled jobs");

    site.relay(&["down", "--force"]);
    until("the hanging commands have ended with the relay", || {
        count_by_variable("RELAY_DELIVERY").is_empty().then_some(())
    });
    assert_eq!(outbox_entry(&site, "hang1#1")["ways"]["command"]["state"], "pending");
}
