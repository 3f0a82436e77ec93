//! Why certificates and keys cannot be used, each with its file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem;
use thiserror::Error;

/// One reason.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file is not there, or closed to us.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// There is PEM in the file, and it is broken.
    #[error("{}: is not right as PEM: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// No certificate is in the file.
    #[error("{}: has no certificate in it; expected PEM, which begins with -----BEGIN CERTIFICATE-----", .0.display())]
    NoCertificate(PathBuf),
    /// A certificate cannot be understood.
    #[error("{}: has a certificate that cannot be read: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No private key is in the file.
    #[error("{}: has no private key in it; expected PEM, for example -----BEGIN PRIVATE KEY-----", .0.display())]
    NoKey(PathBuf),
    /// The key is protected by a password.
    #[error("{file}: has an encrypted key, and there is nobody to ask for the password; `openssl pkey -in {file} -out NEW` writes it without one", file = .0.display())]
    EncryptedKey(PathBuf),
    /// The key is of another kind.
    #[error("{}: has a key of a kind that is not supported; expected RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519", .0.display())]
    UnsupportedKey(PathBuf),
    /// The key is another certificate's.
    #[error("{}: is not the key of the (first) certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's.
        cert: PathBuf,
    },
    /// An authority's certificate cannot be used to verify others.
    #[error("{}: has a certificate that cannot be an authority's: {source}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The file is no answer of an OCSP responder.
    #[error("{}: is not a successful OCSP response in DER; `openssl ocsp -respout` writes one", .0.display())]
    Ocsp(PathBuf),
    /// The system has no authorities.
    #[error("no authorities that the system trusts were found{}; name a file of some with \"ca\"", detail(.0))]
    NoSystemRoots(Vec<String>),
    /// This cannot be the name of a server.
    #[error("{0:?} is neither a host name nor an IP address, so that no certificate can be for it")]
    ServerName(String),
    /// The TLS library fails by itself.
    #[error("TLS cannot be set up: {0}")]
    Library(rustls::Error),
}

impl TlsError {
    /// The file that is at fault, if it is one's fault.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::Pem { path, .. }
            | Self::NoCertificate(path)
            | Self::Certificate { path, .. }
            | Self::NoKey(path)
            | Self::EncryptedKey(path)
            | Self::UnsupportedKey(path)
            | Self::Mismatch { key: path, .. }
            | Self::Authority { path, .. }
            | Self::Ocsp(path) => Some(path),
            Self::NoSystemRoots(_) | Self::ServerName(_) | Self::Library(_) => None,
        }
    }

    /// Whether a private key is at fault.
    pub fn is_of_key(&self) -> bool {
        matches!(
            self,
            Self::NoKey(_)
                | Self::EncryptedKey(_)
                | Self::UnsupportedKey(_)
                | Self::Mismatch { .. }
        )
    }
}

/// All reasons; never empty.
#[derive(Debug)]
pub struct TlsErrors(Vec<TlsError>);

impl TlsErrors {
    /// The reasons, in the order of the settings.
    pub fn iter(&self) -> impl Iterator<Item = &TlsError> {
        self.0.iter()
    }

    /// `value`, unless there are `errors`.
    pub(super) fn unless<T>(errors: Vec<TlsError>, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if errors.is_empty() => Ok(value),
            _ => Err(Self(errors)),
        }
    }
}

impl From<TlsError> for TlsErrors {
    fn from(error: TlsError) -> Self {
        Self(vec![error])
    }
}

/// One a line.
impl fmt::Display for TlsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for TlsErrors {}

fn detail(reasons: &[String]) -> String {
    match reasons {
        [] => String::new(),
        _ => format!(" ({})", reasons.join("; ")),
    }
}
