//! Tests of the shim alone: interrupted steps, processes that a command leaves, and processes that resist their end.

use std::time::{Duration, Instant};

use crate::support::figures::{figure, ms, p99, times};
use crate::support::shim::{Shim, children, end_request, process_identity};
use crate::support::{DEADLINE, LONG_GRACE_MS, MAX_PROMPT_END, mark, processes};
use serde_json::{Value, json};

/// Time from TERM to KILL for processes that a command leaves.
const LEFTOVER_GRACE: Duration = Duration::from_millis(300);

/// Waits until `poll` returns a value. `what` names the fact for the message of a failure.
fn until<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Returns the processes `sleep MARK`, without shells whose command lines contain these words.
fn sleeping(mark: &str) -> Vec<u32> {
    let exact = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line == format!("sleep\0{mark}\0").into_bytes()
    };
    processes(mark).into_iter().filter(exact).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_step_is_killed_with_all_its_descendants_while_the_command_goes_on() {
    let (step, rest) = (mark(), mark());
    let line = format!(
        "sleep {rest} & setsid -w sh -c 'setsid sleep {step} & (sleep {step} &) ; sleep {step}; true'; \
         echo after $?; sleep {rest}"
    );
    let mut shim = Shim::run(&line);
    until("three sleep", || (sleeping(&step).len() == 3).then_some(()));
    // The root of the step is the `sh` that `setsid -w` waits for.
    let step_root = processes(&step).into_iter().find(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with("sh\0-c\0setsid")
    });
    let begun = Instant::now();
    shim.request_kill(process_identity(step_root.unwrap()));
    assert_eq!(shim.read_line(), "after 137");
    let took = begun.elapsed();
    until("the step's processes are gone", || sleeping(&step).is_empty().then_some(()));
    until("the command goes on", || (sleeping(&rest).len() == 2).then_some(()));
    assert!(took < MAX_PROMPT_END, "{took:?}");
    figure(&format!("interrupted step: its parent saw 137 after {}", ms(took)));
    shim.request_end(Duration::from_secs(1));
    assert_eq!(shim.wait_exit(), 128 + 15);
    assert_eq!(shim.wait_end(), (3, 0));
}

#[test]
fn processes_of_a_step_get_term_and_orphans_that_ignore_it_are_killed() {
    let (step, rest) = (mark(), mark());
    let part = format!(
        "trap \\\"echo tidied; exit 5\\\" TERM; (trap \\\"\\\" TERM; exec sleep {step}) & echo \\$\\$; wait"
    );
    let mut shim = Shim::run(&format!("sh -c \"{part}\" & wait $!; echo after $?; sleep {rest}"));
    let root: u32 = shim.read_line().parse().unwrap();
    until("its child ignores TERM", || (sleeping(&step).len() == 1).then_some(()));
    let begun = Instant::now();
    shim.request_subtree_end(process_identity(root), 1000);
    assert_eq!([shim.read_line(), shim.read_line()], ["tidied", "after 5"]);
    until("the child that ignores TERM is killed, though its parent is gone", || {
        sleeping(&step).is_empty().then_some(())
    });
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    until("the command goes on", || (sleeping(&rest).len() == 1).then_some(()));
}

#[test]
fn t05_a_process_id_that_was_reused_is_never_signalled() {
    // Only root may choose the next process id, and only in its own process namespace.
    if !is_root() {
        return;
    }
    let (mark, fence) = (mark(), mark());
    let line = format!(
        "sleep {fence} & f=$!; cat /proc/$f/stat; \
         sleep {mark} & a=$!; cat /proc/$a/stat; kill -9 $a; wait $a; sleep 0.1; \
         echo $((a-1)) > /proc/sys/kernel/ns_last_pid; sleep {mark} & b=$!; cat /proc/$b/stat; \
         wait $f; echo $?; wait $b; echo $?; sleep {mark}"
    );
    let wrapper = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let mut shim = Shim::run_as(&wrapper, &line, &Value::Null);
    let identity = |stat: &str| -> (u32, u64) {
        let fields: Vec<&str> = stat.split(' ').collect();
        (fields[0].parse().unwrap(), fields[21].parse().unwrap())
    };
    let [fence, old, new] = [(); 3].map(|()| identity(&shim.read_line()));
    assert_eq!(old.0, new.0, "both processes must have the same id");
    let wrong_identities = [old, (new.0, new.1 + 1), (1, 0), (u32::MAX, 0)];
    for wrong_identity in wrong_identities {
        shim.request_kill(wrong_identity);
    }
    // The shim handles requests in order, so the ones above were handled when this process has ended.
    shim.request_kill(fence);
    assert_eq!(shim.read_line(), "137");
    until("the process with the reused id lives", || (sleeping(&mark).len() == 1).then_some(()));
    shim.request_kill(new);
    assert_eq!(shim.read_line(), "137");
    figure(&format!("signals to a reused process id (fault T05): 0 of {}", wrong_identities.len()));
}

