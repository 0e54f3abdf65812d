//! One key of an issuer: what it is made of, and that it is strong enough and of the kind its algorithm needs.

use std::io::{self, Read};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use zeroize::Zeroizing;

use super::options::{Algorithm, KeyOptions, KeySource};
use super::secret::{Secret, SecretError};

/// Checks signatures of one algorithm, whatever a token says of itself.
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    decoding: DecodingKey,
}

/// Why a key is not used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read {what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("the environment variable {0} is not set")]
    NoVariable(String),
    #[error("it is not base64url text")]
    NotBase64,
    #[error("{0}")]
    Secret(#[from] SecretError),
    #[error("it has {bytes} bytes, and {algorithm} needs a secret of at least {min}")]
    ShortSecret { bytes: usize, algorithm: Algorithm, min: usize },
    #[error("it is not a public key as PEM (BEGIN PUBLIC KEY, or BEGIN RSA PUBLIC KEY)")]
    NotPem,
    #[error("it is a private key, which does not belong here; give the public one, and have the issuer make another")]
    Private,
    #[error("it is a certificate; give its public key: openssl x509 -pubkey -noout -in FILE")]
    Certificate,
    #[error("it is not a key that is understood")]
    Malformed,
    #[error("it does not fit {0}")]
    WrongKind(Algorithm),
    #[error("it is an RSA key of {bits} bits; from 2048 to 8192 are taken")]
    RsaSize { bits: usize },
}

/// The longest file of a key that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What RSA keys are taken: RFC 7518, section 3.3, and the most that the cryptography does.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A public key, taken apart.
pub enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point of P-256 or P-384 (SEC 1, section 2.3.3).
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Key {
    /// A shared secret, at least as long as the hash it is used with (RFC 7518, section 3.2).
    pub fn shared(algorithm: Algorithm, secret: &Secret) -> Result<Self, KeyError> {
        let min = algorithm.secret_bytes_min().ok_or(KeyError::WrongKind(algorithm))?;
        let bytes = secret.bytes().len();
        if bytes < min {
            return Err(KeyError::ShortSecret { bytes, algorithm, min });
        }
        Ok(Self { algorithm, decoding: DecodingKey::from_secret(secret.bytes()) })
    }

    /// A public key for `algorithm`.
    pub fn public(algorithm: Algorithm, public: &Public) -> Result<Self, KeyError> {
        let decoding = match (algorithm, public) {
            (
                Algorithm::Rs256
                | Algorithm::Rs384
                | Algorithm::Rs512
                | Algorithm::Ps256
                | Algorithm::Ps384
                | Algorithm::Ps512,
                Public::Rsa { n, e },
            ) => {
                let n = &n[n.iter().take_while(|byte| **byte == 0).count()..];
                let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
                if !RSA_BITS.contains(&bits) {
                    return Err(KeyError::RsaSize { bits });
                }
                DecodingKey::from_rsa_raw_components(n, &e[e.iter().take_while(|byte| **byte == 0).count()..])
            }
            (Algorithm::Es256, Public::P256(point)) | (Algorithm::Es384, Public::P384(point)) => {
                DecodingKey::from_ec_der(point)
            }
            (Algorithm::EdDsa, Public::Ed25519(point)) => DecodingKey::from_ed_der(point),
            (algorithm, Public::Rsa { .. } | Public::P256(_) | Public::P384(_) | Public::Ed25519(_)) => {
                return Err(KeyError::WrongKind(algorithm));
            }
        };
        Ok(Self { algorithm, decoding })
    }

    /// Reads the key that an operator has named.
    pub fn load(options: &KeyOptions) -> Result<Self, KeyError> {
        let text = match &options.source {
            KeySource::SecretFile(path) => return Self::from_secret(options.algorithm, &read(path)?),
            KeySource::PemFile(path) => return Self::from_pem(options.algorithm, &read(path)?),
            KeySource::Environment(name) => {
                Zeroizing::new(std::env::var(name).map_err(|_| KeyError::NoVariable(name.clone()))?)
            }
        };
        match options.algorithm.secret_bytes_min() {
            Some(_) => Self::from_secret(options.algorithm, &text),
            None => Self::from_pem(options.algorithm, &text),
        }
    }

    fn from_secret(algorithm: Algorithm, text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.starts_with("-----BEGIN") {
            return Err(SecretError::Pem.into());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| KeyError::NotBase64)?;
        Self::shared(algorithm, &Secret::new(bytes)?)
    }

    fn from_pem(algorithm: Algorithm, text: &str) -> Result<Self, KeyError> {
        Self::public(algorithm, &Public::from_pem(text)?)
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

impl Public {
    /// A key in a `SubjectPublicKeyInfo` (RFC 5280, section 4.1) or, for RSA, an `RSAPublicKey` (RFC 8017, A.1.1), as
    /// PEM (RFC 7468).
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let (label, rest) =
            text.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----")).ok_or(KeyError::NotPem)?;
        if label.ends_with("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        if label == "CERTIFICATE" {
            return Err(KeyError::Certificate);
        }
        let body = rest.strip_suffix(&format!("-----END {label}-----")).ok_or(KeyError::NotPem)?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| KeyError::NotPem)?;
        match label {
            "PUBLIC KEY" => Self::from_info(&der),
            "RSA PUBLIC KEY" => rsa(&der),
            _ => return Err(KeyError::NotPem),
        }
        .ok_or(KeyError::Malformed)
    }

    fn from_info(der: &[u8]) -> Option<Self> {
        // RFC 8017, A.1; RFC 5480, section 2.1.1; RFC 8410, section 3.
        const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
        const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
        const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
        const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

        let mut der = der;
        let mut info = take(SEQUENCE, &mut der)?;
        let mut algorithm = take(SEQUENCE, &mut info)?;
        let key = take(BIT_STRING, &mut info)?.strip_prefix(&[0])?;
        if !der.is_empty() || !info.is_empty() {
            return None;
        }
        let kind = take(OID, &mut algorithm)?;
        match kind {
            RSA => rsa(key),
            EC => match take(OID, &mut algorithm)? {
                P256 => Self::p256(key.to_vec()),
                P384 => Self::p384(key.to_vec()),
                _ => None,
            },
            ED25519 => Self::ed25519(key.to_vec()),
            _ => None,
        }
    }

    pub fn p256(point: Vec<u8>) -> Option<Self> {
        (point.len() == 65 && point[0] == 4).then_some(Self::P256(point))
    }

    pub fn p384(point: Vec<u8>) -> Option<Self> {
        (point.len() == 97 && point[0] == 4).then_some(Self::P384(point))
    }

    pub fn ed25519(point: Vec<u8>) -> Option<Self> {
        (point.len() == 32).then_some(Self::Ed25519(point))
    }
}

