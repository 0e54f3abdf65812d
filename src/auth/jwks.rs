//! An issuer's set of public keys (RFC 7517), read again from time to time by a thread of its own.
//!
//! Where it is read from is the operator's word alone: nothing that a token says chooses an address. However many
//! tokens name a key that is not known, the set is read for them once in [`JwksOptions::min_refresh`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::key::{Key, KeyError, Public};
use super::options::{Algorithm, JwksOptions, JwksSource};
use crate::clock::Clock;
use crate::outgoing::{self, OutgoingError};

/// The largest set that is read: hundreds of keys.
const SET_BYTES_MAX: usize = 256 * 1024;

/// The most keys that are taken of a set.
const KEYS_MAX: usize = 100;

/// How long reading a set may take in all.
const FETCH: Duration = Duration::from_secs(5);

/// How long somebody whose key is not known waits for a look at the set.
const WAIT: Duration = Duration::from_secs(6);

/// After a failure the set is read again this soon.
const AGAIN: Duration = Duration::from_secs(30);

/// The keys of one issuer's set.
pub struct KeySet {
    issuer: String,
    options: JwksOptions,
    clock: Arc<dyn Clock>,
    keys: ArcSwap<Keys>,
    look: Mutex<Look>,
    /// Counts the looks that have ended.
    ended: watch::Sender<u64>,
    wake: Arc<Notify>,
}

/// When the set was looked at last.
#[derive(Default)]
struct Look {
    began: Option<Instant>,
    under_way: bool,
}

#[derive(Default)]
struct Keys {
    by_kid: BTreeMap<Option<String>, Known>,
    /// The set has been read at least once.
    read: bool,
}

#[derive(Clone)]
struct Known {
    key: Arc<Key>,
    /// Since when it is no longer in the set.
    left: Option<Instant>,
}

/// Why there is no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoKey {
    Unknown,
    /// The set has never been read, so nobody can tell.
    Unavailable,
}

/// Why a set was not read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Outgoing(#[from] OutgoingError),
    #[error("it is larger than {SET_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the file cannot be read: {0}")]
    File(std::io::Error),
    #[error("it is not a set of keys as of RFC 7517")]
    Malformed,
    #[error("no key of it can be used")]
    Empty,
}

