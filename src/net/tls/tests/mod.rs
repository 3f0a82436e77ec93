//! What both kinds of tests shake hands with.

mod memory;
mod streams;

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConnection, Connection, RootCertStore, ServerConnection, SupportedProtocolVersion,
};

use super::*;

/// A server's and a client's configuration.
struct Configs(Arc<ServerConfig>, Arc<ClientConfig>);

impl Configs {
    fn new() -> Self {
        Self::of(&[&TLS13, &TLS12])
    }

    fn of(versions: &[&'static SupportedProtocolVersion]) -> Self {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate: CertificateDer<'static> = pair.cert.into();
        let key = PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(server), Arc::new(client))
    }

    fn client(&self) -> Connection {
        let client = ClientConnection::new(Arc::clone(&self.1), name());
        Connection::Client(client.unwrap())
    }

    fn server(&self) -> Connection {
        Connection::Server(ServerConnection::new(Arc::clone(&self.0)).unwrap())
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}
