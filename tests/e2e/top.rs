//! `relay top` in a real terminal.

use std::time::{Duration, Instant};

use common::record::State;
use relay_tests::harness::figures::figure;
use relay_tests::harness::tmux::Terminal;
use relay_tests::harness::{Engine, Site, processes, until};
use rustix::process::{Pid, Signal, kill_process};

/// Process id of `relay top` in this site.
fn top_of(site: &Site) -> u32 {
    until("relay top runs", || {
        let mut all = processes::inside(site.root()).into_iter();
        all.find(|process| process.command.contains("relay top")).map(|process| process.pid)
    })
}

/// Opens the screen of a relay without jobs, in a terminal of its own.
fn opened(site: &Site) -> Terminal {
    site.relay(&["up"]);
    let terminal = Terminal::open(site, 80, 24);
    terminal.press(&["relay top", "Enter"]);
    terminal.shows("the screen", is_up);
    terminal
}

fn is_up(screen: &str) -> bool {
    screen.starts_with("relay ready")
}

fn signal(pid: u32, signal: Signal) {
    kill_process(i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap(), signal).unwrap();
}

/// CPU time of a process so far, in clock ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum()
}

fn selected<'a>(screen: &'a str, job: &str) -> Option<&'a str> {
    screen.lines().find(|line| line.starts_with('▸') && line.contains(job))
}

#[test]
fn keys_select_show_and_end_real_jobs_and_quitting_leaves_the_screen_as_it_was() {
    let site = Site::new(Engine::Local);
    let first = site.launch_shell("printf '\\033[31mred\\033[2Jhello\\n'; sleep 1000", &["-n", "first"]);
    let second = site.launch_shell("sleep 1000", &["-n", "second"]);
    for job in [&first, &second] {
        site.record_when(job, "runs", |record| record.state == State::Running && record.step.is_some());
    }
    let terminal = Terminal::open(&site, 80, 24);
    terminal.press(&["echo before", "Enter"]);
    terminal.shows("the shell answers", |screen| screen.lines().any(|line| line == "before"));
    terminal.press(&["relay top", "Enter"]);
    // The newest job is listed first.
    terminal.shows("the newest is selected", |screen| selected(screen, &second).is_some());
    terminal.press(&["Down"]);
    terminal.shows("the other one is selected", |screen| selected(screen, &first).is_some());
    terminal.press(&["l"]);
    terminal.shows("its log, without escapes", |screen| screen.contains("\nredhello\n"));
    terminal.press(&["c"]);
    terminal.shows("the question", |screen| screen.contains("cancel first#1 and everything it started? y/n"));
    terminal.press(&["y"]);
    assert_eq!(site.ended(&first).state, State::Cancelled);
    terminal.shows("the end of it", |screen| screen.contains("■ cancelled  first#1"));
    assert_eq!(site.record(&second).state, State::Running);
    terminal.press(&["q"]);
    terminal.shows("the shell's screen as it was", |screen| {
        screen.trim_end().lines().eq(["$ echo before", "before", "$ relay top", "$"])
    });
    site.relay(&["cancel", "--grace", "1s", &second]);
}

#[test]
fn a_stop_a_new_size_and_a_signal_leave_the_terminal_whole() {
    let site = Site::new(Engine::Local);
    let terminal = opened(&site);
    terminal.resize(40, 12);
    terminal.shows("the narrow screen", |screen| {
        is_up(screen) && screen.lines().filter(|line| !line.is_empty()).all(|line| line.chars().count() <= 40)
    });
    terminal.resize(20, 4);
    terminal.shows("that it is too small", |screen| screen.starts_with("relay top needs"));
    terminal.resize(80, 24);
    terminal.shows("the screen again", is_up);
    terminal.press(&["C-z"]);
    terminal.shows("the shell", |screen| !is_up(screen) && screen.contains("$ relay top"));
    terminal.press(&["stty -a | grep -o -- -*icanon", "Enter"]);
    terminal.shows("an ordinary terminal", |screen| screen.lines().any(|line| line == "icanon"));
    terminal.press(&["fg", "Enter"]);
    terminal.shows("the screen after fg", is_up);
    signal(top_of(&site), Signal::TERM);
    terminal.shows("the shell after a signal", |screen| !is_up(screen));
    terminal.press(&["clear; stty -a | grep -o -- -*icanon", "Enter"]);
    terminal.shows("an ordinary terminal after that", |screen| screen.lines().any(|line| line == "icanon"));
}

