//! The table of what was measured.

use std::fmt;
use std::time::Duration;

use super::load::Load;
use super::run::Part;

/// Where the bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Direct,
    Through,
}

/// One part of one round at one place.
pub struct Sample {
    pub elapsed: Duration,
    /// Of requests.
    pub latencies: Vec<Duration>,
    /// What the load balancer used meanwhile, if that is known.
    pub processor: Option<Duration>,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Direct => "directly",
            Self::Through => "through the load balancer",
        })
    }
}

/// Prints the table, and gives for each part how fast it was through the load balancer beside directly.
pub fn print(parts: &[Part], samples: &[(Part, Place, Sample)], load: &Load) -> Vec<(Part, f64)> {
    println!("| what | direct | through | ratio | load balancer's processor |");
    println!("| --- | --: | --: | --: | --: |");
    let mut ratios = Vec::new();
    for &part in parts {
        let at = |wanted| {
            let of_part = samples
                .iter()
                .filter(move |(of, place, _)| (*of, *place) == (part, wanted));
            of_part.map(|(_, _, sample)| sample).collect::<Vec<_>>()
        };
        let (direct, through) = (at(Place::Direct), at(Place::Through));
        let (amount, unit) = amount(part, load);
        let rate = |samples: &[&Sample]| amount / median(samples, |sample| sample.elapsed);
        let (slow, fast) = (rate(&through), rate(&direct));
        let ratio = slow / fast;
        let processor = processor(part, &through, amount);
        println!("| {unit} | {fast:.0} | {slow:.0} | {ratio:.3} | {processor} |");
        ratios.push((part, ratio));
        if part == Part::Requests {
            for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
                let of = |samples| percentile(samples, share).as_secs_f64() * 1e6;
                let (direct, through) = (of(&direct), of(&through));
                let ratio = through / direct;
                println!("| {name}, µs | {direct:.0} | {through:.0} | {ratio:.3} | |");
            }
        }
    }
    ratios
}

/// How much a part does in one round, and what its rate is called.
fn amount(part: Part, load: &Load) -> (f64, String) {
    let mib = (load.bytes >> 20) as f64;
    let carrier = if load.udp { "datagrams" } else { "requests" };
    match part {
        Part::Up => (mib, "up, MiB/s".to_owned()),
        Part::Down => (mib, "down, MiB/s".to_owned()),
        Part::Both => (2.0 * mib, "both at once, MiB/s".to_owned()),
        Part::Requests => {
            let what = format!("{carrier} of {} B, 1/s", load.size);
            (load.requests as f64, what)
        }
    }
}

fn processor(part: Part, through: &[&Sample], amount: f64) -> String {
    if through.iter().any(|sample| sample.processor.is_none()) {
        return "-".to_owned();
    }
    let used = median(through, |sample| sample.processor.unwrap_or_default());
    match part {
        Part::Requests => format!("{:.1} µs a request", used * 1e6 / amount),
        _ => format!("{:.3} s a GiB", used * 1024.0 / amount),
    }
}

/// In seconds.
fn median(samples: &[&Sample], of: impl Fn(&Sample) -> Duration) -> f64 {
    let mut values: Vec<_> = samples
        .iter()
        .map(|sample| of(sample).as_secs_f64())
        .collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

/// Over all rounds.
fn percentile(samples: &[&Sample], share: f64) -> Duration {
    let all = samples.iter().flat_map(|sample| &sample.latencies);
    let mut all: Vec<_> = all.copied().collect();
    all.sort_unstable();
    let index = (all.len() as f64 * share) as usize;
    all[index.min(all.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ms: u64) -> Sample {
        let elapsed = Duration::from_millis(ms);
        Sample {
            elapsed,
            latencies: vec![elapsed],
            processor: None,
        }
    }

    #[test]
    fn medians_and_percentiles() {
        let samples: Vec<_> = (1..=100).rev().map(sample).collect();
        let samples: Vec<_> = samples.iter().collect();
        assert_eq!(median(&samples, |sample| sample.elapsed), 0.0505);
        assert_eq!(median(&samples[..3], |sample| sample.elapsed), 0.099);
        assert_eq!(percentile(&samples, 0.99), Duration::from_millis(100));
        assert_eq!(percentile(&samples, 0.5), Duration::from_millis(51));
    }
}
