//! TLS material: certificates and keys out of files, and the rustls configurations made of them.
//!
//! A listener has a `ServerTls`, an upstream a `ClientTls`. Both hold the configuration that is in force, which new
//! connections take with one atomic load, and make a new one when their files change. Handshakes and streams are for
//! others; so is when to look at the files.

mod client;
mod error;
pub mod files;
mod identity;
mod material;
mod names;
mod provider;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ClientSettings, ClientTls};
pub use error::{TlsError, TlsErrors};
pub use identity::{ClientIdentity, IDENTITY_FIELDS, identity};
pub use material::CertificateFiles;
pub use server::{ClientAuth, MinVersion, ServerSettings, ServerTls};

/// What came of a look at the files.
#[derive(Debug)]
pub enum Refresh {
    /// Nothing has changed, or what was wrong before still is.
    Unchanged,
    /// The new files are in use; the text says what is in them.
    Reloaded(String),
    /// The new files cannot be used, and what was in use still is.
    Failed(TlsErrors),
}

/// The protocols that are offered in the handshake (ALPN, RFC 7301), the preferred one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// Whatever is spoken, it is not agreed upon.
    Nothing,
    /// `http/1.1`
    Http1,
    /// `h2`
    Http2,
    /// `h2`, `http/1.1`
    Http2OrHttp1,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Nothing => &[],
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
            Self::Http2OrHttp1 => &[b"h2", b"http/1.1"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}
