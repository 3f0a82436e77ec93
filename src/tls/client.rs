//! TLS towards an upstream's servers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, KeyLog, RootCertStore, SignatureScheme};

use super::error::{TlsError, TlsErrors};
use super::files::Watched;
use super::material::{CertificateFiles, Certified, authorities, certificates};
use super::provider::{key_log, provider};
use super::{Alpn, Refresh};

/// What TLS towards servers is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// The file of the authorities that servers' certificates must come from, in PEM; `None` is the system's.
    pub ca: Option<PathBuf>,
    /// What servers' certificates must be for; `None` is each server's host.
    pub server_name: Option<String>,
    /// What is shown to servers that ask for a certificate.
    pub certificate: Option<CertificateFiles>,
    /// Takes any certificate.
    pub insecure_skip_verify: bool,
    /// The protocols that servers choose from.
    pub alpn: Alpn,
}

/// TLS towards an upstream's servers, shared by all workers.
#[derive(Debug)]
pub struct ClientTls {
    settings: ClientSettings,
    /// In place of the servers' hosts.
    server_name: Option<ServerName<'static>>,
    key_log: Arc<dyn KeyLog>,
    config: ArcSwap<ClientConfig>,
    state: Mutex<State>,
}

/// What only a look at the files needs.
#[derive(Debug)]
struct State {
    files: Watched,
    warnings: Vec<String>,
    /// What is wrong with the files as they were last seen, if something is.
    failure: Option<String>,
}

/// A configuration, what is odd about the files it is made of, and what they are.
struct Loaded {
    config: ClientConfig,
    warnings: Vec<String>,
    description: String,
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// All that are in the files; the system has no authorities and no file is named; the server's name cannot be one.
    pub fn load(settings: ClientSettings) -> Result<Self, TlsErrors> {
        let files = Watched::new(settings.paths());
        let server_name = settings
            .server_name
            .as_deref()
            .map(parse_name)
            .transpose()?;
        let key_log = key_log();
        let loaded = settings.load(&key_log)?;
        Ok(Self {
            server_name,
            settings,
            key_log,
            config: ArcSwap::from_pointee(loaded.config),
            state: Mutex::new(State {
                files,
                warnings: loaded.warnings,
                failure: None,
            }),
        })
    }

    /// The TLS of an upstream that had `former` until now: the same if its settings are.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn load_after(
        former: &Arc<Self>,
        settings: ClientSettings,
    ) -> Result<Arc<Self>, TlsErrors> {
        if former.settings == settings {
            return Ok(Arc::clone(former));
        }
        Self::load(settings).map(Arc::new)
    }

    /// The configuration for a new connection.
    pub fn current(&self) -> Arc<ClientConfig> {
        self.config.load_full()
    }

    /// What a certificate must be for that a server at `host` (a name or an address) shows.
    ///
    /// # Errors
    /// `host` is neither.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => parse_name(host),
        }
    }

    /// What is odd about the settings and the files that are in use.
    pub fn warnings(&self) -> Vec<String> {
        self.state().warnings.clone()
    }

    /// Looks at the files, and reads them when one has been replaced. Blocks; connections that there are go on as they
    /// are. What is wrong is reported once.
    pub fn refresh(&self) -> Refresh {
        let mut state = self.state();
        // Something that is wrong may also go away without a trace in the files: a permission, a lack of memory.
        if !state.files.look() && state.failure.is_none() {
            return Refresh::Unchanged;
        }
        match self.settings.load(&self.key_log) {
            Ok(loaded) => {
                self.config.store(Arc::new(loaded.config));
                state.warnings = loaded.warnings;
                state.failure = None;
                Refresh::Reloaded(loaded.description)
            }
            Err(errors) => {
                let failure = Some(errors.to_string());
                if state.failure == failure {
                    return Refresh::Unchanged;
                }
                state.failure = failure;
                Refresh::Failed(errors)
            }
        }
    }

    /// A panic while it was held left nothing half done that matters.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSettings {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let own = self.certificate.iter().flat_map(CertificateFiles::paths);
        self.ca.as_deref().into_iter().chain(own)
    }

    fn load(&self, key_log: &Arc<dyn KeyLog>) -> Result<Loaded, TlsErrors> {
        let mut errors = Vec::new();
        let verifier = match self.verifier() {
            Ok(verifier) => Some(verifier),
            Err(error) => {
                errors.push(error);
                None
            }
        };
        let certified = self
            .certificate
            .as_ref()
            .and_then(|files| Certified::read(files, &mut errors));
        let verifier = TlsErrors::unless(errors, verifier)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Library)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &certified {
            Some(certified) => {
                let resolver = SingleCertAndKey::from(Arc::clone(&certified.key));
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.protocols();
        config.key_log = Arc::clone(key_log);
        let warnings = self.warnings(certified.as_ref());
        let authorities = self.ca.iter().map(|path| path.display().to_string());
        let certificate = certified.map(|certified| certified.description);
        Ok(Loaded {
            config,
            warnings,
            description: authorities
                .chain(certificate)
                .collect::<Vec<_>>()
                .join("; "),
        })
    }

    fn warnings(&self, certified: Option<&Certified>) -> Vec<String> {
        let insecure = self.insecure_skip_verify.then(|| {
            "insecure_skip_verify: servers' certificates are not verified, so that anyone on the way can read and change everything".to_owned()
        });
        let odd = certified.map(|certified| certified.warnings.clone());
        insecure
            .into_iter()
            .chain(odd.into_iter().flatten())
            .collect()
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        if self.insecure_skip_verify {
            return Ok(Arc::new(AnyCertificate));
        }
        let roots = match &self.ca {
            Some(path) => authorities(&certificates(path)?, path)?,
            None => system_roots()?,
        };
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = builder
            .build()
            .map_err(|error| TlsError::Library(rustls::Error::General(error.to_string())))?;
        Ok(verifier)
    }
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reasons = found.errors.iter().map(ToString::to_string);
        return Err(TlsError::NoSystemRoots(reasons.collect()));
    }
    Ok(roots)
}

/// A name or an address; an IPv6 address may be in brackets.
fn parse_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::ServerName(host.to_owned()))
}

/// Verifies that a server has the key of the certificate that it shows, and nothing else.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
