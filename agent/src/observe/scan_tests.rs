use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::super::inspector_credentials::InspectorIds;
use super::super::observer::{pause_after_scan, thread_cpu_time};
use super::super::test_support::{TestProcess, scan_until, wait_until};
use super::*;
use crate::observe::Snapshot;
use crate::user::UserIds;

fn scanner() -> Scanner {
    Scanner::new(std::process::id()).unwrap()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().copied().map(str::to_owned).collect()
}

#[test]
fn a_grandchild_with_a_session_of_its_own_is_seen_below_its_parents() {
    let running = TestProcess::shell("setsid sleep 3001 & exec sleep 3002");
    let mut scanner = scanner();
    let pid = running.pid();
    // A program that was executed just now has no memory yet.
    let snapshot = wait_until("both sleeps", || {
        let snapshot = scanner.scan(&[]);
        let sleeps = |process: &&Process| &*process.name == "sleep" && process.memory_bytes > 0;
        (snapshot.subtree(pid).iter().filter(sleeps).count() == 2).then_some(snapshot)
    });
    let [parent, child] = snapshot.subtree(pid) else { panic!("{:?}", snapshot.subtree(pid)) };
    assert_eq!((parent.pid, parent.parent), (pid, std::process::id()));
    assert_eq!((*parent.argv).to_vec(), words(&["sleep", "3002"]));
    assert_eq!((*child.argv).to_vec(), words(&["sleep", "3001"]));
    assert_eq!((child.parent, child.session), (pid, child.pid));
    assert_ne!(parent.session, child.session);
    assert_eq!(snapshot.children(pid).collect::<Vec<_>>(), [child]);
    assert!(snapshot.children(std::process::id()).any(|process| process == parent));
    assert_eq!(snapshot.process(child.pid), Some(child));
    assert!(child.io_bytes.is_some() && child.start_ticks >= parent.start_ticks && !child.is_zombie);
    assert!(snapshot.subtree(1).is_empty() && snapshot.process(std::process::id()).is_none());
}

#[test]
fn arguments_and_call_id_change_with_an_exec_however_late() {
    let line = "read x; exec env CODEX_TOOL_CALL_ID=call_7 sh -c 'read y; exit'";
    let mut running = TestProcess::shell(line);
    let mut scanner = scanner();
    let before = scan_until(&mut scanner, &[], running.pid(), |process| !process.argv.is_empty());
    assert_eq!((*before.argv).to_vec(), words(&["sh", "-c", line]));
    // The process now counts as old.
    for cached in scanner.cache.values_mut() {
        cached.settles_at = Instant::now();
    }
    running.resume();
    let next = words(&["sh", "-c", "read y; exit"]);
    let is_next = |process: &Process| *process.argv == *next;
    let after = scan_until(&mut scanner, &[], running.pid(), is_next);
    assert_eq!((after.pid, after.start_ticks), (before.pid, before.start_ticks));
    assert_eq!(after.call_id.as_deref(), Some("call_7"));
}

#[test]
fn cpu_time_includes_children_that_were_waited_for() {
    let work = "read x; sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; read y";
    let mut running = TestProcess::shell(work);
    let mut scanner = scanner();
    let before = scan_until(&mut scanner, &[], running.pid(), |_| true);
    running.resume();
    let pid = running.pid();
    let after = wait_until("the work and its end", || {
        let snapshot = scanner.scan(&[]);
        let grown = snapshot.process(pid)?.cpu_ms >= before.cpu_ms + 30;
        (grown && snapshot.children(pid).count() == 0).then(|| snapshot.process(pid).cloned()).flatten()
    });
    assert!(after.cpu_ms < before.cpu_ms + 20_000, "{after:?}");
}

#[test]
fn io_bytes_grow_with_the_bytes_that_dd_copies() {
    let mut running = TestProcess::shell("read x; dd if=/dev/zero of=/dev/null bs=64k count=16; read y");
    let mut scanner = scanner();
    let before = scan_until(&mut scanner, &[], running.pid(), |process| process.io_bytes.is_some());
    running.resume();
    let copied = |process: &Process| process.io_bytes.unwrap() - before.io_bytes.unwrap() >= 2 * 1024 * 1024;
    let after = scan_until(&mut scanner, &[], running.pid(), copied);
    assert!(after.io_bytes.unwrap() - before.io_bytes.unwrap() < 3 * 1024 * 1024);
}

#[test]
fn a_zombie_has_its_exit_code_and_its_last_arguments() {
    let mut running =
        TestProcess::shell("exec 3<&0; sh -c 'read x <&3; exit 7' & sh -c 'kill -9 $$' & exec sleep 3003");
    let mut scanner = scanner();
    let is_known = |process: &Process| process.argv.last().is_some_and(|last| last == "read x <&3; exit 7");
    wait_until("a child", || scanner.scan(&[]).children(running.pid()).any(is_known).then_some(()));
    running.resume();
    let mut codes = wait_until("two zombies", || {
        let snapshot = scanner.scan(&[]);
        let zombies = snapshot.children(running.pid()).filter(|process| process.is_zombie);
        let codes: Vec<_> = zombies.map(|zombie| (zombie.exit_code, is_known(zombie))).collect();
        (codes.len() == 2).then_some(codes)
    });
    codes.sort_unstable();
    // The arguments of the first zombie were read before it ended.
    assert_eq!(codes, [(Some(7), true), (Some(137), false)]);
}

#[test]
fn a_program_name_with_brackets_and_line_breaks_is_parsed() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("a) Z\n1 (b");
    symlink("/bin/sleep", &program).unwrap();
    let running = TestProcess::new(Command::new(&program).arg("3004"));
    let process = scan_until(&mut scanner(), &[], running.pid(), |process| process.name.starts_with("a)"));
    assert_eq!(
        (&*process.name, process.parent, process.is_zombie),
        ("a) Z\n1 (b", std::process::id(), false)
    );
}

