//! The command `relay notices`.

use clap::Args;
use common::record::JobRecord;

use super::help::after_help;
use super::{Context, session};
use crate::exit::{ExitCode, Failure};
use crate::notice;
use crate::registry::lease;
use crate::registry::outbox::NoticeClaim;
use crate::registry::unseen::{self, ClaimedNotices};

/// Maximum number of notices shown per call: a page of text.
const MAX_NOTICES: usize = 5;

/// Flags of `relay notices`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "Each ended job is shown once: here, by a hook (`relay hook`), by `relay wait` or `relay run`, or \
     in the Codex session that launched it. Prints nothing if nothing is new, so that it fits into a \
     prompt or a script.",
    ["relay notices", "relay notices --peek"]
))]
pub struct NoticesArgs {
    /// Show the same notices again next time
    #[arg(long)]
    pub(super) peek: bool,
}

/// Prints up to [`MAX_NOTICES`] unclaimed completion notices. Without `--peek`, the next call prints the
/// others.
///
/// # Errors
/// Exit code 5 if the outbox can't be read or written: a notice that can't be claimed would be shown again by every
/// call.
pub fn run(args: &NoticesArgs, context: &Context) -> Result<ExitCode, Failure> {
    let registry = &context.registry;
    let unreadable = |e: &std::io::Error| {
        Failure::unreachable(format!("{} can't be read: {e}", registry.outbox().path().display()))
    };
    let notices = unseen::unclaimed_notices(registry).map_err(|e| unreadable(&e))?;
    let session = session::calling_session(&|key| context.caller_variable(key));
    let claim = NoticeClaim { at: lease::current_time(registry), by: "notices".to_owned(), session };
    let claimed = unseen::claim_notices(registry, &notices, MAX_NOTICES, (!args.peek).then_some(&claim))
        .map_err(|e| registry.not_writable(&e))?;
    if claimed.records.is_empty() {
        return Ok(ExitCode::Done);
    }
    let output = &context.output;
    if output.json {
        for record in &claimed.records {
            output.print_json(record);
        }
        if let Some(rest) = format_remaining_count(claimed.remaining) {
            output.print_note(&rest);
        }
    } else {
        for record in &claimed.records {
            output.capture_data(record);
        }
        output.print(&format_notices(&claimed));
    }
    if output.is_closed() && !args.peek {
        unseen::release_claims(registry, &claimed.records);
    }
    Ok(ExitCode::Done)
}

/// Formats the notices, and the number of remaining ones.
pub fn format_notices(claimed: &ClaimedNotices) -> String {
    let texts =
        claimed.records.iter().map(|record: &JobRecord| notice::notice_text(record).trim_end().to_owned());
    texts.chain(format_remaining_count(claimed.remaining)).collect::<Vec<_>>().join("\n\n")
}

fn format_remaining_count(remaining: usize) -> Option<String> {
    let verb = if remaining == 1 { "1 more job has" } else { &format!("{remaining} more jobs have") };
    (remaining > 0).then(|| format!("{verb} ended: `relay notices` shows the next"))
}

#[cfg(test)]
mod tests {
    use common::record::State;

    use super::*;
    use crate::render::samples;

    #[test]
    fn jobs_beyond_the_maximum_are_counted() {
        let taken = |remaining| ClaimedNotices {
            records: vec![
                samples::minimal_record("a#1", State::Completed),
                samples::minimal_record("b#1", State::Cancelled),
            ],
            remaining,
        };
        let both = format_notices(&taken(0));
        assert!(both.contains("a#1") && both.contains("b#1") && !both.contains("more"), "{both}");
        assert!(
            format_notices(&taken(1)).ends_with("\n\n1 more job has ended: `relay notices` shows the next")
        );
        assert!(
            format_notices(&taken(7)).ends_with("\n\n7 more jobs have ended: `relay notices` shows the next")
        );
    }
}
