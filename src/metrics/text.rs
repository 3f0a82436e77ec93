//! The Prometheus text exposition format, version 0.0.4.

use std::fmt::{Display, Write};

use super::{BOUNDS, Durations, Sharded};

/// The format's content type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes metric families one after the other.
#[derive(Debug, Default)]
pub struct Text(String);

/// Label names and values, in the order in which they are written.
pub type Labels<'a> = [(&'a str, &'a str)];

impl Text {
    /// Opens a family of counters; the name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str) {
        self.family(name, help, "counter");
    }

    /// Opens a family of gauges.
    pub fn gauge(&mut self, name: &str, help: &str) {
        self.family(name, help, "gauge");
    }

    /// Opens a family of histograms.
    pub fn histogram(&mut self, name: &str, help: &str) {
        self.family(name, help, "histogram");
    }

    fn family(&mut self, name: &str, help: &str, kind: &str) {
        _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Writes one sample.
    pub fn sample(&mut self, name: &str, labels: &Labels<'_>, value: impl Display) {
        self.labelled(name, labels, None);
        _ = writeln!(self.0, " {value}");
    }

    /// Writes the buckets, sum and count of one histogram.
    pub fn durations<T>(
        &mut self,
        name: &str,
        labels: &Labels<'_>,
        shards: &Sharded<T>,
        of: impl Fn(&T) -> &Durations,
    ) {
        let mut cumulative = 0;
        for bucket in 0..=BOUNDS.len() {
            cumulative += shards.sum(|shard| of(shard).buckets[bucket].get());
            let bound = BOUNDS
                .get(bucket)
                .map_or_else(|| "+Inf".to_owned(), f64::to_string);
            self.labelled(&format!("{name}_bucket"), labels, Some(("le", &bound)));
            _ = writeln!(self.0, " {cumulative}");
        }
        let seconds = shards.sum(|shard| of(shard).sum_micros.get()) as f64 / 1e6;
        self.labelled(&format!("{name}_sum"), labels, None);
        _ = writeln!(self.0, " {seconds}");
        self.sample(&format!("{name}_count"), labels, cumulative);
    }

    fn labelled(&mut self, name: &str, labels: &Labels<'_>, last: Option<(&str, &str)>) {
        self.0.push_str(name);
        let mut separator = '{';
        for (label, value) in labels.iter().copied().chain(last) {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            _ = write!(self.0, "{separator}{label}=\"{value}\"");
            separator = ',';
        }
        if separator == ',' {
            self.0.push('}');
        }
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn samples_carry_escaped_labels() {
        let mut text = Text::default();
        text.counter("lb_x_total", "Things.");
        text.sample("lb_x_total", &[("a", "say \"hi\"\\"), ("b", "2")], 7);
        text.sample("lb_x_total", &[], 1);
        assert_eq!(
            text.finish(),
            "# HELP lb_x_total Things.\n# TYPE lb_x_total counter\n\
             lb_x_total{a=\"say \\\"hi\\\"\\\\\",b=\"2\"} 7\nlb_x_total 1\n"
        );
    }

    #[test]
    fn histogram_buckets_are_cumulative() {
        let shards: Sharded<Durations> = Sharded::new(2);
        shards.shard(0).observe(Duration::from_millis(1));
        shards.shard(1).observe(Duration::from_secs(60));
        let mut text = Text::default();
        text.durations("d", &[("r", "x")], &shards, |d| d);
        let text = text.finish();
        assert!(
            text.contains("d_bucket{r=\"x\",le=\"0.0005\"} 0\nd_bucket{r=\"x\",le=\"0.001\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "d_bucket{r=\"x\",le=\"+Inf\"} 2\nd_sum{r=\"x\"} 60.001\nd_count{r=\"x\"} 2\n"
            ),
            "{text}"
        );
    }
}
