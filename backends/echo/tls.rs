//! One connection with TLS.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::Server;
use super::tcp::{Ending, PIECE};

/// Reads a certificate (with its chain) and its key, in PEM.
///
/// # Errors
/// When a file cannot be read or does not hold what it should, or the two do not belong together.
pub fn configuration(cert: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let wrong = |path: &Path, error: &dyn std::fmt::Display| {
        io::Error::other(format!("{}: {error}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<_, _>>);
    let chain = chain.map_err(|error| wrong(cert, &error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| wrong(cert, &error))?;
    Ok(Arc::new(config))
}

/// Sends back what comes, until the client says that it has sent all.
pub async fn echo(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
    server: &Server,
    mut ending: Ending,
) -> io::Result<()> {
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    // What is written is on its way before more is read.
    tls.set_buffer_limit(None);
    let mut piece = vec![0; PIECE];
    let mut plain = Vec::new();
    loop {
        let length = ending.read(&mut stream, &mut piece).await?;
        let mut records = &piece[..length];
        let mut ended = false;
        while !records.is_empty() && !ended {
            tls.read_tls(&mut records)?;
            let processed = tls.process_new_packets();
            if let Err(error) = processed {
                // The alert that says so is worth a try; what matters is the error.
                let _ = flush(&mut tls, &mut stream).await;
                return Err(io::Error::other(error));
            }
            ended = decrypted(&mut tls, &mut plain)?;
            if !plain.is_empty() {
                if !server.delay.is_zero() {
                    sleep(server.delay).await;
                }
                tls.writer().write_all(&plain)?;
                server.counts.bytes.add(plain.len());
                plain.clear();
            }
            flush(&mut tls, &mut stream).await?;
        }
        if ended || length == 0 {
            tls.send_close_notify();
            flush(&mut tls, &mut stream).await?;
            return stream.shutdown().await;
        }
    }
}

/// Moves what has been decrypted to `plain`. Tells whether the client has said that nothing follows.
fn decrypted(tls: &mut ServerConnection, plain: &mut Vec<u8>) -> io::Result<bool> {
    match tls.reader().read_to_end(plain) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

async fn flush(tls: &mut ServerConnection, stream: &mut TcpStream) -> io::Result<()> {
    let mut records = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut records)?;
    }
    stream.write_all(&records).await
}