impl KeySet {
    /// A set that is read from now on, by a thread that ends when the set is dropped.
    pub fn start(issuer: String, options: JwksOptions, clock: Arc<dyn Clock>) -> std::io::Result<Arc<Self>> {
        let wake = Arc::new(Notify::new());
        let set = Arc::new(Self {
            issuer,
            options,
            clock,
            keys: ArcSwap::default(),
            look: Mutex::new(Look { began: None, under_way: true }),
            ended: watch::Sender::new(0),
            wake: Arc::clone(&wake),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let weak = Arc::downgrade(&set);
        std::thread::Builder::new()
            .name("issuer-keys".to_owned())
            .spawn(move || runtime.block_on(keep_reading(&weak, &wake)))?;
        Ok(set)
    }

    /// Whether this is the set that `issuer` and `options` name.
    pub fn is_of(&self, issuer: &str, options: &JwksOptions) -> bool {
        self.issuer == issuer && self.options == *options
    }

    /// The key of that name; reads the set again where it is not known, unless that was done a moment ago.
    pub async fn key(&self, kid: Option<&str>) -> Result<Arc<Key>, NoKey> {
        if let Some(key) = self.known(kid) {
            return Ok(key);
        }
        let mut ended = self.ended.subscribe();
        ended.mark_unchanged();
        if self.ask_for_a_look() {
            // Late or never: what is known then decides.
            let _ = tokio::time::timeout(WAIT, ended.changed()).await;
        }
        self.known(kid).ok_or_else(|| if self.keys.load().read { NoKey::Unknown } else { NoKey::Unavailable })
    }

    fn known(&self, kid: Option<&str>) -> Option<Arc<Key>> {
        let keys = self.keys.load();
        let known = keys.by_kid.get(&kid.map(str::to_owned))?;
        let gone = known.left.is_some_and(|left| self.clock.instant() > left + self.options.keep_old);
        (!gone).then(|| Arc::clone(&known.key))
    }

    /// Whether a look is under way, or is now.
    fn ask_for_a_look(&self) -> bool {
        let now = self.clock.instant();
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        if look.under_way {
            return true;
        }
        if look.began.is_some_and(|began| now.saturating_duration_since(began) < self.options.min_refresh) {
            return false;
        }
        *look = Look { began: Some(now), under_way: true };
        self.wake.notify_one();
        true
    }

    /// Reads the set once; returns when to do so again.
    async fn read(&self) -> Duration {
        let begin = |under_way| {
            let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
            look.under_way = under_way;
            if under_way {
                look.began = Some(self.clock.instant());
            }
        };
        begin(true);
        let read = self.fetch().await.and_then(|text| parse(&self.issuer, &text));
        let next = match read {
            Ok(keys) => {
                self.take_over(keys);
                self.options.refresh_every
            }
            Err(error) => {
                tracing::warn!(issuer = self.issuer, %error, "keys could not be read; those that are known are kept");
                AGAIN.min(self.options.refresh_every)
            }
        };
        begin(false);
        self.ended.send_modify(|ended| *ended += 1);
        next
    }

    fn take_over(&self, found: BTreeMap<Option<String>, Arc<Key>>) {
        let now = self.clock.instant();
        let mut by_kid: BTreeMap<_, _> = found.into_iter().map(|(kid, key)| (kid, Known { key, left: None })).collect();
        for (kid, known) in &self.keys.load().by_kid {
            let left = known.left.unwrap_or(now);
            if !by_kid.contains_key(kid) && now <= left + self.options.keep_old {
                by_kid.insert(kid.clone(), Known { key: Arc::clone(&known.key), left: Some(left) });
            }
        }
        self.keys.store(Arc::new(Keys { by_kid, read: true }));
    }

    async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
        match &self.options.source {
            JwksSource::File(path) => {
                use std::io::Read;
                let mut text = Vec::new();
                let file = std::fs::File::open(path).map_err(FetchError::File)?;
                file.take(SET_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(FetchError::File)?;
                if text.len() > SET_BYTES_MAX { Err(FetchError::TooLarge) } else { Ok(text) }
            }
            JwksSource::Url(url) => fetch(url).await,
        }
    }
}

impl Drop for KeySet {
    fn drop(&mut self) {
        // Its thread finds that nobody needs it any more.
        self.wake.notify_one();
    }
}

async fn keep_reading(set: &Weak<KeySet>, wake: &Notify) {
    loop {
        let Some(next) = (match set.upgrade() {
            Some(set) => Some(set.read().await),
            None => None,
        }) else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = wake.notified() => {}
        }
    }
}

async fn fetch(url: &str) -> Result<Vec<u8>, FetchError> {
    let client = outgoing::client(FETCH)?;
    Ok(outgoing::get_json(&client, url, None, SET_BYTES_MAX).await?)
}

#[derive(Deserialize)]
struct StoredSet {
    keys: Vec<Value>,
}

/// A key as it is in a set (RFC 7517, section 4; RFC 7518, section 6; RFC 8037, section 2).
#[derive(Deserialize)]
struct StoredKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<Value>,
}

/// The keys of a set that can be used. One that cannot is passed over with a warning: a set often holds more than what
/// signs tokens.
fn parse(issuer: &str, text: &[u8]) -> Result<BTreeMap<Option<String>, Arc<Key>>, FetchError> {
    let set: StoredSet = serde_json::from_slice(text).map_err(|_| FetchError::Malformed)?;
    let mut keys = BTreeMap::new();
    for stored in set.keys.into_iter().take(KEYS_MAX) {
        let Ok(stored) = serde_json::from_value::<StoredKey>(stored) else {
            tracing::warn!(issuer, "a key of the set is not as of RFC 7517");
            continue;
        };
        match stored.key() {
            Ok(key) if !keys.contains_key(&stored.kid) => {
                keys.insert(stored.kid, Arc::new(key));
            }
            Ok(_) => tracing::warn!(issuer, kid = stored.kid, "two keys of the set have one kid; the first is taken"),
            Err(why) => tracing::warn!(issuer, kid = stored.kid, why, "a key of the set is not used"),
        }
    }
    if keys.is_empty() { Err(FetchError::Empty) } else { Ok(keys) }
}

impl StoredKey {
    fn key(&self) -> Result<Key, String> {
        if self.d.is_some() {
            return Err(KeyError::Private.to_string());
        }
        if self.usage.as_deref().is_some_and(|usage| usage != "sig")
            || self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
        {
            return Err("it is not for signatures".to_owned());
        }
        let (public, follows) = self.public()?;
        let algorithm = match &self.alg {
            Some(name) => Algorithm::named(name).ok_or("its algorithm is not taken")?,
            None => follows.ok_or("its algorithm is not stated")?,
        };
        Key::public(algorithm, &public).map_err(|error| error.to_string())
    }

