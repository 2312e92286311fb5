//! The command `relay secret`: secrets that relay adds to the requests of jobs for one host each.

use clap::{Args, Subcommand};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use common::secret_route;
use serde_json::json;

use super::help::after_help;
use super::{Context, secret_value};
use crate::approval::Initiator;
use crate::exit::{ExitCode, Failure};
use crate::host_secret::{self, HostSecret};
use crate::render::table::format_table;
use crate::state_dir::StateDir;
use crate::state_dir::host_secrets::HostSecrets;
use crate::{project, sandbox, start_daemon};

/// Flags of `relay secret`.
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true, after_help = after_help!(
    "A job sends requests to $RELAY_SECRET_NAME_URL/PATH. relay passes them on to https://HOST/PATH with the header, so \
     no container holds the value. All jobs with a container and no network of their own ([platform] isolation = \
     \"job\", and the gateway) can use all secrets: they do with them what the host allows, and see the value if the \
     host sends it back. The host needs no entry in [network] allow.",
    [
        "relay secret set github --host api.github.com --header Authorization --prefix 'Bearer ' < token",
        "relay secret list"
    ]
))]
pub struct SecretArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Store a secret; the value comes from stdin, or is asked for at a terminal
    Set(SetArgs),
    /// List names, hosts and headers, without values
    List,
    /// Remove a secret
    Remove {
        /// Name of the secret
        #[arg(value_name = "NAME", add = secret_names())]
        name: String,
    },
}

/// Flags of `relay secret set`.
#[derive(Debug, Args)]
struct SetArgs {
    /// Name of the secret: lower-case letters, digits and hyphens
    #[arg(value_name = "NAME", add = secret_names())]
    name: String,
    /// Host that gets the secret, with a port or not; http:// in front of it switches TLS off
    #[arg(long, value_name = "HOST")]
    host: String,
    /// Header that holds the secret
    #[arg(long, value_name = "HEADER")]
    header: String,
    /// Text before the value in the header, such as 'Bearer '
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,
}

/// Stores, lists or removes secrets. A running relay uses the change for its next request.
///
/// # Errors
/// Exit code 2 for a part that is not valid or an unknown name. Exit code 5 in a session or a sandbox (except for
/// `list`), or if the state folder can't be used.
pub fn run(args: &SecretArgs, context: &Context) -> Result<ExitCode, Failure> {
    let state = StateDir::for_project(&context.root)?;
    let secrets = state.host_secrets();
    match &args.action {
        Action::Set(args) => {
            require_person(context, &format!("set {}", args.name))?;
            state.ensure()?;
            set(args, &secrets, context)?;
        }
        Action::List => list(&secrets, context)?,
        Action::Remove { name } => {
            require_person(context, &format!("remove {name}"))?;
            if !secrets.remove(name).map_err(Failure::unreachable)? {
                return Err(Failure::usage(format!(
                    "there is no secret '{name}': `relay secret list` shows all"
                )));
            }
        }
    }
    Ok(ExitCode::Done)
}

/// Requires that a person, or a script of a person, has called the command.
fn require_person(context: &Context, action: &str) -> Result<(), Failure> {
    if context.initiator() == Initiator::Person && sandbox::current_sandbox().is_none() {
        return Ok(());
    }
    let command = sandbox::command_with_root(&format!("secret {action}"), &context.root);
    Err(Failure::unreachable(format!(
        "secrets can't be changed in a sandbox or a coding agent's session: a person has to run `{command}` in a terminal"
    )))
}

fn set(args: &SetArgs, secrets: &HostSecrets, context: &Context) -> Result<(), Failure> {
    let secret =
        |value: &str| HostSecret::new(&args.host, &args.header, &args.prefix, value).map_err(Failure::usage);
    host_secret::check_name(&args.name).map_err(Failure::usage)?;
    // Mistakes in the flags come before the question.
    secret("x")?;
    let secret = secret(&secret_value::read_value(&args.name, &context.output)?)?;
    let origin = secret.origin().to_owned();
    secrets.set(&args.name, secret).map_err(Failure::unreachable)?;
    let (name, variable) = (&args.name, secret_route::url_variable(&args.name));
    let output = &context.output;
    output.print_note(&format!("{name} is set: new jobs find {origin} at ${variable}"));
    if origin.starts_with("http://") {
        output.print_note(&format!("requests to {origin} are not encrypted"));
    }
    if lacks_proxy(context) {
        output.print_note(
            "jobs of this project can't use it: they need [platform] isolation = \"job\" and the gateway",
        );
    }
    Ok(())
}

/// Returns true if no job of the project can use a secret with the current settings.
fn lacks_proxy(context: &Context) -> bool {
    // Mistakes in the settings are reported by other commands.
    let config = context.read_config().ok();
    config.is_some_and(|config| !config.has_allow_list(start_daemon::choose_engine(None, &config)))
}

fn list(secrets: &HostSecrets, context: &Context) -> Result<(), Failure> {
    let secrets = secrets.load().map_err(Failure::unreachable)?;
    let output = &context.output;
    if output.json {
        let entry = |(name, secret): (&String, &HostSecret)| {
            let (host, header) = (secret.origin(), secret.header().as_str());
            json!({"name": name, "host": host, "header": header, "variable": secret_route::url_variable(name)})
        };
        output.print_json(&secrets.iter().map(entry).collect::<Vec<_>>());
    } else if secrets.is_empty() {
        output.print_note("there are no secrets: `relay secret set --help` shows how to store one");
    } else {
        let row = |(name, secret): (&String, &HostSecret)| {
            let (host, header) = (secret.origin().to_owned(), secret.header().to_string());
            [name.clone(), host, header, secret_route::url_variable(name)]
        };
        let rows: Vec<[String; 4]> = secrets.iter().map(row).collect();
        output.print(&format_table(["NAME", "HOST", "HEADER", "VARIABLE"], &rows, output.paint));
    }
    Ok(())
}

/// Completes the name of a secret of the project in the current folder.
fn secret_names() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let root = std::env::current_dir().ok().and_then(|cwd| project::find_root(None, &cwd).ok());
        let state = root.and_then(|root| StateDir::for_project(&root).ok());
        let secrets = state.and_then(|state| state.host_secrets().load().ok()).unwrap_or_default();
        secrets.into_keys().map(CompletionCandidate::new).collect()
    })
}
