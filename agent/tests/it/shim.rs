//! The shim alone: interrupted steps, leftovers, and process trees that resist their end.

use std::time::{Duration, Instant};

use crate::support::figures::{figure, ms, p99, times};
use crate::support::shim::{Shim, children, end, name};
use crate::support::{DEADLINE, mark, processes};
use serde_json::{Value, json};

/// Polls for a fact until it holds.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Processes that are this `sleep`, without those that only contain it in their command line.
fn sleeping(mark: &str) -> Vec<u32> {
    let exact = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line == format!("sleep\0{mark}\0").into_bytes()
    };
    processes(mark).into_iter().filter(exact).collect()
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_step_is_killed_with_all_it_started_while_the_command_goes_on() {
    let (step, rest) = (mark(), mark());
    let line = format!(
        "sleep {rest} & setsid -w sh -c 'setsid sleep {step} & (sleep {step} &) ; sleep {step}; true'; \
         echo after $?; sleep {rest}"
    );
    let mut shim = Shim::run(&line);
    until("three sleep", || (sleeping(&step).len() == 3).then_some(()));
    // The `sh` that leads the session: the child that `setsid -w` waits for.
    let step_root = processes(&step).into_iter().find(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with("sh\0-c\0setsid")
    });
    let begun = Instant::now();
    shim.kill(name(step_root.unwrap()));
    assert_eq!(shim.line(), "after 137");
    let took = begun.elapsed();
    until("the step's processes are gone", || sleeping(&step).is_empty().then_some(()));
    until("the command goes on", || (sleeping(&rest).len() == 2).then_some(()));
    assert!(took < Duration::from_millis(100), "{took:?}");
    figure(&format!("interrupted step: its parent saw 137 after {}", ms(took)));
    shim.end(Duration::from_secs(1));
    assert_eq!(shim.exited(), 128 + 15);
    assert_eq!(shim.ended(), (3, 0));
}

#[test]
fn a_step_receives_term_and_what_remains_is_killed_after_the_grace_wherever_it_is() {
    let (step, rest) = (mark(), mark());
    let part = format!(
        "trap \\\"echo tidied; exit 5\\\" TERM; (trap \\\"\\\" TERM; exec sleep {step}) & echo \\$\\$; wait"
    );
    let mut shim = Shim::run(&format!("sh -c \"{part}\" & wait $!; echo after $?; sleep {rest}"));
    let root: u32 = shim.line().parse().unwrap();
    until("its child ignores TERM", || (sleeping(&step).len() == 1).then_some(()));
    let begun = Instant::now();
    shim.end_part(name(root), 400);
    assert_eq!([shim.line(), shim.line()], ["tidied", "after 5"]);
    assert!(begun.elapsed() < Duration::from_millis(400), "it was killed: {:?}", begun.elapsed());
    until("what ignores TERM is killed, though its parent is gone", || {
        sleeping(&step).is_empty().then_some(())
    });
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    until("the command goes on", || (sleeping(&rest).len() == 1).then_some(()));
}

#[test]
fn t05_a_process_id_that_was_given_away_is_never_signalled() {
    // Only root may choose the next process id, and only in a namespace of its own.
    if !root() {
        return;
    }
    let (mark, fence) = (mark(), mark());
    let line = format!(
        "sleep {fence} & f=$!; cat /proc/$f/stat; \
         sleep {mark} & a=$!; cat /proc/$a/stat; kill -9 $a; wait $a; sleep 0.1; \
         echo $((a-1)) > /proc/sys/kernel/ns_last_pid; sleep {mark} & b=$!; cat /proc/$b/stat; \
         wait $f; echo $?; wait $b; echo $?; sleep {mark}"
    );
    let before = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let mut shim = Shim::run_as(&before, &line, &Value::Null);
    let named = |stat: &str| -> (u32, u64) {
        let fields: Vec<&str> = stat.split(' ').collect();
        (fields[0].parse().unwrap(), fields[21].parse().unwrap())
    };
    let [fence, old, new] = [(); 3].map(|()| named(&shim.line()));
    assert_eq!(old.0, new.0, "the number was to be given away again");
    let strangers = [old, (new.0, new.1 + 1), (1, 0), (u32::MAX, 0)];
    for stranger in strangers {
        shim.kill(stranger);
    }
    // Requests are carried out in order.
    shim.kill(fence);
    assert_eq!(shim.line(), "137");
    until("the stranger lives", || (sleeping(&mark).len() == 1).then_some(()));
    shim.kill(new);
    assert_eq!(shim.line(), "137");
    figure(&format!("T05 signals to a number that was given away: 0 of {}", strangers.len()));
}

