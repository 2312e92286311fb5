//! Mapping of keys to actions, without side effects.

use common::ids::JobId;
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// Input mode: decides which action a key has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// Keys select jobs and open panes.
    Browse,
    /// Keys edit the text of the filter.
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
    /// Show or hide the selected job's log.
    Log,
    /// Show or hide the selected job's events.
    Events,
    /// Scroll the pane's text down by this many lines; up when negative.
    Scroll(isize),
    /// Go back one step: leave a question, the filter or the log.
    Back,
    /// Ask to cancel the selected job.
    Cancel,
    /// Extend the limit of the selected job's current step, or of the job.
    Extend,
    /// Confirm the cancellation.
    Yes,
    /// Show the list of keys.
    Help,
    /// Start to type a filter.
    Filter,
    /// Append a character to the filter.
    Type(char),
    /// Remove the last character of the filter.
    Erase,
    /// Keep the filter and stop typing.
    Accept,
    /// Redraw the whole screen.
    Redraw,
    /// Return the terminal to the shell until `fg`.
    Suspend,
    Quit,
}

/// Number of lines by which Page Up and Page Down scroll.
const PAGE_LINES: isize = 10;

/// Returns the action of a key in the current mode; `None` if the key has none.
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
        KeyCode::PageUp => Some(Action::Scroll(-PAGE_LINES)),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(Action::Scroll(PAGE_LINES)),
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

    fn action_without_modifiers(code: KeyCode, mode: &Mode) -> Option<Action> {
        action(KeyEvent::new(code, KeyModifiers::NONE), mode)
    }

    #[test]
    fn the_mode_decides_which_action_a_key_has() {
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
            assert_eq!(action_without_modifiers(code, mode), expected, "{code:?} in {mode:?}");
        }
    }

    #[test]
    fn control_keys_work_in_every_mode_and_key_releases_are_ignored() {
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
