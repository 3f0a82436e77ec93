//! What a listener's `mode` asks for and what it has no use for, and the same of upstreams that only listeners use.

use super::uses::{Uses, mode_of, passed_through};
use super::{Names, Validation};
use crate::config::forms::OrOff;
use crate::config::key_path::KeyPath;
use crate::config::model::{HashKey, Mode, Protocol};
use crate::config::schema;

const HTTP: &[Mode] = &[Mode::Http];
const TCP: &[Mode] = &[Mode::Tcp];
const UDP: &[Mode] = &[Mode::Udp];
const CONNECTIONS: &[Mode] = &[Mode::Http, Mode::Tcp];
const BELOW_HTTP: &[Mode] = &[Mode::Tcp, Mode::Udp];

impl Validation<'_> {
    /// Keys that the listener's mode has no use for are problems.
    pub(super) fn keys_of_mode(&mut self, raw: &schema::Listener, at: &KeyPath) {
        // Which mode was meant is not known.
        if self.problems.contains(&at.key("mode")) {
            return;
        }
        let mode = mode_of(raw);
        let is_passed = passed_through(raw).next().is_some();
        let given: [(&str, bool, &[Mode]); 11] = [
            ("upstream", raw.upstream.is_some(), BELOW_HTTP),
            ("sni", has_entries(&raw.sni), CONNECTIONS),
            ("alpn", has_entries(&raw.alpn), CONNECTIONS),
            ("tls", raw.tls.is_some(), CONNECTIONS),
            (
                "proxy_protocol",
                raw.proxy_protocol == Some(schema::AcceptProxy::Required),
                CONNECTIONS,
            ),
            ("tcp", raw.tcp.is_some(), CONNECTIONS),
            ("http2", raw.http2.is_some(), HTTP),
            ("min_body_rate", raw.min_body_rate.is_some(), HTTP),
            ("normalize_path", raw.normalize_path.is_some(), HTTP),
            ("responses", raw.responses.is_some(), UDP),
            ("quic", raw.quic.is_some(), UDP),
        ];
        for (key, is_given, modes) in given {
            self.key_of_mode(is_given, modes, mode, at.key(key));
        }
        let Some(timeouts) = raw.timeouts.as_deref() else {
            return;
        };
        let at = at.key("timeouts");
        let half_closed = timeouts.half_closed.is_some() && !is_passed;
        let given: [(&str, bool, &[Mode]); 4] = [
            ("headers", timeouts.headers.is_some(), HTTP),
            ("keep_alive", timeouts.keep_alive.is_some(), HTTP),
            ("half_closed", half_closed, TCP),
            (
                "tls_handshake",
                timeouts.tls_handshake.is_some(),
                CONNECTIONS,
            ),
        ];
        for (key, is_given, modes) in given {
            self.key_of_mode(is_given, modes, mode, at.key(key));
        }
    }

    fn key_of_mode(&mut self, is_given: bool, modes: &[Mode], mode: Mode, at: KeyPath) {
        if is_given && !modes.contains(&mode) {
            let words: Vec<String> = modes
                .iter()
                .map(|mode| format!("{:?}", word(*mode)))
                .collect();
            let advice = match modes {
                BELOW_HTTP => {
                    "set mode = \"tcp\" (or \"udp\"), or leave it out: routes say where requests of HTTP go"
                }
                _ => "leave it out",
            };
            self.problems.add(
                at,
                format!(
                    "is for mode = {}, and this listener's is {:?}; {advice}",
                    words.join(" or "),
                    word(mode)
                ),
            );
        }
    }

    /// Where a listener that has no routes sends to.
    pub(super) fn listener_upstream(
        &mut self,
        raw: &schema::Listener,
        upstreams: &Names,
        at: &KeyPath,
    ) -> Option<usize> {
        let mode = mode_of(raw);
        if mode == Mode::Http {
            return None;
        }
        let at = at.key("upstream");
        let Some(name) = &raw.upstream else {
            let is_chosen = raw.tls.is_none() && passed_through(raw).next().is_some();
            if !(mode == Mode::Tcp && is_chosen) {
                self.problems.add(
                    at,
                    format!(
                        "is missing; expected the upstream that mode = {:?} passes everything on to, for example \"db\"",
                        word(mode)
                    ),
                );
            }
            return None;
        };
        let upstream = self.resolve(name, upstreams, at.clone())?;
        if mode == Mode::Udp {
            let target = super::nth(&self.root.upstreams, upstream)?;
            let key = match () {
                () if target.tls.is_some() => "tls",
                () if sends_proxy(target) => "proxy_protocol",
                () => return Some(upstream),
            };
            self.problems.add(
                at,
                format!("{:?} has {key:?}, and datagrams are sent as they come; expected an upstream without it", name.0),
            );
        }
        Some(upstream)
    }

    /// Keys of an upstream that those who send to it have no use for are problems.
    pub(super) fn keys_of_uses(&mut self, raw: &schema::Upstream, uses: Uses, at: &KeyPath) {
        let by_request = raw.hash.as_ref().is_some_and(|it| *it != HashKey::ClientIp);
        if by_request && (uses.tcp || uses.udp) {
            self.problems.add(
                at.key("hash"),
                "is a part of HTTP requests, and a listener passes connections or datagrams on to this upstream; expected \"client_ip\"",
            );
        }
        let timeouts = raw.timeouts.as_deref();
        let has = |given: fn(&schema::UpstreamTimeouts) -> bool| timeouts.is_some_and(given);
        let protocol = raw.protocol.is_some_and(|it| it != Protocol::Http1);
        let adaptive = matches!(raw.adaptive_concurrency, Some(OrOff::On(_)));
        let of_http = [
            (at.key("sticky"), raw.sticky.is_some()),
            (at.key("set_headers"), has_entries(&raw.set_headers)),
            (at.key("protocol"), protocol),
            (at.key("adaptive_concurrency"), adaptive),
            (
                at.key("timeouts").key("response"),
                has(|it| it.response.is_some()),
            ),
            (at.key("timeouts").key("idle"), has(|it| it.idle.is_some())),
            (
                at.key("timeouts").key("pool_idle"),
                has(|it| it.pool_idle.is_some()),
            ),
        ];
        let of_connections = [
            (at.key("tcp"), raw.tcp.is_some()),
            (
                at.key("timeouts").key("connect"),
                has(|it| it.connect.is_some()),
            ),
        ];
        for (at, is_given) in of_http {
            if is_given && uses.is_below_http() {
                self.problems.add(
                    at,
                    "is for HTTP requests, and no route sends any to this upstream; leave it out",
                );
            }
        }
        for (at, is_given) in of_connections {
            if is_given && uses.is_udp_only() {
                self.problems.add(
                    at,
                    "is for TCP connections, and only listeners of mode = \"udp\" use this upstream; leave it out",
                );
            }
        }
    }
}

fn has_entries<T>(table: &Option<std::collections::BTreeMap<String, T>>) -> bool {
    table.as_ref().is_some_and(|table| !table.is_empty())
}

fn sends_proxy(upstream: &schema::Upstream) -> bool {
    !matches!(upstream.proxy_protocol, None | Some(schema::SendProxy::Off))
}

/// As a file says it.
fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Http => "http",
        Mode::Tcp => "tcp",
        Mode::Udp => "udp",
    }
}