#[test]
fn what_a_command_leaves_behind_hears_term_and_is_killed_soon_after() {
    let mark = mark();
    let polite = format!("setsid sh -c 'trap \"echo bye; exit\" TERM; echo up; sleep {mark} & wait' &");
    let mut shim = Shim::run(&format!("{polite} read line; exit 0"));
    assert_eq!((shim.exited(), shim.line()), (0, "up".to_owned()));
    until("its child runs", || sleeping(&mark).first().copied());
    let begun = Instant::now();
    shim.sweep();
    assert_eq!((shim.ended(), shim.line()), ((2, 0), "bye".to_owned()));
    let obedient = begun.elapsed();

    let stubborn = format!("setsid sh -c 'trap \"\" TERM; echo up; sleep {mark}; true' &");
    let mut shim = Shim::run(&format!("{stubborn} exit 0"));
    assert_eq!((shim.exited(), shim.line()), (0, "up".to_owned()));
    until("its child runs", || sleeping(&mark).first().copied());
    let begun = Instant::now();
    shim.sweep();
    assert_eq!(shim.ended(), (2, 0));
    let killed = begun.elapsed();
    assert!(killed >= Duration::from_millis(300) && killed < Duration::from_millis(600), "{killed:?}");

    let mut shim = Shim::run("exit 3");
    assert_eq!(shim.exited(), 3);
    let begun = Instant::now();
    shim.sweep();
    assert_eq!(shim.ended(), (0, 0));
    let nothing = begun.elapsed();
    assert!(nothing < Duration::from_millis(100), "{nothing:?}");
    assert_eq!(processes(&mark), [] as [u32; 0]);
    let figures = [obedient, killed, nothing].map(ms);
    figure(&format!("leftovers gone: obedient {}, stubborn {}, none {}", figures[0], figures[1], figures[2]));
}

#[test]
fn requests_that_come_along_with_the_command_are_carried_out_at_once() {
    let (mark, grace) = (mark(), Duration::from_secs(5));
    let begun = Instant::now();
    let mut shim = Shim::run_and(&[], &format!("exec sleep {mark}"), &Value::Null, &[end(grace)]);
    assert_eq!(shim.exited(), 128 + 15);
    assert_eq!(shim.ended(), (1, 0));
    let took = begun.elapsed();
    assert!(took < grace, "{took:?}");

    // The second shortens the grace of the first: a command that ignores TERM is killed at once.
    let both = [end(DEADLINE), end(Duration::ZERO)];
    let line = format!("trap '' TERM; exec sleep {mark}");
    let mut shim = Shim::run_and(&[], &line, &Value::Null, &both);
    let code = shim.exited();
    assert!([128 + 9, 128 + 15].contains(&code), "{code}");
    assert_eq!(shim.ended(), (1, 0));
    assert_eq!(sleeping(&mark), [] as [u32; 0]);
    figure(&format!("an end that came along with its command: done after {}", ms(took)));
}

#[test]
fn term_reaches_a_command_with_all_that_it_is_just_starting() {
    let (rounds, grace) = (times(10, 200), Duration::from_secs(4));
    let took = (0..rounds).map(|_| {
        let mark = mark();
        let line = format!("n=0; while [ $n -lt 500 ]; do sleep {mark} & n=$((n+1)); done; wait");
        let mut shim = Shim::run(&line);
        until("it starts others", || (!sleeping(&mark).is_empty()).then_some(()));
        let begun = Instant::now();
        shim.end(grace);
        assert_eq!(shim.exited(), 128 + 15);
        let (killed, survivors) = shim.ended();
        let took = begun.elapsed();
        assert!(killed > 1 && survivors == 0, "{killed} killed, {survivors} left");
        assert_eq!(sleeping(&mark), [] as [u32; 0]);
        took
    });
    let most = took.max().unwrap();
    assert!(most < grace, "{most:?}");
    figure(&format!("TERM while a command starts others, {rounds} times: gone after at most {}", ms(most)));
}

/// Ends a line again and again; returns by how much each end overran the grace.
fn overruns(line: &str, mark: &str, processes_of_it: usize, grace: Duration) -> Vec<Duration> {
    let ends = 0..times(20, 1000);
    let overruns = ends.map(|_| {
        let mut shim = Shim::run(line);
        until("it runs", || (processes(mark).len() >= processes_of_it).then_some(()));
        assert_eq!(shim.line(), "ready");
        let begun = Instant::now();
        shim.end(grace);
        assert_ne!(shim.exited(), 0);
        assert_eq!(shim.ended().1, 0);
        let took = begun.elapsed();
        assert_eq!(processes(mark), [] as [u32; 0]);
        took.saturating_sub(grace)
    });
    overruns.collect()
}