#[test]
fn processes_that_a_command_leaves_get_term_and_are_killed_soon_after() {
    let mark = mark();
    let obeys = format!("setsid sh -c 'trap \"echo bye; exit\" TERM; echo up; sleep {mark} & wait' &");
    let mut shim = Shim::run(&format!("{obeys} read line; exit 0"));
    assert_eq!((shim.wait_exit(), shim.read_line()), (0, "up".to_owned()));
    until("its child runs", || sleeping(&mark).first().copied());
    let begun = Instant::now();
    shim.request_sweep();
    assert_eq!((shim.wait_end(), shim.read_line()), ((2, 0), "bye".to_owned()));
    let obeying_time = begun.elapsed();

    let ignores = format!("setsid sh -c 'trap \"\" TERM; echo up; sleep {mark}; true' &");
    let mut shim = Shim::run(&format!("{ignores} exit 0"));
    assert_eq!((shim.wait_exit(), shim.read_line()), (0, "up".to_owned()));
    until("its child runs", || sleeping(&mark).first().copied());
    let begun = Instant::now();
    shim.request_sweep();
    assert_eq!(shim.wait_end(), (2, 0));
    let killing_time = begun.elapsed();
    assert!((LEFTOVER_GRACE..MAX_PROMPT_END).contains(&killing_time), "{killing_time:?}");

    // Any of several tries may be slow for another reason than a grace period.
    let tries = (0..10).map(|_| {
        let mut shim = Shim::run("exit 3");
        assert_eq!(shim.wait_exit(), 3);
        let begun = Instant::now();
        shim.request_sweep();
        assert_eq!(shim.wait_end(), (0, 0));
        begun.elapsed()
    });
    let idle_time = tries.min().unwrap();
    assert!(idle_time < LEFTOVER_GRACE, "{idle_time:?}");
    assert_eq!(processes(&mark), [] as [u32; 0]);
    let figures = [obeying_time, killing_time, idle_time].map(ms);
    figure(&format!("leftovers gone: obedient {}, stubborn {}, none {}", figures[0], figures[1], figures[2]));
}

#[test]
fn requests_that_arrive_together_with_the_command_are_carried_out_at_once() {
    let (mark, grace) = (mark(), Duration::from_millis(LONG_GRACE_MS));
    let begun = Instant::now();
    let mut shim =
        Shim::run_with_requests(&[], &format!("exec sleep {mark}"), &Value::Null, &[end_request(grace)]);
    assert_eq!(shim.wait_exit(), 128 + 15);
    assert_eq!(shim.wait_end(), (1, 0));
    let took = begun.elapsed();
    assert!(took < MAX_PROMPT_END, "{took:?}");

    // The second request shortens the grace period of the first: a command that ignores TERM is killed at once.
    let both = [end_request(DEADLINE), end_request(Duration::ZERO)];
    let line = format!("trap '' TERM; exec sleep {mark}");
    let mut shim = Shim::run_with_requests(&[], &line, &Value::Null, &both);
    let code = shim.wait_exit();
    assert!([128 + 9, 128 + 15].contains(&code), "{code}");
    assert_eq!(shim.wait_end(), (1, 0));
    assert_eq!(sleeping(&mark), [] as [u32; 0]);
    figure(&format!("request to end that came together with the command: done after {}", ms(took)));
}

#[test]
fn term_reaches_a_command_and_all_processes_that_it_is_starting() {
    let (rounds, grace) = (times(10, 200), Duration::from_millis(LONG_GRACE_MS));
    let took = (0..rounds).map(|_| {
        let mark = mark();
        let line = format!("n=0; while [ $n -lt 500 ]; do sleep {mark} & n=$((n+1)); done; wait");
        let mut shim = Shim::run(&line);
        until("the command starts others", || (!sleeping(&mark).is_empty()).then_some(()));
        let begun = Instant::now();
        shim.request_end(grace);
        assert_eq!(shim.wait_exit(), 128 + 15);
        let (killed, survivors) = shim.wait_end();
        let took = begun.elapsed();
        assert!(killed > 1 && survivors == 0, "{killed} killed, {survivors} left");
        assert_eq!(sleeping(&mark), [] as [u32; 0]);
        took
    });
    let longest = took.max().unwrap();
    assert!(longest < MAX_PROMPT_END, "{longest:?}");
    figure(&format!(
        "TERM while a command starts others, {rounds} times: gone after at most {}",
        ms(longest)
    ));
}

/// Runs a command line repeatedly and ends it; returns by how much each end exceeded the grace period. `process_count`
/// is the number of processes of the line with `mark`.
fn overruns(line: &str, mark: &str, process_count: usize, grace: Duration) -> Vec<Duration> {
    let rounds = 0..times(20, 1000);
    let overruns = rounds.map(|_| {
        let mut shim = Shim::run(line);
        until("the line runs", || (processes(mark).len() >= process_count).then_some(()));
        assert_eq!(shim.read_line(), "ready");
        let begun = Instant::now();
        shim.request_end(grace);
        assert_ne!(shim.wait_exit(), 0);
        assert_eq!(shim.wait_end().1, 0);
        let took = begun.elapsed();
        assert_eq!(processes(mark), [] as [u32; 0]);
        took.saturating_sub(grace)
    });
    overruns.collect()
}

