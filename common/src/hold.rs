//! Holds: jobs that wait until the user's account can use the model again.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::failure_kind::FailureKind;

/// Maximum time until a limit of the account ends. A later instant is an error of the server: limits end within a
/// month.
const MAX_LIMIT: SignedDuration = SignedDuration::from_hours(100 * 24);

/// Reaction to a usage limit of the account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OnQuota {
    /// Fails the job.
    #[default]
    Fail,
    /// Lets the job wait until the limit ends, and then go on in its Codex thread.
    Wait,
}

impl OnQuota {
    /// Returns true if the job fails.
    pub fn is_fail(&self) -> bool {
        *self == Self::Fail
    }
}

/// Hold of a job, which is queued or has a Codex thread that pauses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Kind of the problem: `usage_limit`, `auth`, or `budget_exceeded` for the budget of the day.
    pub kind: FailureKind,
    /// One line with the words of the model's server or of Codex.
    pub message: String,
    /// Instant at which the limit ends, if it is known.
    pub until: Option<Timestamp>,
    /// Instant at which the relay lets a job try again; `None` before the relay has decided, and if only a person can
    /// end the hold.
    pub next_try_at: Option<Timestamp>,
}

/// Returns true for an instant at which a limit may end. One in the past, or in the far future, is not believed.
pub fn is_plausible_end(instant: Timestamp, now: Timestamp) -> bool {
    instant > now && now.checked_add(MAX_LIMIT).is_ok_and(|latest| instant <= latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_in_the_past_or_in_a_year_is_not_believed() {
        let now = Timestamp::from_second(1_764_352_800).unwrap();
        let after = |hours| now.checked_add(SignedDuration::from_hours(hours)).unwrap();
        let believed = [-1, 0, 1, 31 * 24, 365 * 24].map(|hours| is_plausible_end(after(hours), now));
        assert_eq!(believed, [false, false, true, true, false]);
        assert!(!is_plausible_end(Timestamp::MAX, now) && !is_plausible_end(now, Timestamp::MAX));
    }
}
