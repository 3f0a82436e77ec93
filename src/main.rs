//! The command line of the load balancer.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadbalancer::config;
use loadbalancer::server::{self, Allocator, Source, Start};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// A reverse proxy and load balancer for HTTP, TCP and UDP.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Environment:\n  \
    LB__SECTION__KEY=value   overrides a key of the configuration, for example LB__REDIS__URL\n  \
    RUST_LOG=debug           sets what is logged (to standard error)\n\n\
    Signals:\n  \
    SIGTERM, SIGINT          stop accepting, finish what is under way, exit; a second one exits at once\n  \
    SIGHUP                   read the configuration again\n  \
    SIGUSR1                  reopen the access log\n  \
    SIGUSR2                  start this program anew with --upgrade"
)]
struct Arguments {
    /// The configuration: TOML, YAML or JSON by its extension
    #[arg(short, long, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,

    /// Only check the configuration, its certificates and its lists of networks: print every error with its place, exit 1 if there is one
    #[arg(long)]
    check: bool,

    /// Take over from the load balancer that serves at this configuration's upgrade_socket: it finishes what it has and
    /// ends. If this one cannot start, it serves on
    #[arg(long, conflicts_with = "check")]
    upgrade: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What else there is to do than to run.
#[derive(Debug, Subcommand)]
enum Command {
    /// Print what differs between two configurations, one line each; exit 2 if one of them is not valid
    Diff {
        /// The configuration as it was
        old: PathBuf,
        /// The configuration as it is to be
        new: PathBuf,
    },
}

/// The exit code of `diff` when it cannot compare; that there are differences is no failure.
const NOT_COMPARED: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Diff { old, new }) = &arguments.command {
        return diff(old, new);
    }
    let source = Source::new(arguments.config.clone(), environment());
    let (edition, config) = source.load();
    let config = match config {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.check {
        match server::check(&config, &source) {
            Ok(warnings) => warnings.iter().for_each(|it| eprintln!("warning: {it}")),
            Err(errors) => {
                eprintln!("{errors}");
                return ExitCode::FAILURE;
            }
        }
        println!("{}: valid", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    start_logging();
    raise_file_limit();
    let start = match arguments.upgrade {
        true => Start::Upgrade,
        false => Start::Fresh,
    };
    match server::run(config, source, edition, start) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("loadbalancer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what differs between the two files, and which of it a reload would not bring into force.
fn diff(old: &Path, new: &Path) -> ExitCode {
    let (old, new) = (
        config::load(old, environment()),
        config::load(new, environment()),
    );
    let (old, new) = match (old, new) {
        (Ok(old), Ok(new)) => (old, new),
        (old, new) => {
            for errors in [old.err(), new.err()].iter().flatten() {
                eprintln!("{errors}");
            }
            return ExitCode::from(NOT_COMPARED);
        }
    };
    let changes = config::diff::changes(&old, &new);
    let mut lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    if lines.is_empty() {
        lines.push("no difference".to_owned());
    }
    // Whoever reads may have enough before the end, as `head` does.
    let _ = writeln!(std::io::stdout(), "{}", lines.join("\n"));
    let restart = config::restart_needed(&old, &new);
    if !restart.is_empty() {
        eprintln!(
            "in force after a restart or an upgrade only: {}",
            restart.join(", ")
        );
    }
    ExitCode::SUCCESS
}

/// The environment's variables that are text; no other can be one of ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn start_logging() {
    // What h2 warns of is said by us, once a connection.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,h2=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// A connection needs two file descriptors; shells often allow 1,024 where the system would allow many more.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
}
