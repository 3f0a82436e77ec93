//! Measures what a load balancer costs streams and requests, and shows that it loses and changes nothing.
//!
//! [`serve`] is the server side, [`run`] the client's, which goes to a server directly and through the load balancer in
//! turn. [`wire`] is what they say to each other. Both block, in a thread or two a connection: that is simple, and fast.

#[path = "../both.rs"]
mod both;
mod fault;
mod load;
mod processor;
mod report;
mod requests;
mod run;
mod serve;
mod transfer;
mod wire;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

/// Measures streams and requests over TCP, and requests over UDP, directly and through a load balancer.
#[derive(Parser)]
#[command(name = "throughput", version)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Is the server, until SIGTERM or SIGINT
    Serve(serve::Flags),
    /// Measures, prints a table, and fails if a byte was lost or changed
    Run(run::Flags),
}

fn main() -> ExitCode {
    let done = match Flags::parse().command {
        Command::Serve(flags) => serve::run(&flags).map_err(|error| error.to_string()),
        Command::Run(flags) => {
            if let Err(text) = flags.check() {
                let error = Flags::command().error(ErrorKind::ArgumentConflict, text);
                error.exit();
            }
            run::run(&flags)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}
