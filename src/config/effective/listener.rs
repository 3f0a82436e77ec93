//! `[[listeners]]` as a file would say them: each with the keys that its mode has.

use std::collections::BTreeMap;
use std::fmt;

use super::limit::{bandwidth, connection_rate, networks};
use super::list;
use crate::config::durations::DurationOrOff;
use crate::config::forms::{OneOrMany, Table};
use crate::config::model::{
    CertificateFiles, ClientAuth, Config, Listener, ListenerTls, Mode, SocketOptions,
};
use crate::config::names::{ListenAddress, Name};
use crate::config::schema;
use crate::config::types::ByteRate;

pub(super) fn listener(listener: &Listener, config: &Config) -> schema::Listener {
    let is_http = listener.mode == Mode::Http;
    let is_udp = listener.mode == Mode::Udp;
    let upstream = |index: usize| Name(config.upstreams[index].name.clone());
    schema::Listener {
        name: Some(Name(listener.name.clone())),
        listen: Some(OneOrMany(list(&listener.addresses, |it| {
            ListenAddress(*it)
        }))),
        mode: Some(listener.mode),
        upstream: listener.upstream.map(upstream),
        sni: by_name(&listener.sni, upstream),
        alpn: by_name(&listener.alpn, upstream),
        allow: Some(networks(&listener.access.allow)),
        deny: Some(networks(&listener.access.deny)),
        connection_rate: listener
            .connection_rate
            .as_ref()
            .map(|it| Table(connection_rate(it))),
        bandwidth: Some(bandwidth(&listener.bandwidth)),
        max_connections: Some(listener.max_connections),
        max_connections_per_ip: listener.max_connections_per_ip,
        tls: listener.tls.as_ref().map(|it| Table(tls(it))),
        http2: is_http.then_some(listener.http2),
        proxy_protocol: Some(match listener.proxy_protocol {
            true => schema::AcceptProxy::Required,
            false => schema::AcceptProxy::Off,
        }),
        min_body_rate: listener.min_body_rate.and_then(ByteRate::new),
        normalize_path: is_http.then_some(listener.normalize_path),
        timeouts: Some(Table(timeouts(listener))),
        tcp: (!is_udp).then(|| Table(socket_options(&listener.tcp))),
        responses: listener.responses,
        quic: is_udp.then_some(listener.quic),
    }
}

/// A table of what is passed through; none if there is nothing in it.
fn by_name<K: fmt::Display>(
    entries: &[(K, usize)],
    upstream: impl Fn(usize) -> Name,
) -> Option<BTreeMap<String, Name>> {
    let entries = entries.iter();
    let table: BTreeMap<String, Name> = entries
        .map(|(key, index)| (key.to_string(), upstream(*index)))
        .collect();
    (!table.is_empty()).then_some(table)
}

fn timeouts(listener: &Listener) -> schema::ListenerTimeouts {
    let timeouts = &listener.timeouts;
    let is_http = listener.mode == Mode::Http;
    let is_passed = !listener.sni.is_empty() || !listener.alpn.is_empty();
    let is_relayed = listener.mode == Mode::Tcp || is_passed;
    schema::ListenerTimeouts {
        headers: is_http.then(|| timeouts.headers.into()),
        keep_alive: is_http.then(|| timeouts.keep_alive.into()),
        idle: Some(timeouts.idle.into()),
        half_closed: is_relayed.then(|| timeouts.half_closed.into()),
        tls_handshake: (listener.mode != Mode::Udp).then(|| timeouts.tls_handshake.into()),
    }
}

pub(super) fn socket_options(options: &SocketOptions) -> schema::SocketOptions {
    schema::SocketOptions {
        keep_alive: Some(DurationOrOff(options.keep_alive)),
        user_timeout: Some(DurationOrOff(options.user_timeout)),
    }
}

fn tls(tls: &ListenerTls) -> schema::ListenerTls {
    let (client_auth, client_ca) = match &tls.client_auth {
        ClientAuth::None => (schema::ClientAuth::None, None),
        ClientAuth::Optional(ca) => (schema::ClientAuth::Optional, Some(ca.clone())),
        ClientAuth::Required(ca) => (schema::ClientAuth::Required, Some(ca.clone())),
    };
    schema::ListenerTls {
        certificates: Some(list(&tls.certificates, |it| Table(certificate(it)))),
        min_version: Some(tls.min_version),
        session_tickets: Some(tls.session_tickets),
        client_auth: Some(client_auth),
        client_ca,
    }
}

fn certificate(files: &CertificateFiles) -> schema::CertificateFiles {
    schema::CertificateFiles {
        cert: Some(files.cert.clone()),
        key: Some(files.key.clone()),
        ocsp: files.ocsp.clone(),
    }
}