    /// The key, and the algorithm that follows from what it is.
    fn public(&self) -> Result<(Public, Option<Algorithm>), String> {
        let bytes = |field: &Option<String>| {
            let text = field.as_deref().ok_or_else(|| "a part of it is missing".to_owned())?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| "a part of it is not base64url".to_owned())
        };
        let point = || Ok::<_, String>([&[4][..], &bytes(&self.x)?, &bytes(&self.y)?].concat());
        let (public, follows) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => (Some(Public::Rsa { n: bytes(&self.n)?, e: bytes(&self.e)? }), None),
            ("EC", Some("P-256")) => (Public::p256(point()?), Some(Algorithm::Es256)),
            ("EC", Some("P-384")) => (Public::p384(point()?), Some(Algorithm::Es384)),
            ("OKP", Some("Ed25519")) => (Public::ed25519(bytes(&self.x)?), Some(Algorithm::EdDsa)),
            ("oct", _) => return Err("it is a shared secret, which does not belong into a set".to_owned()),
            _ => return Err("its kind is not taken".to_owned()),
        };
        Ok((public.ok_or_else(|| KeyError::Malformed.to_string())?, follows))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(keys: &Value) -> Vec<String> {
        let set = json!({ "keys": keys }).to_string();
        let keys = parse("somebody", set.as_bytes()).unwrap_or_default();
        keys.iter().map(|(kid, key)| format!("{} {}", kid.as_deref().unwrap_or("-"), key.algorithm())).collect()
    }

    fn coordinate(bytes: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![7; bytes])
    }

    #[test]
    fn an_algorithm_is_stated_or_follows_from_the_key() {
        let (x, y) = (coordinate(32), coordinate(32));
        let n = URL_SAFE_NO_PAD.encode([&[0x80][..], &[1; 255]].concat());
        let keys = json!([
            { "kty": "EC", "crv": "P-256", "kid": "a", "x": x, "y": y },
            { "kty": "OKP", "crv": "Ed25519", "kid": "b", "x": x },
            { "kty": "RSA", "kid": "c", "n": n, "e": "AQAB", "alg": "PS256" },
            { "kty": "RSA", "kid": "d", "n": n, "e": "AQAB" },
            { "kty": "EC", "crv": "P-256", "kid": "e", "x": x, "y": y, "alg": "ES384" },
            { "kty": "EC", "crv": "P-256", "kid": "f", "x": x, "y": y, "alg": "HS256" },
            { "kty": "EC", "crv": "P-256", "kid": "g", "x": x, "y": y, "alg": "none" },
        ]);
        assert_eq!(found(&keys), ["a ES256", "b EdDSA", "c PS256"]);
    }

    #[test]
    fn what_does_not_sign_tokens_is_passed_over() {
        let x = coordinate(32);
        let keys = json!([
            { "kty": "oct", "kid": "a", "k": coordinate(64), "alg": "HS256" },
            { "kty": "OKP", "crv": "Ed25519", "kid": "b", "x": x, "use": "enc" },
            { "kty": "OKP", "crv": "Ed25519", "kid": "c", "x": x, "key_ops": ["encrypt"] },
            { "kty": "OKP", "crv": "Ed25519", "kid": "d", "x": x, "d": x },
            { "kty": "OKP", "crv": "X25519", "kid": "e", "x": x },
            { "kty": "OKP", "crv": "Ed25519", "kid": "f", "x": coordinate(31) },
            "nonsense",
            { "kty": "OKP", "crv": "Ed25519", "kid": "g", "x": x, "use": "sig" },
        ]);
        assert_eq!(found(&keys), ["g EdDSA"]);
    }

    #[tokio::test]
    async fn a_set_in_a_file_is_read_again_and_old_keys_leave_late() {
        use crate::clock::ManualClock;
        use crate::domain::Timestamp;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let write = |kid: &str| {
            let keys = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": coordinate(32) }] });
            std::fs::write(&path, keys.to_string()).unwrap();
        };
        write("one");
        let clock = Arc::new(ManualClock::at(Timestamp(0)));
        let options =
            JwksOptions { keep_old: Duration::from_secs(100), ..JwksOptions::of(JwksSource::File(path.clone())) };
        let set = KeySet::start("somebody".to_owned(), options, clock.clone()).unwrap();
        let known = async |kid: &str| set.key(Some(kid)).await.map(|_| ());
        assert_eq!(known("one").await, Ok(()));
        write("two");
        assert_eq!(known("two").await, Err(NoKey::Unknown), "it was read a moment ago");
        clock.advance(Duration::from_secs(31));
        assert_eq!(known("two").await, Ok(()));
        assert_eq!(known("one").await, Ok(()));
        std::fs::write(&path, "not a set").unwrap();
        clock.advance(Duration::from_secs(101));
        assert_eq!(known("one").await, Err(NoKey::Unknown));
        assert_eq!(known("two").await, Ok(()), "a set that cannot be read takes nobody's key away");
    }
}
