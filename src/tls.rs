//! TLS from files in PEM: the certificate can be changed while the server runs.
//!
//! Connections that are there keep the certificate they began with; the next handshake is given the new one.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};

use crate::config::Tls;

/// Why the files make no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} does not hold {what} in PEM")]
    Pem { path: PathBuf, what: &'static str },
    #[error("tls.key does not belong to tls.cert; name the key that the certificate was made for ({key}, {cert})")]
    Stranger { cert: PathBuf, key: PathBuf },
    #[error("{cert} and {key} do not make a certificate to show: {why}")]
    Unusable { cert: PathBuf, key: PathBuf, why: String },
}

/// The certificate that clients are shown.
#[derive(Clone)]
pub struct Certificate(Arc<ArcSwap<CertifiedKey>>);

impl Certificate {
    /// Reads the files and checks that they belong together.
    pub fn load(files: &Tls) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(read(files)?))))
    }

    /// Shows `other` from the next handshake on.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// TLS 1.2 and 1.3 (RFC 9325, section 3.1.1). The listener says by ALPN that it speaks HTTP/1.1.
    pub fn server_config(&self) -> Result<ServerConfig, rustls::Error> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn read(files: &Tls) -> Result<CertifiedKey, TlsError> {
    let pem = |path: &Path, what| TlsError::Pem { path: path.to_owned(), what };
    let no_chain = |_| pem(&files.cert, "certificates");
    let chain =
        CertificateDer::pem_slice_iter(&bytes(&files.cert)?).collect::<Result<Vec<_>, _>>().map_err(no_chain)?;
    if chain.is_empty() {
        return Err(pem(&files.cert, "certificates"));
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes(&files.key)?).map_err(|_| pem(&files.key, "a private key"))?;
    let (cert_file, key_file) = (files.cert.clone(), files.key.clone());
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Stranger { cert: cert_file, key: key_file }
        }
        // The library's enum is open; what is left are certificates and keys that it cannot use at all.
        other => TlsError::Unusable { cert: cert_file, key: key_file, why: other.to_string() },
    })
}

fn bytes(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, TlsError> {
    let read = fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
    read.map(zeroize::Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(dir: &Path, name: &str) -> Tls {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let files = Tls { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
        fs::write(&files.cert, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn files_that_do_not_belong_together_are_refused_and_a_good_pair_takes_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (pair(dir.path(), "one"), pair(dir.path(), "other"));
        let certificate = Certificate::load(&one).unwrap();
        let shown = || certificate.0.load().cert.clone();
        let first = shown();
        let mixed = Tls { cert: one.cert.clone(), key: other.key.clone() };
        let refused = Certificate::load(&mixed).unwrap_err().to_string();
        assert!(refused.starts_with("tls.key does not belong to tls.cert; name the key"), "{refused}");
        assert_eq!(shown(), first);
        certificate.replace(&Certificate::load(&other).unwrap());
        assert_ne!(shown(), first);
    }

    #[test]
    fn files_that_are_not_there_or_something_else_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let good = pair(dir.path(), "good");
        let missing = Tls { cert: dir.path().join("nowhere"), key: good.key.clone() };
        assert!(Certificate::load(&missing).unwrap_err().to_string().contains("nowhere"));
        let swapped = Tls { cert: good.key.clone(), key: good.cert.clone() };
        assert!(Certificate::load(&swapped).unwrap_err().to_string().contains("certificates in PEM"));
    }
}