#[test]
fn p01_a_child_that_ignores_term_is_gone_right_after_the_grace_period() {
    let mark = mark();
    let line = format!("trap '' TERM; echo ready; sleep {mark}; sleep {mark}");
    let overrun = p99(overruns(&line, &mark, 2, Duration::from_millis(200)));
    assert!(overrun < MAX_PROMPT_END, "{overrun:?}");
    figure(&format!("child that ignores TERM (fault P01): gone p99 {} after the grace period", ms(overrun)));
}

#[test]
fn p06_stopped_processes_are_continued_and_gone_within_the_grace_period() {
    let mark = mark();
    let line =
        format!("sh -c 'sleep {mark} & kill -STOP $!; echo ready; kill -STOP $$; wait' & sleep {mark}; true");
    let overrun = p99(overruns(&line, &mark, 4, Duration::from_millis(LONG_GRACE_MS)));
    assert_eq!(overrun, Duration::ZERO);
    figure(&format!(
        "stopped child and grandchild (fault P06): gone p99 {} after the grace period",
        ms(overrun)
    ));
}

#[test]
fn p07_all_processes_of_a_fork_bomb_are_ended() {
    // The limit on processes is not for root, so the bomb runs as another user.
    if !is_root() {
        return;
    }
    let user = json!({"uid": 61_007, "gid": 61_007});
    let mut shim =
        Shim::run_as(&[], "exec bash -c 'ulimit -u 512; b() { b | b & }; b; wait' 2>/dev/null", &user);
    let count_bomb_processes = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let bomb_processes = entries.filter(|entry| {
            let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            status.contains("\nUid:\t61007\t") && !status.contains("\nState:\tZ")
        });
        bomb_processes.count()
    };
    let started = until("the bomb is at work", || Some(count_bomb_processes()).filter(|count| *count > 200));
    let begun = Instant::now();
    shim.request_end(Duration::from_millis(200));
    shim.wait_exit();
    let (killed, survivors) = shim.wait_end();
    let took = begun.elapsed();
    assert_eq!((survivors, count_bomb_processes()), (0, 0));
    assert!(took < MAX_PROMPT_END, "{took:?}");
    figure(&format!(
        "fork bomb of {started} processes (fault P07): 0 left after {} (grace period 200 ms), {killed} killed",
        ms(took)
    ));
}

#[test]
fn p08_ten_thousand_orphans_are_reaped_when_they_die() {
    let mut shim =
        Shim::run("i=0; while [ $i -lt 10000 ]; do (true &); i=$((i+1)); done; echo done; exec sleep 600");
    let zombies = || children(shim.pid()).into_iter().filter(|(_, state)| *state == 'Z').count();
    let mut max_zombies = 0;
    // All orphans are dead when the leader has become `sleep`.
    let leader = shim.leader;
    until("ten thousand were forked", || {
        max_zombies = max_zombies.max(zombies());
        let line = std::fs::read_to_string(format!("/proc/{leader}/cmdline")).unwrap_or_default();
        line.starts_with("sleep").then_some(())
    });
    let begun = Instant::now();
    until("no zombie is left", || (zombies() == 0).then_some(()));
    let lag = begun.elapsed();
    assert!(lag < MAX_PROMPT_END, "{lag:?}");
    shim.request_end(Duration::from_secs(1));
    shim.wait_exit();
    assert_eq!(shim.wait_end(), (1, 0));
    figure(&format!(
        "10,000 orphans (fault P08): at most {max_zombies} zombies, the last reaped after {}",
        ms(lag)
    ));
}

#[test]
fn p10_a_child_that_can_not_be_signalled_is_reported_as_a_survivor_in_time() {
    if !is_root() {
        return;
    }
    let mark = mark();
    let line = format!("setpriv --reuid 61010 --clear-groups sleep {mark} & echo ready; wait");
    // Without this capability, root can't signal processes of other users.
    let mut shim = Shim::run_as(&["setpriv", "--bounding-set", "-kill"], &line, &Value::Null);
    assert_eq!(shim.read_line(), "ready");
    let child = until("the child runs", || sleeping(&mark).first().copied());
    let grace = Duration::from_millis(300);
    let begun = Instant::now();
    shim.request_end(grace);
    shim.wait_exit();
    assert_eq!(shim.wait_end(), (1, 1));
    let overrun = begun.elapsed().saturating_sub(grace);
    let pid = rustix::process::Pid::from_raw(child.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert!(overrun < MAX_PROMPT_END, "{overrun:?}");
    figure(&format!(
        "child that can't be signalled (fault P10): 1 survivor reported, shim ended {} after the grace period",
        ms(overrun)
    ));
}
