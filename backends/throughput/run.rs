//! The client's side: which parts a run has, and their order.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum, value_parser};

use super::load::Load;
use super::processor::Process;
use super::report::{self, Place, Sample};
use super::transfer::Ways;
use super::wire::LONGEST;
use super::{requests, transfer};

/// The longest request in a datagram.
const LONGEST_DATAGRAM: u32 = 65_507;

/// What Linux lets datagrams that nobody has read yet take, unless it is told otherwise; those beyond are lost.
const SOCKET_BUFFER: u64 = 212_992;

/// What each of them takes besides twice its bytes, at most.
const DATAGRAM_COST: u32 = 1024;

#[derive(Args)]
#[command(
    after_help = "Both addresses have to lead to the same `throughput serve`. Each round goes to the server directly and through the \
    load balancer, in turn; medians count. Exit status: 0 if all arrived as it was sent, 1 if not, or if a ratio is below \
    --at-least, 2 for wrong usage."
)]
pub struct Flags {
    /// Where the server is
    #[arg(long, value_name = "ADDR")]
    direct: SocketAddr,

    /// Where the load balancer is
    #[arg(long, value_name = "ADDR")]
    through: SocketAddr,

    /// Requests in datagrams; there are no transfers then
    #[arg(long)]
    udp: bool,

    /// What is measured; without it, all
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    only: Vec<Part>,

    /// MiB of a transfer, each way
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u64).range(1..=1 << 20))]
    mib: u64,

    /// Requests of a round
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = value_parser!(u64).range(1..=10_000_000))]
    requests: u64,

    /// Bytes of a request, and of its answer
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = value_parser!(u32).range(1..=LONGEST as i64))]
    size: u32,

    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u64).range(1..=1024))]
    connections: u64,

    /// How often everything is done
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u64).range(1..=100))]
    rounds: u64,

    /// Fails if through the load balancer it is slower than directly times this
    #[arg(long, value_name = "RATIO")]
    at_least: Option<f64>,

    /// The load balancer's process, whose processor time is to be told
    #[arg(long)]
    pid: Option<u32>,

    /// Seconds that nothing may move before it counts as lost
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = value_parser!(u64).range(1..=3600))]
    patience: u64,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Bytes to the server
    Up,
    /// Bytes from the server
    Down,
    /// Bytes to the server and from it at once
    Both,
    /// Requests and answers
    Requests,
}

/// Measures all that the flags say and prints a table.
///
/// # Errors
/// What went wrong first: what was lost, changed or too slow.
pub fn run(flags: &Flags) -> Result<(), String> {
    let load = Load {
        bytes: flags.mib << 20,
        requests: flags.requests,
        size: flags.size,
        connections: flags.connections,
        patience: Duration::from_secs(flags.patience),
        udp: flags.udp,
    };
    let parts = parts(flags);
    let process = flags.pid.map(Process);
    let mut samples = Vec::new();
    for round in 0..flags.rounds {
        for &part in &parts {
            let mut places = [
                (Place::Direct, flags.direct, None),
                (Place::Through, flags.through, process),
            ];
            // Who comes first may find the machine in another state.
            if round % 2 == 1 {
                places.reverse();
            }
            for (place, server, process) in places {
                let sample = measure(part, server, &load, process)
                    .map_err(|error| format!("{}, {place} ({server}): {error}", part.name()))?;
                samples.push((part, place, sample));
            }
        }
    }
    let ratios = report::print(&parts, &samples, &load);
    let least = flags.at_least.unwrap_or(0.0);
    let slow = ratios.iter().find(|(_, ratio)| *ratio < least);
    slow.map_or(Ok(()), |(part, ratio)| {
        let name = part.name();
        Err(format!(
            "{name}: {ratio:.3} times as fast as directly, not {least}"
        ))
    })
}

/// What of the flags is to be done; without `--only`, all that there is.
fn parts(flags: &Flags) -> Vec<Part> {
    let all = Part::value_variants().iter().copied();
    let is_chosen = |part: &Part| {
        let is_possible = !flags.udp || *part == Part::Requests;
        is_possible && (flags.only.is_empty() || flags.only.contains(part))
    };
    all.filter(is_chosen).collect()
}

impl Flags {
    /// Whether they fit together.
    ///
    /// # Errors
    /// Why they do not.
    pub fn check(&self) -> Result<(), String> {
        if !self.udp {
            return Ok(());
        }
        if let Some(part) = self.only.first()
            && !self.only.contains(&Part::Requests)
        {
            return Err(format!("there is no {} over UDP", part.name()));
        }
        if self.size > LONGEST_DATAGRAM {
            return Err(format!("a datagram has {LONGEST_DATAGRAM} bytes at most"));
        }
        let at_once = self.connections * u64::from(2 * self.size + DATAGRAM_COST);
        if at_once > SOCKET_BUFFER {
            let text = "so many datagrams at once may not fit into a socket's buffer: fewer, or shorter ones";
            return Err(text.to_owned());
        }
        Ok(())
    }
}

fn measure(
    part: Part,
    server: SocketAddr,
    load: &Load,
    process: Option<Process>,
) -> Result<Sample, String> {
    let time = || {
        let time = process.map(Process::time).transpose();
        time.map_err(|error| error.to_string())
    };
    let before = time()?;
    let ways = |up, down| transfer::run(server, Ways { up, down }, load);
    let (elapsed, latencies) = match part {
        Part::Up => (ways(true, false)?, Vec::new()),
        Part::Down => (ways(false, true)?, Vec::new()),
        Part::Both => (ways(true, true)?, Vec::new()),
        Part::Requests => {
            let answered = requests::run(server, load)?;
            (answered.elapsed, answered.latencies)
        }
    };
    let used = before.zip(time()?);
    Ok(Sample {
        elapsed,
        latencies,
        processor: used.map(|(before, after)| after.saturating_sub(before)),
    })
}

impl Part {
    /// As in `--only`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Both => "both",
            Self::Requests => "requests",
        }
    }
}