fn rsa(der: &[u8]) -> Option<Public> {
    let mut der = der;
    let mut key = take(SEQUENCE, &mut der)?;
    let (n, e) = (take(INTEGER, &mut key)?, take(INTEGER, &mut key)?);
    (der.is_empty() && key.is_empty()).then(|| Public::Rsa { n: n.to_vec(), e: e.to_vec() })
}

// Tags of DER (ITU-T X.690, section 8).
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// The content of the value at the front of `der`, which has to have this tag; `der` goes on behind it.
fn take<'a>(tag: u8, der: &mut &'a [u8]) -> Option<&'a [u8]> {
    let rest = der.strip_prefix(&[tag])?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&len, rest)| (usize::from(len), rest))?,
        0x82 => rest.split_first_chunk().map(|(len, rest)| (usize::from(u16::from_be_bytes(*len)), rest))?,
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    *der = rest;
    Some(content)
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let failed = |source| KeyError::Io { what: path.display().to_string(), source };
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};

    use super::*;
    use crate::auth::AuthError;
    use crate::auth::claims::Unverified;

    #[test]
    fn public_keys_are_read_from_pem_and_serve_their_own_algorithms_only() {
        let made: [(&'static rcgen::SignatureAlgorithm, &[Algorithm]); 4] = [
            (&PKCS_ECDSA_P256_SHA256, &[Algorithm::Es256]),
            (&PKCS_ECDSA_P384_SHA384, &[Algorithm::Es384]),
            (&PKCS_ED25519, &[Algorithm::EdDsa]),
            (
                &PKCS_RSA_SHA256,
                &[
                    Algorithm::Rs256,
                    Algorithm::Rs384,
                    Algorithm::Rs512,
                    Algorithm::Ps256,
                    Algorithm::Ps384,
                    Algorithm::Ps512,
                ],
            ),
        ];
        for (kind, serves) in made {
            let pem = KeyPair::generate_for(kind).unwrap().public_key_pem();
            for algorithm in Algorithm::ALL {
                let read = Key::from_pem(algorithm, &pem);
                assert_eq!(read.is_ok(), serves.contains(&algorithm), "{algorithm}");
            }
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused_by_name() {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let refusal = |text: &str| Key::from_pem(Algorithm::EdDsa, text).err().unwrap();
        assert!(matches!(refusal(&pair.serialize_pem()), KeyError::Private));
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(refusal(certificate), KeyError::Certificate));
        assert!(matches!(refusal("MCowBQYDK2Vw"), KeyError::NotPem));
        assert!(matches!(refusal(&pair.public_key_pem().replace('M', "N")), KeyError::NotPem | KeyError::Malformed));
        let pem = pair.public_key_pem();
        assert!(matches!(Key::from_secret(Algorithm::Hs256, &pem), Err(KeyError::Secret(SecretError::Pem))));
    }

    #[test]
    fn small_rsa_keys_and_short_secrets_are_refused() {
        let small = Public::Rsa { n: [&[0, 0x7f][..], &[0xff; 255]].concat(), e: vec![1, 0, 1] };
        assert!(matches!(Key::public(Algorithm::Rs256, &small), Err(KeyError::RsaSize { bits: 2047 })));
        let enough = Public::Rsa { n: [&[0, 0x80][..], &[1; 255]].concat(), e: vec![1, 0, 1] };
        assert!(Key::public(Algorithm::Rs256, &enough).is_ok());

        for (algorithm, min) in [(Algorithm::Hs256, 32), (Algorithm::Hs384, 48), (Algorithm::Hs512, 64)] {
            let secret = |bytes| Secret::new(vec![7; bytes]).map_err(KeyError::from);
            assert!(secret(min - 1).and_then(|secret| Key::shared(algorithm, &secret)).is_err());
            assert!(secret(min).and_then(|secret| Key::shared(algorithm, &secret)).is_ok());
        }
    }

    /// Signs with one key and algorithm what the header says is of another.
    fn token(header: jsonwebtoken::Algorithm, by: jsonwebtoken::Algorithm, key: &EncodingKey) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let header = serde_json::to_string(&Header::new(header)).unwrap();
        let message = format!("{}.{}", part(&header), part(r#"{"iss":"somebody"}"#));
        format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), key, by).unwrap())
    }

    #[test]
    fn every_algorithm_is_checked_with_a_key_of_its_own() {
        use jsonwebtoken::Algorithm as Theirs;
        let secret = Secret::new(vec![7; 64]).unwrap();
        let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let kinds = [
            (Algorithm::Hs256, Theirs::HS256),
            (Algorithm::Hs384, Theirs::HS384),
            (Algorithm::Hs512, Theirs::HS512),
            (Algorithm::Rs256, Theirs::RS256),
            (Algorithm::Rs384, Theirs::RS384),
            (Algorithm::Rs512, Theirs::RS512),
            (Algorithm::Ps256, Theirs::PS256),
            (Algorithm::Ps384, Theirs::PS384),
            (Algorithm::Ps512, Theirs::PS512),
            (Algorithm::Es256, Theirs::ES256),
            (Algorithm::Es384, Theirs::ES384),
            (Algorithm::EdDsa, Theirs::EdDSA),
        ];
        let pair = |algorithm: Algorithm| match algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => None,
            Algorithm::Es256 => Some(&p256),
            Algorithm::Es384 => Some(&p384),
            Algorithm::EdDsa => Some(&ed25519),
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => Some(&rsa),
        };
        let signs = |algorithm: Algorithm| match (algorithm, pair(algorithm)) {
            (_, None) => EncodingKey::from_secret(secret.bytes()),
            (Algorithm::Es256 | Algorithm::Es384, Some(pair)) => EncodingKey::from_ec_der(&pair.serialize_der()),
            (Algorithm::EdDsa, Some(pair)) => EncodingKey::from_ed_der(&pair.serialize_der()),
            (_, Some(pair)) => {
                // An RSAPrivateKey lies in the third field of a PrivateKeyInfo (RFC 5208, section 5).
                let whole = pair.serialize_der();
                let mut info = take(SEQUENCE, &mut &whole[..]).unwrap();
                take(INTEGER, &mut info).unwrap();
                take(SEQUENCE, &mut info).unwrap();
                EncodingKey::from_rsa_der(take(0x04, &mut info).unwrap())
            }
        };
        for (algorithm, theirs) in kinds {
            let key = match pair(algorithm) {
                None => Key::shared(algorithm, &secret).unwrap(),
                Some(pair) => Key::from_pem(algorithm, &pair.public_key_pem()).unwrap(),
            };
            for (other, header) in kinds {
                // With the right key material where the two algorithms share it, as RS256 and PS256 do.
                let token = token(header, header, &signs(other));
                let checked = Unverified::read(&token).unwrap().signed_by(&key);
                let expected = if header == theirs { Ok(()) } else { Err(AuthError::Algorithm) };
                assert_eq!(checked, expected, "{other} by a key of {algorithm}");
            }
            let stranger = match pair(algorithm) {
                None => EncodingKey::from_secret(&[8; 64]),
                Some(_) => continue,
            };
            let token = token(theirs, theirs, &stranger);
            assert_eq!(Unverified::read(&token).unwrap().signed_by(&key), Err(AuthError::Signature));
        }
        // The public key as if it were a shared secret (RFC 8725, section 2.1).
        let public = rsa.public_key_pem();
        let key = Key::from_pem(Algorithm::Rs256, &public).unwrap();
        let forged = token(Theirs::HS256, Theirs::HS256, &EncodingKey::from_secret(public.as_bytes()));
        assert_eq!(Unverified::read(&forged).unwrap().signed_by(&key), Err(AuthError::Algorithm));
    }
}
