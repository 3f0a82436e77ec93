//! The TLS of all listeners and upstreams, and towards Redis: made of the configuration, and kept up to date with the files that it names.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::faults;
use crate::config::model::{
    self, Config, Listener, Mode, Protocol, TlsVersion, Upstream, UpstreamTls,
};
use crate::config::{Fault, Faults, KeyPath};
use crate::proxy::build::TlsMaterial;
use crate::tls::{
    Alpn, CertificateFiles, ClientAuth, ClientSettings, ClientTls, MinVersion, Refresh,
    ServerSettings, ServerTls, TlsErrors,
};

/// Time between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The TLS of everything that has it.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    /// By whom it belongs to.
    pub material: TlsMaterial,
    servers: Vec<(String, Arc<ServerTls>)>,
    clients: Vec<(String, Arc<ClientTls>)>,
}

impl Certificates {
    /// What is odd about certificates that can be used: one that has expired, or is not verified.
    pub fn warnings(&self) -> Vec<String> {
        let servers = self.servers.iter().map(|(of, tls)| (of, tls.warnings()));
        let clients = self.clients.iter().map(|(of, tls)| (of, tls.warnings()));
        servers
            .chain(clients)
            .flat_map(|(of, warnings)| {
                warnings
                    .into_iter()
                    .map(move |warning| format!("{of}: {warning}"))
            })
            .collect()
    }

    /// Looks after all of them, for as long as it is polled.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + 'static {
        watch(self.servers.clone(), self.clients.clone())
    }
}

/// Reads the files of all listeners and upstreams, and logs what is odd about them.
///
/// # Errors
/// All that are in the files.
pub fn load(config: &Config) -> Result<Certificates, Faults> {
    load_after(&Certificates::default(), config)
}

/// The same for a new configuration. What it does not change is taken over from `former`, and its files are not read.
///
/// # Errors
/// All that are in the files.
pub fn load_after(former: &Certificates, config: &Config) -> Result<Certificates, Faults> {
    let mut errors = Vec::new();
    let mut certificates = Certificates::default();
    for (index, listener) in config.listeners.iter().enumerate() {
        let name = format!("listener {:?}", listener.name);
        let tls = server_settings(listener).map(|settings| match named(&former.servers, &name) {
            Some(former) => ServerTls::load_after(former, settings),
            None => ServerTls::load(settings).map(Arc::new),
        });
        let tls = keep(tls, &mut errors, |wrong| {
            let at = tls_of("listeners", index);
            let named = listener.tls.as_ref().map(|it| faults::of_listener(it, &at));
            faults::of_tls(wrong, &at, &named.unwrap_or_default())
        });
        certificates
            .servers
            .extend(tls.iter().map(|tls| (name.clone(), Arc::clone(tls))));
        certificates.material.listeners.push(tls);
    }
    for (index, upstream) in config.upstreams.iter().enumerate() {
        let name = format!("upstream {:?}", upstream.name);
        let tls = upstream_settings(upstream).map(|settings| match named(&former.clients, &name) {
            Some(former) => ClientTls::load_after(former, settings),
            None => ClientTls::load(settings).map(Arc::new),
        });
        let tls = keep(tls, &mut errors, |wrong| {
            let at = tls_of("upstreams", index);
            let named = upstream.tls.as_ref().map(|it| faults::of_client(it, &at));
            faults::of_tls(wrong, &at, &named.unwrap_or_default())
        });
        certificates
            .clients
            .extend(tls.iter().map(|tls| (name.clone(), Arc::clone(tls))));
        certificates.material.upstreams.push(tls);
    }
    if let Some(tls) = config.redis.as_ref().and_then(|redis| redis.tls.as_ref()) {
        let name = "redis".to_owned();
        let at = KeyPath::default().key("redis");
        let named_files = faults::of_client(tls, &at);
        let settings = client_settings(tls, Alpn::Nothing);
        let tls = match named(&former.clients, &name) {
            Some(former) => ClientTls::load_after(former, settings),
            None => ClientTls::load(settings).map(Arc::new),
        };
        let tls = keep(Some(tls), &mut errors, |wrong| {
            faults::of_tls(wrong, &at, &named_files)
        });
        let named = tls.iter().map(|tls| (name.clone(), Arc::clone(tls)));
        certificates.clients.extend(named);
        certificates.material.redis = tls;
    }
    if !errors.is_empty() {
        return Err(Faults(errors));
    }
    let told = former.warnings();
    let warnings = certificates.warnings();
    for warning in warnings.iter().filter(|it| !told.contains(it)) {
        tracing::warn!("{warning}");
    }
    Ok(certificates)
}