#[test]
fn p01_a_child_that_ignores_term_is_gone_right_after_the_grace() {
    let mark = mark();
    let line = format!("trap '' TERM; echo ready; sleep {mark}; sleep {mark}");
    let overrun = p99(overruns(&line, &mark, 2, Duration::from_millis(200)));
    assert!(overrun < Duration::from_millis(100), "{overrun:?}");
    figure(&format!("P01 ignores TERM: gone p99 {} after the grace", ms(overrun)));
}

#[test]
fn p06_stopped_processes_are_continued_and_gone_within_the_grace() {
    let mark = mark();
    let line =
        format!("sh -c 'sleep {mark} & kill -STOP $!; echo ready; kill -STOP $$; wait' & sleep {mark}; true");
    let overrun = p99(overruns(&line, &mark, 4, Duration::from_secs(5)));
    assert_eq!(overrun, Duration::ZERO);
    figure(&format!("P06 stopped child and grandchild: gone p99 {} after the grace", ms(overrun)));
}

#[test]
fn p07_a_fork_bomb_loses_against_the_sweep() {
    // The limit on processes binds a user, but not root: the bomb runs as a user of its own.
    if !root() {
        return;
    }
    let user = json!({"uid": 61_007, "gid": 61_007});
    let mut shim =
        Shim::run_as(&[], "exec bash -c 'ulimit -u 512; b() { b | b & }; b; wait' 2>/dev/null", &user);
    let count = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let of_bomb = entries.filter(|entry| {
            let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            status.contains("\nUid:\t61007\t") && !status.contains("\nState:\tZ")
        });
        of_bomb.count()
    };
    let most = until("the bomb is at work", || Some(count()).filter(|count| *count > 200));
    let begun = Instant::now();
    shim.end(Duration::from_millis(200));
    shim.exited();
    let (killed, survivors) = shim.ended();
    let took = begun.elapsed();
    assert_eq!((survivors, count()), (0, 0));
    assert!(took < Duration::from_millis(3300), "{took:?}");
    figure(&format!(
        "P07 fork bomb of {most}: 0 processes after {} (grace 200 ms), {killed} killed",
        ms(took)
    ));
}

#[test]
fn p08_ten_thousand_orphans_are_reaped_as_they_die() {
    let mut shim =
        Shim::run("i=0; while [ $i -lt 10000 ]; do (true &); i=$((i+1)); done; echo done; exec sleep 600");
    let zombies = || children(shim.pid()).into_iter().filter(|(_, state)| *state == 'Z').count();
    let mut most = 0;
    // All of them are dead once the leader has become `sleep`.
    let leader = shim.leader;
    until("ten thousand were forked", || {
        most = most.max(zombies());
        let line = std::fs::read_to_string(format!("/proc/{leader}/cmdline")).unwrap_or_default();
        line.starts_with("sleep").then_some(())
    });
    let begun = Instant::now();
    until("no zombie is left", || (zombies() == 0).then_some(()));
    let lag = begun.elapsed();
    assert!(lag < Duration::from_secs(1), "{lag:?}");
    shim.end(Duration::from_secs(1));
    shim.exited();
    assert_eq!(shim.ended(), (1, 0));
    figure(&format!("P08 10,000 orphans: at most {most} zombies, the last reaped after {}", ms(lag)));
}

#[test]
fn p10_a_child_of_another_user_that_cannot_be_signalled_is_reported_without_a_hang() {
    if !root() {
        return;
    }
    let mark = mark();
    let line = format!("setpriv --reuid 61010 --clear-groups sleep {mark} & echo ready; wait");
    // Without the capability to signal processes of others, root has no more rights than other users.
    let mut shim = Shim::run_as(&["setpriv", "--bounding-set", "-kill"], &line, &Value::Null);
    assert_eq!(shim.line(), "ready");
    let stranger = until("it runs", || sleeping(&mark).first().copied());
    let grace = Duration::from_millis(300);
    let begun = Instant::now();
    shim.end(grace);
    shim.exited();
    assert_eq!(shim.ended(), (1, 1));
    let overrun = begun.elapsed().saturating_sub(grace);
    let pid = rustix::process::Pid::from_raw(stranger.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert!(overrun < Duration::from_millis(3200), "{overrun:?}");
    figure(&format!("P10 unsignalable: 1 survivor reported, end {} after the grace", ms(overrun)));
}
