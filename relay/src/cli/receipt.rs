//! The command `relay receipt`.

use clap::Args;

use super::help::after_help;
use super::job_result::PlacedJob;
use super::{Context, candidates};
use crate::exit::{ExitCode, Failure};
use crate::job_identity::JobIdentity;
use crate::receipt::key::ReceiptKey;
use crate::receipt::store::Receipts;
use crate::state_dir::StateDir;

/// Flags of `relay receipt`.
#[derive(Debug, Args)]
#[command(after_help = after_help!(
    "A receipt is an in-toto statement (test-result predicate) in a DSSE envelope, signed by relay when the \
     job ended: base, commit, digest of the change, checks with exit codes, model, tokens. `relay verify JOB` \
     checks the receipt and runs the checks again.",
    ["relay receipt demo > demo.intoto.json", "relay receipt --public-key > relay.pub"]
))]
pub struct ReceiptArgs {
    /// NAME#N, NAME.N, or NAME for its newest job [default: the newest job]
    #[arg(value_name = "JOB", add = candidates::any_job(), conflicts_with = "public_key")]
    pub(super) job: Option<String>,
    /// Print the key that checks the receipts of this project (PEM)
    #[arg(long)]
    pub(super) public_key: bool,
}

/// Prints the receipt of a job as JSON, or the public key.
///
/// # Errors
/// Exit code 3 if the job does not exist, 2 if it is ambiguous or has no receipt, 5 if the state folder can't be read.
pub fn run(args: &ReceiptArgs, context: &Context) -> Result<ExitCode, Failure> {
    let receipts = project_receipts(context)?;
    if args.public_key {
        context.output.print_raw(receipt_key(&receipts)?.public_pem().as_bytes());
        return Ok(ExitCode::Done);
    }
    let job = PlacedJob::find(context, args.job.as_deref())?;
    context.output.print_raw(&read_receipt(&receipts, &job, context)?);
    Ok(ExitCode::Done)
}

/// Returns the receipts of the project.
///
/// # Errors
/// Exit code 5 if the state folder can't be used.
pub(super) fn project_receipts(context: &Context) -> Result<Receipts, Failure> {
    Ok(Receipts::in_folder(StateDir::for_project(&context.root)?.receipts()))
}

/// Returns the key pair that signs the receipts of the project.
///
/// # Errors
/// Exit code 2 if there is no key yet, 5 if the key can't be read, as in a sandbox that hides relay's state folder.
pub(super) fn receipt_key(receipts: &Receipts) -> Result<ReceiptKey, Failure> {
    let key = ReceiptKey::load(receipts.folder()).map_err(Failure::unreachable)?;
    key.ok_or_else(|| {
        Failure::usage("there is no key yet: relay makes it for the first result of a job with --branch")
    })
}

/// Reads the receipt of a job.
///
/// # Errors
/// Exit code 2 if the job has no receipt, 5 if the receipt can't be read.
pub(super) fn read_receipt(
    receipts: &Receipts,
    job: &PlacedJob,
    context: &Context,
) -> Result<Vec<u8>, Failure> {
    if let Some(receipt) = receipts.read(&JobIdentity::of(&job.record)).map_err(Failure::unreachable)? {
        return Ok(receipt);
    }
    // A job without a result has no receipt. This error says why there is no result.
    job.open_result(context)?;
    Err(Failure::usage(format!("{} has no receipt: relay's log (`relay serve`) says why", job.job())))
}
