//! `relay top` in a real terminal.

use std::time::{Duration, Instant};

use common::record::State;
use relay_tests::harness::figures::figure;
use relay_tests::harness::tmux::Terminal;
use relay_tests::harness::{Engine, Site, processes, until};
use rustix::process::{Pid, Signal, kill_process};

/// Waits until `relay top` is running in a site; returns its process id.
fn top_pid(site: &Site) -> u32 {
    until("relay top runs", || {
        let mut all = processes::inside(site.root()).into_iter();
        all.find(|process| process.command.contains("relay top")).map(|process| process.pid)
    })
}

/// Opens a terminal in which `relay top` shows a relay without jobs.
fn open_top(site: &Site) -> Terminal {
    site.relay(&["up"]);
    let terminal = Terminal::open(site, 80, 24);
    terminal.press(&["relay top", "Enter"]);
    terminal.wait_until_shown("the screen", shows_top);
    terminal
}

fn shows_top(screen: &str) -> bool {
    screen.starts_with("relay ready")
}

fn signal(pid: u32, signal: Signal) {
    kill_process(i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap(), signal).unwrap();
}

/// Returns the CPU time of a process so far, in ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum()
}

/// Returns the line of a job on the screen, if the job is selected.
fn selected_line<'a>(screen: &'a str, job: &str) -> Option<&'a str> {
    screen.lines().find(|line| line.starts_with('▸') && line.contains(job))
}

#[test]
fn keys_select_show_and_cancel_jobs_and_quitting_restores_the_screen() {
    let site = Site::new(Engine::Local);
    let first = site.launch_shell("printf '\\033[31mred\\033[2Jhello\\n'; sleep 1000", &["-n", "first"]);
    let second = site.launch_shell("sleep 1000", &["-n", "second"]);
    for job in [&first, &second] {
        site.record_when(job, "runs", |record| record.state == State::Running && record.step.is_some());
    }
    let terminal = Terminal::open(&site, 80, 24);
    terminal.press(&["echo before", "Enter"]);
    terminal.wait_until_shown("the shell answers", |screen| screen.lines().any(|line| line == "before"));
    terminal.press(&["relay top", "Enter"]);
    // The newest job is listed first.
    terminal.wait_until_shown("the newest is selected", |screen| selected_line(screen, &second).is_some());
    terminal.press(&["Down"]);
    terminal.wait_until_shown("the other one is selected", |screen| selected_line(screen, &first).is_some());
    terminal.press(&["l"]);
    terminal.wait_until_shown("the job's log, without escapes", |screen| screen.contains("\nredhello\n"));
    terminal.press(&["c"]);
    terminal.wait_until_shown("the question", |screen| {
        screen.contains("cancel first#1 and everything it started? y/n")
    });
    terminal.press(&["y"]);
    assert_eq!(site.ended(&first).state, State::Cancelled);
    terminal.wait_until_shown("the outcome of the job", |screen| screen.contains("■ cancelled  first#1"));
    assert_eq!(site.record(&second).state, State::Running);
    terminal.press(&["q"]);
    terminal.wait_until_shown("the shell's screen as it was", |screen| {
        screen.trim_end().lines().eq(["$ echo before", "before", "$ relay top", "$"])
    });
    site.relay(&["cancel", "--grace", "1s", &second]);
}

#[test]
fn a_resize_a_stop_and_a_signal_leave_the_terminal_usable() {
    let site = Site::new(Engine::Local);
    let terminal = open_top(&site);
    terminal.resize(40, 12);
    terminal.wait_until_shown("the narrow screen", |screen| {
        shows_top(screen)
            && screen.lines().filter(|line| !line.is_empty()).all(|line| line.chars().count() <= 40)
    });
    terminal.resize(20, 4);
    terminal.wait_until_shown("that it is too small", |screen| screen.starts_with("relay top needs"));
    terminal.resize(80, 24);
    terminal.wait_until_shown("the screen again", shows_top);
    terminal.press(&["C-z"]);
    terminal.wait_until_shown("the shell", |screen| !shows_top(screen) && screen.contains("$ relay top"));
    terminal.press(&["stty -a | grep -o -- -*icanon", "Enter"]);
    terminal.wait_until_shown("an ordinary terminal", |screen| screen.lines().any(|line| line == "icanon"));
    terminal.press(&["fg", "Enter"]);
    terminal.wait_until_shown("the screen after fg", shows_top);
    signal(top_pid(&site), Signal::TERM);
    terminal.wait_until_shown("the shell after a signal", |screen| !shows_top(screen));
    terminal.press(&["clear; stty -a | grep -o -- -*icanon", "Enter"]);
    terminal.wait_until_shown("an ordinary terminal after that", |screen| {
        screen.lines().any(|line| line == "icanon")
    });
}

