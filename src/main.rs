//! The command line of the load balancer.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use loadbalancer::server::{self, Source, Start};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An HTTP reverse proxy and load balancer.
#[derive(Debug, Parser)]
#[command(
    version,
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

    /// Only check the configuration and its certificates: print every error with its place, exit 1 if there is one
    #[arg(long)]
    check: bool,

    /// Take over from the load balancer that serves at this configuration's upgrade_socket: it finishes what it has and
    /// ends. If this one cannot start, it serves on
    #[arg(long, conflicts_with = "check")]
    upgrade: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
        match server::check(&config) {
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
