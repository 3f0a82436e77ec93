//! Certificates, keys, authorities and OCSP responses out of their files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::TlsError;
use super::provider::provider;

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and then those between it and the root, in PEM.
    pub cert: PathBuf,
    /// Its private key in PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// An OCSP response in DER, to be stapled.
    pub ocsp: Option<PathBuf>,
}

impl CertificateFiles {
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.cert, &self.key]
            .into_iter()
            .chain(&self.ocsp)
            .map(PathBuf::as_path)
    }
}

/// A certificate with its key, and what was found in it.
#[derive(Debug)]
pub(super) struct Certified {
    pub(super) key: Arc<CertifiedKey>,
    /// DNS names, in lower case.
    pub(super) names: Vec<String>,
    /// `certs/a.crt (a.example, *.b.example; until 2027-01-31T12:00:00Z)`
    pub(super) description: String,
    /// What is odd about it.
    pub(super) warnings: Vec<String>,
}

impl Certified {
    /// Reads `files`. All that is wrong with them is added to `errors`.
    pub(super) fn read(files: &CertificateFiles, errors: &mut Vec<TlsError>) -> Option<Self> {
        let mut kept = |error| errors.push(error);
        let chain = certificates(&files.cert).map_err(&mut kept).ok();
        let key = private_key(&files.key).map_err(&mut kept).ok();
        let ocsp = files.ocsp.as_deref().map(ocsp_response).transpose();
        let ocsp = ocsp.map_err(&mut kept).ok();
        let (chain, key, ocsp) = (chain?, key?, ocsp?);
        Self::check(files, chain, key, ocsp).map_err(kept).ok()
    }

    fn check(
        files: &CertificateFiles,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        ocsp: Option<Vec<u8>>,
    ) -> Result<Self, TlsError> {
        let unreadable = |why: String| TlsError::Certificate {
            path: files.cert.clone(),
            why,
        };
        let mut warnings = Vec::new();
        let mut names = Vec::new();
        let mut until = String::new();
        for (position, der) in chain.iter().enumerate() {
            let (_, certificate) =
                X509Certificate::from_der(der).map_err(|error| unreadable(error.to_string()))?;
            if let Some(why) = out_of_date(&certificate) {
                let which = match position {
                    0 => String::new(),
                    _ => format!("certificate {} of the chain ", position + 1),
                };
                warnings.push(format!("{}: {which}{why}", files.cert.display()));
            }
            if position == 0 {
                names = dns_names(&certificate);
                until = date(certificate.validity().not_after.timestamp());
            }
        }
        let signing_key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|_| TlsError::UnsupportedKey(files.key.clone()))?;
        let mut key = CertifiedKey::new(chain, signing_key);
        key.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
                key: files.key.clone(),
                cert: files.cert.clone(),
            },
            other => unreadable(other.to_string()),
        })?;
        key.ocsp = ocsp;
        let listed = match names.is_empty() {
            true => "no DNS names".to_owned(),
            false => names.join(", "),
        };
        Ok(Self {
            key: Arc::new(key),
            description: format!("{} ({listed}; until {until})", files.cert.display()),
            names,
            warnings,
        })
    }
}

/// The certificates in the file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem {
            path: path.to_owned(),
            source,
        })?;
    match certificates.is_empty() {
        true => Err(TlsError::NoCertificate(path.to_owned())),
        false => Ok(certificates),
    }
}

/// What is to be trusted of `certificates`, which are those in the file at `path`.
pub(super) fn authorities(
    certificates: &[CertificateDer<'static>],
    path: &Path,
) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate.clone())
            .map_err(|source| TlsError::Authority {
                path: path.to_owned(),
                source,
            })?;
    }
    Ok(roots)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let path = path.to_owned();
        // PKCS#8 says so in its label, the older forms in a field below it.
        let has = |mark: &[u8]| text.windows(mark.len()).any(|part| part == mark);
        if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
            return TlsError::EncryptedKey(path);
        }
        match error {
            pem::Error::NoItemsFound => TlsError::NoKey(path),
            source => TlsError::Pem { path, source },
        }
    })
}

fn ocsp_response(path: &Path) -> Result<Vec<u8>, TlsError> {
    let response = read(path)?;
    match is_successful_ocsp(&response) {
        true => Ok(response),
        false => Err(TlsError::Ocsp(path.to_owned())),
    }
}

/// RFC 6960, section 4.2.1: a sequence that begins with the status successful (0) and has more after it.
fn is_successful_ocsp(der: &[u8]) -> bool {
    let Some(([0x30, first], rest)) = der.split_first_chunk::<2>().map(|(a, b)| (*a, b)) else {
        return false;
    };
    let octets = match first {
        0..=0x7f => 0,
        0x81..=0x84 => usize::from(first & 0x7f),
        _ => return false,
    };
    let Some((length, content)) = rest.split_at_checked(octets) else {
        return false;
    };
    let long = length.iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
    let length = if octets == 0 {
        usize::from(first)
    } else {
        long
    };
    content.len() == length && length > 3 && content.starts_with(&[0x0a, 1, 0])
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

/// `expired at ...`, if the certificate is not valid now.
fn out_of_date(certificate: &X509Certificate<'_>) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    let (from, until) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    if now > until {
        return Some(format!("expired at {}", date(until)));
    }
    (now < from).then(|| format!("is not valid before {}", date(from)))
}

/// Seconds since 1970 as `2027-01-31T12:00:00Z`.
fn date(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.to_string(),
        // X.509's word for never, 9999-12-31T23:59:59Z.
        Err(_) => "the end of time".to_owned(),
    }
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}