#[test]
fn relay_top_goes_on_after_many_stops_and_continues() {
    let site = Site::new(Engine::Local);
    let terminal = open_top(&site);
    for _ in 0..20 {
        terminal.press(&["C-z"]);
        terminal
            .wait_until_shown("the shell", |screen| !shows_top(screen) && screen.trim_end().ends_with('$'));
        terminal.press(&["clear; fg", "Enter"]);
        terminal.wait_until_shown("the screen after fg", shows_top);
    }
    // Any process may send SIGCONT to a program that was not stopped.
    let top = top_pid(&site);
    for _ in 0..20 {
        signal(top, Signal::CONT);
    }
    let shown = terminal.wait_until_shown("the screen after a signal", shows_top);
    terminal.wait_until_shown("a later time", |screen| {
        shows_top(screen) && screen.lines().next() != shown.lines().next()
    });
    signal(top, Signal::TERM);
    terminal.wait_until_shown("the shell in the end", |screen| !shows_top(screen));
    terminal.press(&["clear; echo ended with $?", "Enter"]);
    terminal.wait_until_shown("exit code 0", |screen| screen.contains("ended with 0"));
}

#[test]
fn relay_top_ends_with_its_terminal() {
    let site = Site::new(Engine::Local);
    let terminal = open_top(&site);
    let top = top_pid(&site);
    drop(terminal);
    until("relay top has ended", || {
        (!processes::inside(site.root()).iter().any(|p| p.pid == top)).then_some(())
    });
}

#[test]
fn relay_top_without_input_uses_little_cpu_time() {
    let site = Site::new(Engine::Local);
    let job = site.launch_running("sleep 1000", &[]);
    let terminal = Terminal::open(&site, 120, 30);
    terminal.press(&["relay top", "Enter"]);
    terminal.wait_until_shown("the job", |screen| selected_line(screen, &job).is_some());
    let top = top_pid(&site);
    let (started, before) = (Instant::now(), cpu_ticks(top));
    until("five seconds have passed", || (started.elapsed() > Duration::from_secs(5)).then_some(()));
    let spent = (cpu_ticks(top) - before) * 10;
    let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap();
    figure(&format!("relay top, without input, beside a job: {spent} ms of CPU in {elapsed} ms"));
    assert!(spent * 5 < elapsed, "{spent} ms of {elapsed} ms");
    terminal.press(&["q"]);
    site.relay(&["cancel", "--grace", "1s", &job]);
}

#[test]
fn relay_top_without_a_terminal_names_the_command_to_use() {
    let site = Site::new(Engine::Local);
    assert_eq!(site.refused(2, &["top"]), "relay: top needs a terminal: use `relay status`");
}

#[test]
fn relay_status_uses_the_width_of_a_terminal_and_writes_plain_text_to_a_pipe() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("echo some words that go on and on; sleep 1000", &[]);
    site.record_when(&job, "runs", |record| record.state == State::Running && record.step.is_some());
    let terminal = Terminal::open(&site, 40, 24);
    terminal.press(&["clear; relay status", "Enter"]);
    terminal.wait_until_shown("two lines for the job", |screen| {
        screen.contains("● demo#1 running") && screen.contains("  command ") && screen.contains("░░")
    });
    terminal.press(&["clear; relay status demo | cat", "Enter"]);
    terminal
        .wait_until_shown("the text for programs", |screen| screen.contains("health     healthy: command"));
    site.relay(&["cancel", "--grace", "1s", &job]);
}
