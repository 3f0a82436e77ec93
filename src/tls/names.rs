//! Which certificate a client gets: by the name it asks for (SNI, RFC 6066, section 3).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::material::Certified;

/// Certificates by their names. Several may be for the same one, with keys of different kinds.
#[derive(Debug)]
pub(super) struct ByName {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// `*.example.com` is here as `example.com`. The star is one label (RFC 6125, section 6.4.3).
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    /// The first of `certificates` is for clients that ask for none of their names.
    pub(super) fn new(certificates: &[Certified]) -> Self {
        let mut names = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            default: certificates
                .first()
                .map(|first| Arc::clone(&first.key))
                .into_iter()
                .collect(),
        };
        for certificate in certificates {
            for name in &certificate.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut names.wildcard, parent),
                    None => (&mut names.exact, name.as_str()),
                };
                let keys = map.entry(name.to_owned()).or_default();
                keys.push(Arc::clone(&certificate.key));
            }
        }
        names
    }

    /// The certificates for `name`.
    fn find(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(name) = name else {
            return &self.default;
        };
        let name = match name.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        let by_wildcard = || {
            let (_, parent) = name.split_once('.')?;
            self.wildcard.get(parent)
        };
        self.exact
            .get(name.as_ref())
            .or_else(by_wildcard)
            .unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = self.find(hello.server_name());
        let usable = keys
            .iter()
            .find(|it| it.key.choose_scheme(hello.signature_schemes()).is_some());
        usable.or(keys.first()).cloned()
    }
}