#[test]
fn values_hidden_by_another_user_are_read_with_that_user_s_ids() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let nobody = UserIds { uid: 65534, gid: 65534 };
    let mut command = Command::new("sleep");
    let command = command.arg("3005").env("CODEX_TOOL_CALL_ID", "call_8");
    let running = TestProcess::new(command.gid(nobody.gid).uid(nobody.uid));
    let pid = running.pid();
    // A thread drops the capabilities that root lacks in a container.
    let scan_as = move |inspector: InspectorIds| {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::SYS_PTRACE | CapabilitySet::SYS_ADMIN | CapabilitySet::PERFMON);
        set_capabilities(None, sets).unwrap();
        inspector.adopt();
        scan_until(&mut scanner(), &[], pid, |process| &*process.name == "sleep")
    };
    let hidden = std::thread::spawn(move || scan_as(InspectorIds(None))).join().unwrap();
    assert_eq!((hidden.io_bytes, hidden.call_id.as_deref()), (None, None));
    assert_eq!((*hidden.argv).to_vec(), words(&["sleep", "3005"]));
    let shown = std::thread::spawn(move || scan_as(InspectorIds(Some(nobody)))).join().unwrap();
    assert_eq!((shown.io_bytes.is_some(), shown.call_id.as_deref()), (true, Some("call_8")));
}

#[test]
fn unrelated_processes_are_read_once_and_no_descendant_is_one() {
    let running = TestProcess::shell("sleep 3006 & sleep 3007 & wait");
    let mut scanner = scanner();
    wait_until("both sleeps", || (scanner.scan(&[]).subtree(running.pid()).len() == 3).then_some(()));
    assert!(scanner.unrelated_inodes.contains_key(&1));
    assert!(
        scanner
            .scan(&[])
            .subtree(std::process::id())
            .iter()
            .all(|p| !scanner.unrelated_inodes.contains_key(&p.pid))
    );
    let inode = scanner.unrelated_inodes[&1];
    assert!(scanner.proc.process_ids().any(|(pid, now)| (pid, now) == (1, inode)), "inodes stay");
}

#[test]
fn a_tree_above_the_bound_keeps_its_oldest_processes() {
    let node = |pid, parent, started| ProcessNode { pid, parent, start_ticks: started };
    let mut nodes = [node(2, 1, 10), node(3, 2, 90), node(4, 2, 20), node(5, 4, 30), node(6, 5, 80)];
    let order = descendants([1], &nodes);
    let (kept, truncated) = bound_trees(1, order.clone(), &mut nodes.clone(), 3);
    let kept: Vec<_> = kept.iter().map(|descendant| nodes[descendant.node_index].pid).collect();
    assert_eq!((kept, truncated), (vec![2, 4, 5], HashSet::from([2])));
    assert_eq!(bound_trees(1, order.clone(), &mut nodes, 5), (order, HashSet::new()));
}

#[test]
fn a_fork_bomb_in_one_tree_hides_no_process_of_another() {
    let node = |pid, parent, started| ProcessNode { pid, parent, start_ticks: started };
    let mut nodes = vec![node(2, 1, 10), node(3, 1, 20), node(4, 3, 900)];
    nodes.extend((0..100).map(|n| node(100 + n, 2, 30 + u64::from(n))));
    let order = descendants([1], &nodes);
    let (kept, truncated) = bound_trees(1, order, &mut nodes, 20);
    let kept: Vec<_> = kept.iter().map(|descendant| nodes[descendant.node_index].pid).collect();
    assert!(kept.contains(&3) && kept.contains(&4) && kept.len() <= 20, "{kept:?}");
    assert_eq!(truncated, HashSet::from([2]));
}

#[test]
fn io_bytes_and_wait_statuses_are_parsed() {
    assert_eq!(parse_io(b"rchar: 6976\nwchar: 24\nsyscr: 10\n"), Some(7000));
    assert_eq!(
        (parse_io(b""), parse_io(b"rchar: x\nwchar: 1\n"), parse_io(b"rchar: 1\n")),
        (None, None, None)
    );
    assert_eq!((shell_exit_code(0x700), shell_exit_code(9), shell_exit_code(0x8b)), (7, 137, 139));
}

#[test]
fn observing_300_processes_costs_little() {
    const SCANS: u32 = 20;
    let line = "i=0; while [ $i -lt 300 ]; do sleep 3008 & i=$((i+1)); done; wait";
    let running = TestProcess::shell(line);
    let pid = running.pid();
    let mut scanner = scanner();
    wait_until("300 sleeps", || {
        let snapshot = scanner.scan(&[pid]);
        let sleeps = snapshot.subtree(pid).iter().filter(|process| &*process.name == "sleep").count();
        (sleeps == 300).then_some(())
    });
    for cached in scanner.cache.values_mut() {
        cached.settles_at = Instant::now();
    }
    for (watched, words) in [(vec![], "the network not watched"), (vec![pid], "the network watched")] {
        let before = thread_cpu_time();
        for _ in 0..SCANS {
            let snapshot: Snapshot = scanner.scan(&watched);
            assert_eq!((snapshot.subtree(pid).len(), snapshot.is_truncated(pid)), (301, false));
        }
        let scan_cost = thread_cpu_time().saturating_sub(before) / SCANS;
        let share = 100.0 * scan_cost.as_secs_f64() / (scan_cost + pause_after_scan(scan_cost)).as_secs_f64();
        println!(
            "observation: {share:.2} % of a core with 300 processes, {words} ({scan_cost:.1?} a scan, one every {:.1?})",
            pause_after_scan(scan_cost)
        );
        assert!(share <= 3.0);
    }
}
