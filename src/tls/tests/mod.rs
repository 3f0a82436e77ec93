//! Tests of the whole: files in, handshakes in memory out.

mod client;
mod errors;
mod identity;
mod reload;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use super::*;

/// A directory of a test's own, removed with all that is in it on drop.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("loadbalancer-tls-{}-{number}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a new file and moves it to `name`, as editors and ACME clients do.
    fn save(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let (new, path) = (self.path("new"), self.path(name));
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }

    /// Saves a certificate and its key as `name.crt` and `name.key`.
    fn certificate(&self, name: &str, pair: &Pair) -> CertificateFiles {
        CertificateFiles {
            cert: self.save(&format!("{name}.crt"), &pair.cert),
            key: self.save(&format!("{name}.key"), &pair.key),
            ocsp: None,
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate and its key in PEM.
struct Pair {
    cert: String,
    key: String,
}

/// Who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names, for servers and clients.
    fn sign(&self, names: &[&str]) -> Pair {
        self.sign_with(names, &KeyPair::generate().unwrap(), |_| {})
    }

    fn sign_with(
        &self,
        names: &[&str],
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        Pair {
            cert: params.signed_by(key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A listener's usual settings with these certificates.
fn settings(certificates: Vec<CertificateFiles>) -> ServerSettings {
    ServerSettings {
        certificates,
        min_version: MinVersion::Tls12,
        session_tickets: true,
        client_auth: ClientAuth::None,
        alpn: Alpn::Http2OrHttp1,
    }
}

/// An upstream's usual settings, which trust the authority in `ca`.
fn trusting(ca: &Path) -> ClientSettings {
    ClientSettings {
        ca: Some(ca.to_owned()),
        server_name: None,
        certificate: None,
        insecure_skip_verify: false,
        alpn: Alpn::Http2OrHttp1,
    }
}

/// A client that trusts `authority`.
fn client_of(dir: &Dir, authority: &Authority) -> ClientTls {
    ClientTls::load(trusting(&dir.save("client-ca.crt", authority.pem()))).unwrap()
}

/// Both ends of a connection whose handshake is over.
struct Connected {
    client: ClientConnection,
    server: ServerConnection,
}

impl Connected {
    /// The certificate that the server has shown.
    fn shown(&self) -> CertificateDer<'static> {
        self.client.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    }
}

fn connect(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<Connected, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(Connected { client, server })
}

/// The first certificate in `pem`.
fn der(pem: &str) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}
