//! From the configuration's `health_check` to probes.

use std::time::Duration;

use http::uri::PathAndQuery;

use crate::config::model;
use crate::health;

/// How long ICMP may take to say that nobody listens, where no answer is needed.
const SILENCE: Duration = Duration::from_millis(500);

/// What a probe does, and when.
pub(super) fn health_check(check: &model::HealthCheck) -> (health::Probe, health::Settings) {
    let probe = match &check.kind {
        model::HealthCheckKind::Http { path, host, expect } => {
            health::Probe::Http(health::HttpProbe {
                path: PathAndQuery::try_from(path.as_str())
                    .expect("the path was checked by the configuration"),
                host: host.clone(),
                expect: health::StatusRanges::new(expect.ranges().iter().map(|range| {
                    let (first, last) = range.bounds();
                    first..=last
                })),
            })
        }
        model::HealthCheckKind::Grpc { service } => health::Probe::Grpc(health::GrpcProbe {
            service: service.clone(),
        }),
        model::HealthCheckKind::Tcp => health::Probe::Tcp(health::TcpProbe),
        model::HealthCheckKind::Dns { name } => {
            health::Probe::Dns(health::DnsProbe { name: name.clone() })
        }
        model::HealthCheckKind::Udp { send, expect } => health::Probe::Udp(health::UdpProbe {
            send: send.clone().into_bytes(),
            expect: expect.clone().map(String::into_bytes),
            silence: SILENCE.min(check.timeout / 2),
        }),
    };
    let settings = health::Settings {
        interval: check.interval,
        timeout: check.timeout,
        fall: check.fall,
        rise: check.rise,
    };
    (probe, settings)
}
