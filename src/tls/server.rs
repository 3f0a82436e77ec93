//! TLS of a listener.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{KeyLog, ServerConfig, SupportedProtocolVersion};

use super::error::{TlsError, TlsErrors};
use super::files::Watched;
use super::material::{CertificateFiles, Certified, authorities, certificates};
use super::names::ByName;
use super::provider::{key_log, provider};
use super::{Alpn, Refresh};

/// What a listener's TLS is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// At least one; the first is for clients that ask for no name that a certificate is for.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// Whether sessions can be resumed.
    pub session_tickets: bool,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// The protocols to choose from.
    pub alpn: Alpn,
}

/// The oldest TLS version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// Whether clients show certificates, and the file of the authorities that those must come from, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They may; what they show must verify.
    Optional(PathBuf),
    /// They must.
    Required(PathBuf),
}

/// TLS of a listener, shared by all workers.
#[derive(Debug)]
pub struct ServerTls {
    settings: ServerSettings,
    key_log: Arc<dyn KeyLog>,
    config: ArcSwap<ServerConfig>,
    state: Mutex<State>,
}

/// What only a look at the files needs.
#[derive(Debug)]
struct State {
    files: Watched,
    tickets: Option<Tickets>,
    warnings: Vec<String>,
    /// What is wrong with the files as they were last seen, if something is.
    failure: Option<String>,
}

/// What encrypts tickets (RFC 5077), and whose clients' sessions are in them.
#[derive(Debug, Clone)]
struct Tickets {
    ticketer: Arc<dyn ProducesTickets>,
    authorities: Vec<CertificateDer<'static>>,
}

/// The content of all files.
struct Material {
    certificates: Vec<Certified>,
    /// Of clients.
    authorities: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ServerTls {
    /// Reads the files. Certificates that are not valid today are used, with a warning.
    ///
    /// # Errors
    /// All that are in the files.
    pub fn load(settings: ServerSettings) -> Result<Self, TlsErrors> {
        Self::load_with_tickets(settings, None)
    }

    /// The TLS of a listener that had `former` until now: the same if its settings are. If not, sessions that were begun
    /// with it can still be resumed, unless clients' authorities have changed.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn load_after(
        former: &Arc<Self>,
        settings: ServerSettings,
    ) -> Result<Arc<Self>, TlsErrors> {
        if former.settings == settings {
            return Ok(Arc::clone(former));
        }
        let tickets = former.state().tickets.clone();
        Self::load_with_tickets(settings, tickets.as_ref()).map(Arc::new)
    }

    fn load_with_tickets(
        settings: ServerSettings,
        former: Option<&Tickets>,
    ) -> Result<Self, TlsErrors> {
        let files = Watched::new(settings.paths());
        let material = Material::read(&settings)?;
        let tickets = settings.tickets(former, &material.authorities)?;
        let key_log = key_log();
        let warnings = material.warnings();
        let config = settings.config(material, tickets.as_ref(), &key_log)?;
        Ok(Self {
            settings,
            key_log,
            config: ArcSwap::from_pointee(config),
            state: Mutex::new(State {
                files,
                tickets,
                warnings,
                failure: None,
            }),
        })
    }

