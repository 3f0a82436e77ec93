//! A small HTTP/1.1 server to balance load over: flags, socket, connections and shutdown.
//!
//! Both test servers are this module with another name and port. What it answers is in [`answers`], what goes wrong in
//! [`service`]; it is meant to be awkward on request (slow, cut off, hanging), never to be put on a network.

mod answers;
mod body;
mod faults;
mod gate;
mod journal;
mod peer;
mod requirement;
mod service;

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use answers::Server;
use faults::Faults;
use journal::Journal;
use peer::Peer;
use requirement::Requirement;
use service::Service;

/// How long answers under way may go on after SIGTERM or SIGINT.
const GRACE: Duration = Duration::from_secs(2);

/// How long to leave accepting alone after it failed, for example because file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A test server whose answers name it.
#[derive(Parser)]
#[command(name = env!("CARGO_BIN_NAME"), version, after_help = answers::PATHS)]
struct Flags {
    /// Where to listen; port 0 takes a free port and prints it
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,

    /// The name in the answers and in their `x-backend` header
    #[arg(long, value_parser = name)]
    name: HeaderValue,

    /// Milliseconds to wait before every answer
    #[arg(long, value_name = "MS", default_value = "0", value_parser = milliseconds)]
    delay: Duration,

    /// Status of `/health`
    #[arg(long, value_name = "CODE", default_value = "200", value_parser = answers::status)]
    health_status: StatusCode,

    /// Milliseconds that `/health` waits, on top of `--delay`
    #[arg(long, value_name = "MS", default_value = "0", value_parser = milliseconds)]
    health_delay: Duration,

    /// Answers 403 to requests without this field, but for `/health` and `/faults`; the value `env:VARIABLE` is that variable's
    #[arg(long, value_name = "NAME: VALUE")]
    require_header: Option<Requirement>,

    /// What goes wrong, as JSON: see below. `POST /faults` changes it
    #[arg(long, value_name = "JSON", default_value = "{}")]
    faults: Faults,

    /// A file to which requests with an `x-chaos-id` are added when they are executed: `ID METHOD PID begin`, or `end`
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,

    /// Milliseconds after SIGTERM in which open connections may bring further requests; their answers say that they will
    /// be closed
    #[arg(long, value_name = "MS", default_value = "0", value_parser = milliseconds)]
    linger: Duration,
}

fn milliseconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

fn name(text: &str) -> Result<HeaderValue, &'static str> {
    match HeaderValue::from_str(text) {
        Ok(value) if value.to_str().is_ok() => Ok(value),
        _ => Err("expected printable ASCII"),
    }
}

/// Runs a test server with these defaults for `--name` and `--listen` until SIGTERM or SIGINT.
pub fn run(default_name: &'static str, default_listen: &'static str) -> ExitCode {
    let matches = Flags::command()
        .mut_arg("name", |arg| {
            arg.required(false).default_value(default_name)
        })
        .mut_arg("listen", |arg| {
            arg.required(false).default_value(default_listen)
        })
        .get_matches();
    let flags = Flags::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());

    match serve(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", env!("CARGO_BIN_NAME"));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(flags: Flags) -> io::Result<()> {
    // Before the first line is printed: who reads it may send a signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let listener = TcpListener::bind(flags.listen)
        .await
        .map_err(|error| io::Error::other(format!("cannot listen on {}: {error}", flags.listen)))?;
    let journal = flags.journal.as_deref().map(Journal::open).transpose();
    let journal = journal.map_err(|error| io::Error::other(format!("the journal: {error}")))?;
    let server = Server::new(
        flags.name,
        flags.delay,
        flags.health_status,
        flags.health_delay,
        flags.require_header,
    );
    let service = Arc::new(Service::new(server, flags.faults, journal));
    writeln!(
        io::stdout(),
        "{} listening on {}",
        service.name(),
        listener.local_addr()?
    )?;

    let stop = watch::Sender::new(());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        never = accept(&listener, &service, &stop) => match never {},
    }
    drop(listener);
    service.leave();
    // Every connection holds a receiver, so the channel closes with the last of them.
    let _ = timeout(flags.linger, stop.closed()).await;
    stop.send_replace(());
    let _ = timeout(GRACE, stop.closed()).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    service: &Arc<Service>,
    stop: &watch::Sender<()>,
) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve_connection(
                    stream,
                    Arc::clone(service),
                    stop.subscribe(),
                ));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve_connection(stream: TcpStream, service: Arc<Service>, mut stop: watch::Receiver<()>) {
    // A failure here only costs latency.
    let _ = stream.set_nodelay(true);
    // Without another file descriptor there is nothing to be done but to close this one.
    let Ok(peer) = Peer::of(&stream).map(Arc::new) else {
        return;
    };

    let service = service_fn(|request| service.answer(request, &peer));
    let mut connection = pin!(
        http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    // Errors are the client's affair, or what the path asked for.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
