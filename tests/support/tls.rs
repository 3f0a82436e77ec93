//! Certificates that nobody else trusts, and clients that do.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use super::DEADLINE;
use super::temp_dir::TempDir;

/// An authority with a directory of its own, in which its certificate is `ca.pem`.
pub struct Authority {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let directory = TempDir::new();
        write(&directory.path().join("ca.pem"), &issuer.pem());
        Self { directory, issuer }
    }

    /// The file of its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Its own certificate and key, as if it were a server's.
    pub fn own(&self) -> Files {
        let key = self.directory.path().join("ca.key");
        write(&key, &self.issuer.key().serialize_pem());
        let cert = self.ca();
        Files { cert, key }
    }

    /// A certificate for these names or addresses, in files that are named after the first one.
    pub fn issue(&self, names: &[&str]) -> Files {
        self.issue_as(names[0], names)
    }

    /// The same in files named otherwise, or in place of those.
    pub fn issue_as(&self, file: &str, names: &[&str]) -> Files {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let common_name = names[0].clone();
        let mut params = CertificateParams::new(names).expect("names");
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let file = |extension: &str| self.directory.path().join(format!("{file}.{extension}"));
        let files = Files {
            cert: file("crt"),
            key: file("key"),
        };
        // Renamed into place, as tools do it; the key first, so that for a moment the two do not fit.
        replace(&files.key, &key.serialize_pem());
        replace(&files.cert, &certificate.pem());
        files
    }

    /// What a client is told that trusts this authority.
    pub fn client(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        let certificate = self.issuer.der().clone();
        roots.add(certificate).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
    }

    /// A client without a certificate of its own.
    pub fn anonymous(&self) -> ClientConfig {
        self.client().with_no_client_auth()
    }

    /// A client that shows a certificate.
    pub fn with(&self, files: &Files) -> ClientConfig {
        use rustls::pki_types::pem::PemObject;
        let certificate = CertificateDer::from_pem_file(&files.cert).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
        self.client()
            .with_client_auth_cert(vec![certificate], key)
            .expect("a key that fits")
    }
}

impl Files {
    /// A server that shows this certificate.
    pub fn server(&self) -> Arc<ServerConfig> {
        use rustls::pki_types::pem::PemObject;
        let certificate = CertificateDer::from_pem_file(&self.cert).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        Arc::new(config.expect("a key that fits"))
    }

    /// The entry of a listener's `certificates`.
    pub fn entry(&self) -> String {
        format!("{{ cert = {:?}, key = {:?} }}", self.cert, self.key)
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {path:?}: {error}"));
}

fn replace(path: &Path, text: &str) {
    let temporary = path.with_extension("new");
    write(&temporary, text);
    fs::rename(&temporary, path).expect("renamed");
}

/// A client's connection.
pub struct TlsConnection(StreamOwned<ClientConnection, TcpStream>);

/// Connects, asks for `name`, and shakes hands.
pub fn connect(addr: SocketAddr, name: &str, config: &ClientConfig) -> io::Result<TlsConnection> {
    connect_over(TcpStream::connect(addr)?, name, config)
}

/// The same over a connection on which something may have been said already.
pub fn connect_over(
    tcp: TcpStream,
    name: &str,
    config: &ClientConfig,
) -> io::Result<TlsConnection> {
    tcp.set_read_timeout(Some(DEADLINE))?;
    tcp.set_write_timeout(Some(DEADLINE))?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let client = ClientConnection::new(Arc::new(config.clone()), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(client, tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(TlsConnection(stream))
}

/// Shakes hands with a client, by the time that something is read or written.
pub fn accept(
    tcp: TcpStream,
    config: &Arc<ServerConfig>,
) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let server = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    Ok(StreamOwned::new(server, tcp))
}

impl TlsConnection {
    /// The server's own certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        let chain = self.0.conn.peer_certificates().expect("a certificate");
        chain[0].clone().into_owned()
    }

    /// What was agreed upon by ALPN.
    pub fn protocol(&self) -> Option<String> {
        let name = self.0.conn.alpn_protocol()?;
        Some(String::from_utf8_lossy(name).into_owned())
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.write_all(bytes.as_ref())?;
        self.0.flush()
    }

    /// Says that nothing more is sent. Reading goes on.
    pub fn close(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()
    }

    /// Ends the sending of the connection below, without a word of TLS.
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.0.sock.shutdown(Shutdown::Write)
    }

    /// Exactly so many bytes.
    pub fn read_exact(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// What comes until the server says that this is all.
    ///
    /// # Errors
    /// `UnexpectedEof` if it does not say that.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        self.0.read_to_end(&mut all)?;
        Ok(all)
    }

    /// What comes until it ends with this.
    pub fn read_until(&mut self, end: &str) -> io::Result<String> {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            text.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Sends a request that closes, and gives the whole answer.
    pub fn ask(&mut self, path: &str, fields: &str) -> io::Result<String> {
        self.send(format!(
            "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{fields}\r\n"
        ))?;
        let answer = self.read_to_end()?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}
