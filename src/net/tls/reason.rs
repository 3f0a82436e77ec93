//! Why a handshake with a server has failed, in words for whoever has to mend it.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use rustls::{CertificateError, Error, InvalidMessage};

/// An error of rustls, and what is usually the cause.
#[derive(Debug)]
struct Explained {
    error: Error,
    cause: &'static str,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it says of this one are names of types.
        match is_authority(&self.error) {
            true => write!(f, "invalid peer certificate: {}", self.cause),
            false => write!(f, "{} ({})", self.error, self.cause),
        }
    }
}

impl StdError for Explained {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

/// The same error, with its usual cause if one is known.
pub(super) fn explained(error: io::Error) -> io::Error {
    let kind = error.kind();
    let of_tls = error.get_ref().and_then(|it| it.downcast_ref::<Error>());
    match of_tls.and_then(|it| Some((it.clone(), cause(it)?))) {
        Some((error, cause)) => io::Error::new(kind, Explained { error, cause }),
        None => error,
    }
}

fn cause(error: &Error) -> Option<&'static str> {
    use CertificateError as Bad;
    let cause = match error {
        error if is_authority(error) => {
            "it is an authority's own (CA:TRUE), which is not taken for a server's; give the server one that the authority has issued"
        }
        Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "no authority that is trusted has issued it: ca in the upstream's tls names others, or the server leaves out those between it and the root"
        }
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "server_name in the upstream's tls says which name is asked for, if not the server's host"
        }
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "the server needs a new one, or this machine's clock is wrong"
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "it is for later, or this machine's clock is wrong"
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not seem to speak TLS"
        }
        _ => return None,
    };
    Some(cause)
}

/// Whether an authority's certificate was shown as a server's, for which rustls has no word of its own.
fn is_authority(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::Other(other)) if format!("{:?}", other.0) == "CaUsedAsEndEntity"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: Error) -> String {
        explained(io::Error::new(io::ErrorKind::InvalidData, error)).to_string()
    }

    #[test]
    fn usual_causes_are_put_in_words() {
        for (error, words) in [
            (CertificateError::UnknownIssuer, "names others"),
            (CertificateError::NotValidForName, "server_name in"),
            (CertificateError::Expired, "needs a new one"),
            (CertificateError::NotValidYet, "clock is wrong"),
        ] {
            let told = said(Error::InvalidCertificate(error));
            assert!(told.starts_with("invalid peer certificate: "), "{told}");
            assert!(told.contains(words), "{told}");
        }
        let plain = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert!(said(plain).contains("does not seem to speak TLS"));
        let other = Error::HandshakeNotComplete;
        assert_eq!(said(other.clone()), other.to_string());
    }

    #[test]
    fn errors_that_are_not_of_tls_stay_as_they_are() {
        let error = explained(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(error.get_ref().is_none());
    }
}