#[test]
fn it_lives_on_however_often_it_is_stopped_and_continued() {
    let site = Site::new(Engine::Local);
    let terminal = opened(&site);
    for _ in 0..20 {
        terminal.press(&["C-z"]);
        terminal.shows("the shell", |screen| !is_up(screen) && screen.trim_end().ends_with('$'));
        terminal.press(&["clear; fg", "Enter"]);
        terminal.shows("the screen after fg", is_up);
    }
    // Any process may send a SIGCONT, too, although the screen was never stopped.
    let top = top_of(&site);
    for _ in 0..20 {
        signal(top, Signal::CONT);
    }
    let shown = terminal.shows("the screen after a signal", is_up);
    terminal.shows("a later time", |screen| is_up(screen) && screen.lines().next() != shown.lines().next());
    signal(top, Signal::TERM);
    terminal.shows("the shell in the end", |screen| !is_up(screen));
    terminal.press(&["clear; echo ended with $?", "Enter"]);
    terminal.shows("a good end", |screen| screen.contains("ended with 0"));
}

#[test]
fn it_ends_with_its_terminal() {
    let site = Site::new(Engine::Local);
    let terminal = opened(&site);
    let top = top_of(&site);
    drop(terminal);
    until("relay top has ended", || {
        (!processes::inside(site.root()).iter().any(|p| p.pid == top)).then_some(())
    });
}

#[test]
fn a_screen_that_nobody_touches_costs_next_to_nothing() {
    let site = Site::new(Engine::Local);
    let job = site.launch_running("sleep 1000", &[]);
    let terminal = Terminal::open(&site, 120, 30);
    terminal.press(&["relay top", "Enter"]);
    terminal.shows("the job", |screen| selected(screen, &job).is_some());
    let top = top_of(&site);
    let (began, before) = (Instant::now(), ticks(top));
    until("five seconds have passed", || (began.elapsed() > Duration::from_secs(5)).then_some(()));
    let spent = (ticks(top) - before) * 10;
    let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap();
    figure(&format!("relay top, untouched beside a job: {spent} ms of CPU in {elapsed} ms"));
    assert!(spent * 20 < elapsed, "{spent} ms of {elapsed} ms");
    terminal.press(&["q"]);
    site.relay(&["cancel", "--grace", "1s", &job]);
}

#[test]
fn without_a_terminal_it_names_the_command_to_use() {
    let site = Site::new(Engine::Local);
    assert_eq!(site.refused(2, &["top"]), "relay: top needs a terminal: use `relay status`");
}

#[test]
fn a_terminal_is_used_to_its_width_and_a_pipe_is_not() {
    let site = Site::new(Engine::Local);
    let job = site.launch_shell("echo some words that go on and on; sleep 1000", &[]);
    site.record_when(&job, "runs", |record| record.state == State::Running && record.step.is_some());
    let terminal = Terminal::open(&site, 40, 24);
    terminal.press(&["clear; relay status", "Enter"]);
    terminal.shows("two lines for the job", |screen| {
        screen.contains("● demo#1 running") && screen.contains("  command ") && screen.contains("░░")
    });
    terminal.press(&["clear; relay status demo | cat", "Enter"]);
    terminal.shows("the text for programs", |screen| screen.contains("health     healthy: command"));
    site.relay(&["cancel", "--grace", "1s", &job]);
}
