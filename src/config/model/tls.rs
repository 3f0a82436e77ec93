//! TLS of listeners and towards upstreams: which files and what is asked of the other side.
//!
//! Paths are relative to the working directory. That the files are there and fit together is for those who read them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// At least one; the first is for clients that name no host, or one that no certificate is for.
    pub certificates: Vec<CertificateFiles>,
    /// Default TLS 1.2.
    pub min_version: TlsVersion,
    /// Whether clients may resume sessions; default true.
    pub session_tickets: bool,
    /// Default none.
    pub client_auth: ClientAuth,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate and then those between it and the root.
    pub cert: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
    /// An OCSP response in DER, which is stapled as it is.
    pub ocsp: Option<PathBuf>,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// `"1.2"`
    #[serde(rename = "1.2")]
    Tls12,
    /// `"1.3"`
    #[serde(rename = "1.3")]
    Tls13,
}

/// Whether clients show certificates. The path is that of the authorities they must come from, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They may; what they show must verify.
    Optional(PathBuf),
    /// They must.
    Required(PathBuf),
}

/// TLS towards an upstream's servers, or towards Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Authorities, in PEM, that servers' certificates must come from; default the system's.
    pub ca: Option<PathBuf>,
    /// What servers' certificates must be for, and what SNI says; default each server's host.
    pub server_name: Option<String>,
    /// What is shown to servers that ask: certificate and key, in PEM.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Takes any certificate; default false.
    pub insecure_skip_verify: bool,
}
