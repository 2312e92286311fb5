//! Mapping of keys to actions. Pure.

use common::ids::JobId;
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// Current meaning of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// Keys navigate.
    Browse,
    /// Keys are text.
    Filter,
    /// Keys confirm or reject the cancellation of this job.
    Confirm(JobId),
    /// Keys close the help.
    Help,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Move the selection down by this many jobs; up when negative.
    Move(isize),
    /// Select the first job.
    First,
    /// Select the last job.
    Last,
    /// Show or hide the selected job's details.
    Details,
    /// Show or hide its log.
    Log,
    /// Show or hide its events.
    Events,
    /// Scroll the pane's text down by this many lines; up when negative.
    Scroll(isize),
    /// Go back one step: leave a question, the filter or the log.
    Back,
    /// Ask to cancel the selected job.
    Cancel,
    /// Extend the limit of the current step, or of the job.
    Extend,
    /// Answer the question with yes.
    Yes,
    /// Show the keys.
    Help,
    /// Start to type a filter.
    Filter,
    /// Append a character to the filter.
    Type(char),
    /// Remove the last character of the filter.
    Erase,
    /// Keep the filter and continue.
    Accept,
    /// Redraw everything.
    Redraw,
    /// Return the terminal to the shell until `fg`.
    Suspend,
    Quit,
}

/// Number of lines that a page key moves.
const PAGE: isize = 10;

/// Returns the action of a key in the current mode; `None` for most keys.
pub(super) fn action(key: KeyEvent, mode: &Mode) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'd') => Some(Action::Quit),
            KeyCode::Char('z') => Some(Action::Suspend),
            KeyCode::Char('l') => Some(Action::Redraw),
            KeyCode::Char('u') if *mode == Mode::Filter => Some(Action::Back),
            _ => None,
        };
    }
    match mode {
        Mode::Filter => filter_action(key.code),
        Mode::Confirm(_) => match key.code {
            KeyCode::Char('y' | 'Y') => Some(Action::Yes),
            // Any other key means no, so that no job is cancelled by accident.
            _ => Some(Action::Back),
        },
        Mode::Help => match key.code {
            KeyCode::Char('q') => Some(Action::Quit),
            _ => Some(Action::Back),
        },
        Mode::Browse => browse_action(key.code),
    }
}

fn filter_action(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char(c) => Some(Action::Type(c)),
        KeyCode::Backspace => Some(Action::Erase),
        KeyCode::Enter => Some(Action::Accept),
        KeyCode::Esc => Some(Action::Back),
        KeyCode::Up => Some(Action::Move(-1)),
        KeyCode::Down => Some(Action::Move(1)),
        _ => None,
    }
}

fn browse_action(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Up | KeyCode::Char('k') => Some(Action::Move(-1)),
        KeyCode::Down | KeyCode::Char('j') => Some(Action::Move(1)),
        KeyCode::Home | KeyCode::Char('g') => Some(Action::First),
        KeyCode::End | KeyCode::Char('G') => Some(Action::Last),
        KeyCode::PageUp => Some(Action::Scroll(-PAGE)),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(Action::Scroll(PAGE)),
        KeyCode::Enter => Some(Action::Details),
        KeyCode::Esc => Some(Action::Back),
        KeyCode::Char('l') => Some(Action::Log),
        KeyCode::Char('e') => Some(Action::Events),
        KeyCode::Char('c') => Some(Action::Cancel),
        KeyCode::Char('x') => Some(Action::Extend),
        KeyCode::Char('?' | 'h') => Some(Action::Help),
        KeyCode::Char('/') => Some(Action::Filter),
        KeyCode::Char('q') => Some(Action::Quit),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(code: KeyCode, mode: &Mode) -> Option<Action> {
        action(KeyEvent::new(code, KeyModifiers::NONE), mode)
    }

    #[test]
    fn a_key_means_what_the_moment_makes_of_it() {
        let confirm = Mode::Confirm("a#1".parse().unwrap());
        let (browse, filter, help) = (Mode::Browse, Mode::Filter, Mode::Help);
        let q = KeyCode::Char('q');
        for (code, mode, expected) in [
            (KeyCode::Down, &browse, Some(Action::Move(1))),
            (KeyCode::Char('k'), &browse, Some(Action::Move(-1))),
            (KeyCode::Enter, &browse, Some(Action::Details)),
            (KeyCode::Char('c'), &browse, Some(Action::Cancel)),
            (KeyCode::Char('y'), &browse, None),
            (q, &browse, Some(Action::Quit)),
            (q, &filter, Some(Action::Type('q'))),
            (KeyCode::Esc, &filter, Some(Action::Back)),
            (KeyCode::Enter, &filter, Some(Action::Accept)),
            (KeyCode::Char('y'), &confirm, Some(Action::Yes)),
            (q, &confirm, Some(Action::Back)),
            (KeyCode::Enter, &confirm, Some(Action::Back)),
            (KeyCode::Char('x'), &help, Some(Action::Back)),
        ] {
            assert_eq!(plain(code, mode), expected, "{code:?} in {mode:?}");
        }
    }

    #[test]
    fn control_keys_work_in_every_moment_and_a_release_is_no_key() {
        let confirm = Mode::Confirm("a#1".parse().unwrap());
        for mode in [&Mode::Browse, &Mode::Filter, &Mode::Help, &confirm] {
            let control = |c| action(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL), mode);
            assert_eq!([control('c'), control('z')], [Some(Action::Quit), Some(Action::Suspend)]);
            let mut key = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
            key.kind = KeyEventKind::Release;
            assert_eq!(action(key, mode), None);
        }
    }
}
