//! `upstreams.health_check`

use std::num::NonZeroU32;
use std::time::Duration;

use http::HeaderValue;

use super::uses::Uses;
use super::{Validation, duration_or};
use crate::config::forms::List;
use crate::config::key_path::KeyPath;
use crate::config::model::{HealthCheck, HealthCheckKind};
use crate::config::schema::{self, Expected};
use crate::config::types::{ServerAddress, StatusRange, StatusSet, parse_host};

const PATH: &str = "/health";
const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(2);
const FALL: NonZeroU32 = NonZeroU32::new(3).expect("it is not zero");
const RISE: NonZeroU32 = NonZeroU32::new(2).expect("it is not zero");

/// The name of the DNS' root, whose servers every resolver knows.
const ROOT: &str = ".";

/// What goes into one datagram of UDP over IPv4 (RFC 768).
const LONGEST_DATAGRAM: usize = 65_507;

impl Validation<'_> {
    pub(super) fn health_check(
        &mut self,
        raw: Option<&schema::HealthCheck>,
        uses: Uses,
        at: &KeyPath,
    ) -> Option<HealthCheck> {
        let default = schema::HealthCheck::default();
        // What was meant is not known, if there is an error in it.
        let is_silent = raw.is_some_and(|raw| raw.kind.is_none());
        if is_silent && uses.is_udp_only() && !self.problems.contains(&at.key("kind")) {
            self.problems.add(
                at.key("kind"),
                "is missing; servers that only listeners of mode = \"udp\" use are not probed by default, expected \"dns\" or \"udp\", or another kind that they answer",
            );
            return None;
        }
        let raw = raw.unwrap_or(&default);
        let kind = raw.kind.unwrap_or(match uses {
            uses if uses.is_udp_only() => schema::HealthCheckKind::Off,
            uses if uses.is_below_http() => schema::HealthCheckKind::Tcp,
            _ => schema::HealthCheckKind::Http,
        });
        self.keys_of_kind(raw, kind, at);
        let kind = match kind {
            schema::HealthCheckKind::Off => return None,
            schema::HealthCheckKind::Http => self.http_check(raw, at),
            schema::HealthCheckKind::Tcp => HealthCheckKind::Tcp,
            schema::HealthCheckKind::Grpc => HealthCheckKind::Grpc {
                service: raw.service.clone().unwrap_or_default(),
            },
            schema::HealthCheckKind::Dns => HealthCheckKind::Dns {
                name: self.dns_name(raw, at.key("name")),
            },
            schema::HealthCheckKind::Udp => self.udp_check(raw, at),
        };
        Some(HealthCheck {
            kind,
            interval: duration_or(raw.interval, INTERVAL),
            timeout: duration_or(raw.timeout, TIMEOUT),
            fall: raw.fall.unwrap_or(FALL),
            rise: raw.rise.unwrap_or(RISE),
            port: raw.port.map(u16::from),
        })
    }

    /// Keys that only other kinds of probe have are problems.
    fn keys_of_kind(
        &mut self,
        raw: &schema::HealthCheck,
        kind: schema::HealthCheckKind,
        at: &KeyPath,
    ) {
        use schema::HealthCheckKind::{Dns, Grpc, Http, Off, Udp};
        if self.problems.contains(&at.key("kind")) {
            return;
        }
        for (key, is_given, kinds, words) in [
            ("path", raw.path.is_some(), &[Http][..], "\"http\""),
            ("host", raw.host.is_some(), &[Http], "\"http\""),
            (
                "expect",
                raw.expect.is_some(),
                &[Http, Udp],
                "\"http\" or \"udp\"",
            ),
            ("service", raw.service.is_some(), &[Grpc], "\"grpc\""),
            ("name", raw.name.is_some(), &[Dns], "\"dns\""),
            ("send", raw.send.is_some(), &[Udp], "\"udp\""),
        ] {
            if is_given && !kinds.contains(&kind) {
                let message = format!("is for kind = {words}; leave it out");
                self.problems.add(at.key(key), message);
            }
        }
        if raw.port.is_some() && kind == Off {
            self.problems.add(
                at.key("port"),
                "is for probes, and kind = \"off\" makes none; leave it out",
            );
        }
    }

    fn http_check(&mut self, raw: &schema::HealthCheck, at: &KeyPath) -> HealthCheckKind {
        let path = raw.path.clone().unwrap_or_else(|| PATH.to_owned());
        self.request_path(&path, at.key("path"));
        let host = raw.host.as_ref().and_then(|host| {
            let value = HeaderValue::from_str(host).ok().filter(|value| !value.is_empty());
            if value.is_none() {
                self.problems.add(
                    at.key("host"),
                    format!("{host:?} is not a Host header's value; expected for example \"app.internal\""),
                );
            }
            value
        });
        let expect = match &raw.expect {
            Some(Expected::Statuses(list)) => self.statuses(list, at.key("expect")),
            Some(Expected::Text(text)) => {
                self.problems.add(
                    at.key("expect"),
                    format!(
                        "{text:?} is a string; expected a list, for example [\"2xx\", \"3xx\"]"
                    ),
                );
                StatusSet::success_or_redirection()
            }
            None => StatusSet::success_or_redirection(),
        };
        HealthCheckKind::Http { path, host, expect }
    }

    fn statuses(&mut self, list: &List<StatusRange>, at: KeyPath) -> StatusSet {
        if list.is_empty() {
            self.problems.add(
                at,
                "is empty, so that no server would be healthy; expected for example [\"2xx\", \"3xx\"]",
            );
        }
        StatusSet::new(list.iter().flatten().cloned().collect())
    }

    fn dns_name(&mut self, raw: &schema::HealthCheck, at: KeyPath) -> String {
        let name = raw.name.as_deref().unwrap_or(ROOT);
        if name == ROOT {
            return ROOT.to_owned();
        }
        // A port makes an address of it, which a name is not.
        let is_address = matches!(format!("{name}:53").parse(), Ok(ServerAddress::Ip(_)));
        match parse_host(name) {
            Ok(host) if !is_address => host,
            _ => {
                self.problems.add(
                    at,
                    format!("{name:?} is not a name to ask a DNS server for; expected for example \"example.com\" or \".\""),
                );
                ROOT.to_owned()
            }
        }
    }

    fn udp_check(&mut self, raw: &schema::HealthCheck, at: &KeyPath) -> HealthCheckKind {
        let send = raw.send.clone().unwrap_or_default();
        if send.len() > LONGEST_DATAGRAM {
            self.problems.add(
                at.key("send"),
                format!("does not fit a datagram, which has at most {LONGEST_DATAGRAM} bytes"),
            );
        }
        let expect = match &raw.expect {
            Some(Expected::Text(text)) => Some(text.clone()),
            Some(Expected::Statuses(_)) => {
                self.problems.add(
                    at.key("expect"),
                    "is a list of statuses, which is for kind = \"http\"; expected a text that the answer has in it",
                );
                None
            }
            None => None,
        };
        HealthCheckKind::Udp { send, expect }
    }
}
