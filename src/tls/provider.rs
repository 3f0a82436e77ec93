//! What cryptography is used, and in which order it is preferred.

use std::sync::{Arc, Once, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite};
use rustls::{KeyLog, KeyLogFile, NoKeyLog};

/// aws-lc-rs with all suites that rustls has, which are safe ones with forward secrecy only. AES-128 comes first, as in
/// Mozilla's recommendations: it is the fastest where bulk data costs, and nothing is known against it.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                suite::TLS13_AES_128_GCM_SHA256,
                suite::TLS13_AES_256_GCM_SHA384,
                suite::TLS13_CHACHA20_POLY1305_SHA256,
                suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ],
            ..aws_lc_rs::default_provider()
        })
    });
    Arc::clone(provider)
}

/// SHA-256 of `data`.
pub(super) fn sha256(data: &[u8]) -> Vec<u8> {
    let suite = suite::TLS13_AES_128_GCM_SHA256
        .tls13()
        .expect("it is a suite of TLS 1.3");
    let hash = suite.common.hash_provider.hash(data);
    hash.as_ref().to_vec()
}

/// Writes the keys of all connections to the file that `SSLKEYLOGFILE` names, if it names one.
pub(super) fn key_log() -> Arc<dyn KeyLog> {
    static WARNING: Once = Once::new();
    let Some(path) = std::env::var_os("SSLKEYLOGFILE") else {
        return Arc::new(NoKeyLog {});
    };
    WARNING.call_once(|| {
        tracing::warn!(
            file = %path.display(),
            "SSLKEYLOGFILE is set: whoever has this file can read all TLS traffic"
        );
    });
    Arc::new(KeyLogFile::new())
}