fn named<'a, T>(all: &'a [(String, Arc<T>)], name: &str) -> Option<&'a Arc<T>> {
    all.iter().find(|(of, _)| of == name).map(|(_, tls)| tls)
}

/// What was loaded, if it was to be and could be; an error is added to `errors`.
fn keep<T>(
    loaded: Option<Result<Arc<T>, TlsErrors>>,
    errors: &mut Vec<Fault>,
    faults: impl FnOnce(&TlsErrors) -> Vec<Fault>,
) -> Option<Arc<T>> {
    match loaded? {
        Ok(tls) => Some(tls),
        Err(wrong) => {
            errors.extend(faults(&wrong));
            None
        }
    }
}

/// Where the TLS of what is at `index` of a list is.
fn tls_of(list: &str, index: usize) -> KeyPath {
    KeyPath::default().key(list).index(index).key("tls")
}

/// Looks at the files every second, and says what was replaced or why it was not.
pub async fn watch(servers: Vec<(String, Arc<ServerTls>)>, clients: Vec<(String, Arc<ClientTls>)>) {
    if servers.is_empty() && clients.is_empty() {
        return;
    }
    let all = Arc::new((servers, clients));
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let all = Arc::clone(&all);
        // A file system may be slow, or a network's.
        let look = spawn_blocking(move || {
            let (servers, clients) = &*all;
            for (of, tls) in servers {
                report(of, tls.refresh(), || tls.warnings());
            }
            for (of, tls) in clients {
                report(of, tls.refresh(), || tls.warnings());
            }
        });
        if let Err(error) = look.await {
            tracing::error!(%error, "a look at the certificates' files has failed");
        }
    }
}

fn report(of: &str, refresh: Refresh, warnings: impl FnOnce() -> Vec<String>) {
    match refresh {
        Refresh::Unchanged => {}
        Refresh::Reloaded(what) => {
            tracing::info!("{of}: new certificates are in use: {what}");
            for warning in warnings() {
                tracing::warn!("{of}: {warning}");
            }
        }
        Refresh::Failed(errors) => {
            for error in errors.iter() {
                tracing::error!("{of}: {error}; what was in use stays in use");
            }
        }
    }
}

fn server_settings(listener: &Listener) -> Option<ServerSettings> {
    let tls = listener.tls.as_ref()?;
    Some(ServerSettings {
        certificates: tls
            .certificates
            .iter()
            .map(|files| CertificateFiles {
                cert: files.cert.clone(),
                key: files.key.clone(),
                ocsp: files.ocsp.clone(),
            })
            .collect(),
        min_version: match tls.min_version {
            TlsVersion::Tls12 => MinVersion::Tls12,
            TlsVersion::Tls13 => MinVersion::Tls13,
        },
        session_tickets: tls.session_tickets,
        client_auth: match &tls.client_auth {
            model::ClientAuth::None => ClientAuth::None,
            model::ClientAuth::Optional(ca) => ClientAuth::Optional(ca.clone()),
            model::ClientAuth::Required(ca) => ClientAuth::Required(ca.clone()),
        },
        alpn: match (listener.mode, listener.http2) {
            (Mode::Tcp | Mode::Udp, _) => Alpn::Nothing,
            (Mode::Http, true) => Alpn::Http2OrHttp1,
            (Mode::Http, false) => Alpn::Http1,
        },
    })
}

fn upstream_settings(upstream: &Upstream) -> Option<ClientSettings> {
    let alpn = match upstream.protocol {
        Protocol::Http1 => Alpn::Http1,
        Protocol::Http2 => Alpn::Http2,
        Protocol::Auto => Alpn::Http2OrHttp1,
    };
    Some(client_settings(upstream.tls.as_ref()?, alpn))
}

fn client_settings(tls: &UpstreamTls, alpn: Alpn) -> ClientSettings {
    ClientSettings {
        ca: tls.ca.clone(),
        server_name: tls.server_name.clone(),
        certificate: tls.client.as_ref().map(|(cert, key)| CertificateFiles {
            cert: cert.clone(),
            key: key.clone(),
            ocsp: None,
        }),
        insecure_skip_verify: tls.insecure_skip_verify,
        alpn,
    }
}
