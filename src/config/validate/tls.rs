//! `listeners.tls` and `upstreams.tls`

use std::path::PathBuf;

use rustls::pki_types::ServerName;

use super::{Validation, present};
use crate::config::key_path::KeyPath;
use crate::config::model::{CertificateFiles, ClientAuth, ListenerTls, TlsVersion, UpstreamTls};
use crate::config::schema;

impl Validation<'_> {
    pub(super) fn listener_tls(&mut self, raw: &schema::ListenerTls, at: &KeyPath) -> ListenerTls {
        let expected = "for example [{ cert = \"server.crt\", key = \"server.key\" }]";
        let list = at.key("certificates");
        let given = self
            .problems
            .required(&raw.certificates, list.clone(), expected);
        if given.is_some_and(Vec::is_empty) {
            self.problems
                .add(list.clone(), format!("is empty; expected {expected}"));
        }
        ListenerTls {
            certificates: present(&raw.certificates)
                .filter_map(|(index, raw)| self.certificate(raw, &list.index(index)))
                .collect(),
            min_version: raw.min_version.unwrap_or(TlsVersion::Tls12),
            session_tickets: raw.session_tickets.unwrap_or(true),
            client_auth: self.client_auth(raw, at),
        }
    }

    fn certificate(
        &mut self,
        raw: &schema::CertificateFiles,
        at: &KeyPath,
    ) -> Option<CertificateFiles> {
        let expected = "the file of the certificate, in PEM, for example \"server.crt\"";
        let cert = self.problems.required(&raw.cert, at.key("cert"), expected);
        let expected =
            "the file of the certificate's private key, in PEM, for example \"server.key\"";
        let key = self.problems.required(&raw.key, at.key("key"), expected);
        Some(CertificateFiles {
            cert: cert?.clone(),
            key: key?.clone(),
            ocsp: raw.ocsp.clone(),
        })
    }

    fn client_auth(&mut self, raw: &schema::ListenerTls, at: &KeyPath) -> ClientAuth {
        let kind = raw.client_auth.unwrap_or(schema::ClientAuth::None);
        if kind == schema::ClientAuth::None {
            // Someone who names authorities wants certificates of them.
            if raw.client_ca.is_some() && !self.problems.contains(&at.key("client_auth")) {
                self.problems.add(
                    at.key("client_ca"),
                    "is for client_auth = \"optional\" or \"required\"; set that, or leave it out",
                );
            }
            return ClientAuth::None;
        }
        let expected = "the file of the authorities that clients' certificates come from, in PEM";
        let ca = self
            .problems
            .required(&raw.client_ca, at.key("client_ca"), expected);
        let ca = ca.cloned().unwrap_or_default();
        match kind {
            schema::ClientAuth::Required => ClientAuth::Required(ca),
            _ => ClientAuth::Optional(ca),
        }
    }

    pub(super) fn upstream_tls(&mut self, raw: &schema::UpstreamTls, at: &KeyPath) -> UpstreamTls {
        if let Some(name) = &raw.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            self.problems.add(
                at.key("server_name"),
                format!("{name:?} is not a host name or IP address; expected for example \"db.internal\""),
            );
        }
        let insecure_skip_verify = raw.insecure_skip_verify.unwrap_or(false);
        if insecure_skip_verify && raw.ca.is_some() {
            self.problems.add(
                at.key("ca"),
                "verifies nothing with insecure_skip_verify = true; leave one of the two out",
            );
        }
        UpstreamTls {
            ca: raw.ca.clone(),
            server_name: raw.server_name.clone(),
            client: self.client_certificate(raw, at),
            insecure_skip_verify,
        }
    }

    fn client_certificate(
        &mut self,
        raw: &schema::UpstreamTls,
        at: &KeyPath,
    ) -> Option<(PathBuf, PathBuf)> {
        let (missing, other) = match (&raw.cert, &raw.key) {
            (Some(cert), Some(key)) => return Some((cert.clone(), key.clone())),
            (None, None) => return None,
            (None, Some(_)) => ("cert", "key"),
            (Some(_), None) => ("key", "cert"),
        };
        if !self.problems.contains(&at.key(missing)) {
            self.problems.add(
                at.key(missing),
                format!("is missing; {other:?} is of no use without it"),
            );
        }
        None
    }
}