    /// The configuration for a new connection.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// What is odd about the files that are in use, such as a certificate that has expired; each names its file.
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
        match self.reload(&mut state) {
            Ok(description) => {
                state.failure = None;
                Refresh::Reloaded(description)
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

    fn reload(&self, state: &mut State) -> Result<String, TlsErrors> {
        let material = Material::read(&self.settings)?;
        let tickets = self
            .settings
            .tickets(state.tickets.as_ref(), &material.authorities)?;
        let warnings = material.warnings();
        let descriptions: Vec<&str> = material
            .certificates
            .iter()
            .map(|certificate| certificate.description.as_str())
            .collect();
        let description = descriptions.join("; ");
        let config = self
            .settings
            .config(material, tickets.as_ref(), &self.key_log)?;
        self.config.store(Arc::new(config));
        state.tickets = tickets;
        state.warnings = warnings;
        Ok(description)
    }

    /// A panic while it was held left nothing half done that matters.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerSettings {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.certificates
            .iter()
            .flat_map(CertificateFiles::paths)
            .chain(self.client_auth.file())
    }

    /// Tickets survive new certificates, but not new authorities: who has one could otherwise stay in without them.
    fn tickets(
        &self,
        old: Option<&Tickets>,
        authorities: &[CertificateDer<'static>],
    ) -> Result<Option<Tickets>, TlsErrors> {
        if !self.session_tickets {
            return Ok(None);
        }
        if let Some(old) = old.filter(|old| old.authorities == authorities) {
            return Ok(Some(old.clone()));
        }
        Ok(Some(Tickets {
            ticketer: Ticketer::new().map_err(TlsError::Library)?,
            authorities: authorities.to_vec(),
        }))
    }

    fn config(
        &self,
        material: Material,
        tickets: Option<&Tickets>,
        key_log: &Arc<dyn KeyLog>,
    ) -> Result<ServerConfig, TlsErrors> {
        let versions: &[&SupportedProtocolVersion] = match self.min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12],
            MinVersion::Tls13 => &[&TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(TlsError::Library)?
            .with_client_cert_verifier(material.verifier)
            .with_cert_resolver(Arc::new(ByName::new(&material.certificates)));
        config.ignore_client_order = true;
        config.alpn_protocols = self.alpn.protocols();
        config.key_log = Arc::clone(key_log);
        // Sessions are in tickets or nowhere: a cache would be a lock between the workers.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match tickets {
            // One a connection, as Go does: it may be used more than once.
            Some(tickets) => {
                config.ticketer = Arc::clone(&tickets.ticketer);
                config.send_tls13_tickets = 1;
            }
            None => config.send_tls13_tickets = 0,
        }
        Ok(config)
    }
}

impl ClientAuth {
    fn file(&self) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::Optional(path) | Self::Required(path) => Some(path),
        }
    }
}

impl Material {
    fn read(settings: &ServerSettings) -> Result<Self, TlsErrors> {
        let mut errors = Vec::new();
        let certificates: Vec<Certified> = settings
            .certificates
            .iter()
            .filter_map(|files| Certified::read(files, &mut errors))
            .collect();
        let clients = match verifier(&settings.client_auth) {
            Ok(clients) => Some(clients),
            Err(error) => {
                errors.push(error);
                None
            }
        };
        let material = clients.map(|(authorities, verifier)| Self {
            certificates,
            authorities,
            verifier,
        });
        TlsErrors::unless(errors, material)
    }

    fn warnings(&self) -> Vec<String> {
        let nameless = |(position, certificate): (usize, &Certified)| {
            (position > 0 && certificate.names.is_empty()).then(|| {
                format!(
                    "{}: clients cannot ask for it, because it is not the first and has no DNS names",
                    certificate.description
                )
            })
        };
        let odd = self.certificates.iter().flat_map(|it| it.warnings.clone());
        odd.chain(self.certificates.iter().enumerate().filter_map(nameless))
            .collect()
    }
}

/// What verifies clients' certificates, and the authorities that it trusts.
fn verifier(
    auth: &ClientAuth,
) -> Result<(Vec<CertificateDer<'static>>, Arc<dyn ClientCertVerifier>), TlsError> {
    let Some(path) = auth.file() else {
        return Ok((Vec::new(), WebPkiClientVerifier::no_client_auth()));
    };
    let trusted = certificates(path)?;
    let roots = Arc::new(authorities(&trusted, path)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let builder = match auth {
        ClientAuth::Optional(_) => builder.allow_unauthenticated(),
        _ => builder,
    };
    let verifier = builder.build().map_err(|error| TlsError::Authority {
        path: path.to_owned(),
        source: rustls::Error::General(error.to_string()),
    })?;
    Ok((trusted, verifier))
}
