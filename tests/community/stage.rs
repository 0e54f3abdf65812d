//! What everybody shares: where the server is, who has which token, the rooms' ids, the clock of the hour, and what is
//! counted on the way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use tokio::sync::watch;

use super::plan::HOUR;
use super::view::Texts;

pub struct Stage {
    address: watch::Receiver<SocketAddr>,
    key: EncodingKey,
    /// By their numbers in the plan.
    pub rooms: Vec<String>,
    pub texts: Texts,
    pub tally: Tally,
    began: Instant,
    hour: Duration,
}

impl Stage {
    pub fn new(address: watch::Receiver<SocketAddr>, data: &Path, hour: Duration) -> Self {
        let secret = std::fs::read_to_string(data.join("secrets/token.key")).expect("the server has made its secret");
        let secret = URL_SAFE_NO_PAD.decode(secret.trim()).expect("a secret is base64url");
        Self {
            address,
            key: EncodingKey::from_secret(&secret),
            rooms: Vec::new(),
            texts: Texts::default(),
            tally: Tally::default(),
            began: Instant::now(),
            hour,
        }
    }

    /// The hour begins.
    pub fn begin(&mut self) {
        self.began = Instant::now();
    }

    pub fn address(&self) -> SocketAddr {
        *self.address.borrow()
    }

    /// A token, made as whoever has the secret may make one.
    pub fn token(&self, user: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
        let claims = json!({ "iss": "chinwag", "aud": "chinwag", "sub": user, "iat": now, "exp": now + 7200 });
        encode(&Header::new(Algorithm::HS256), &claims, &self.key).expect("claims are signed")
    }

    /// Waits until the hour has come so far.
    pub async fn until(&self, at: u64) {
        let part = u32::try_from(at).expect("an hour is short");
        tokio::time::sleep_until((self.began + self.hour * part / u32::try_from(HOUR).expect("small")).into()).await;
    }
}

pub fn user(n: usize) -> String {
    format!("user-{n:04}")
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_millis()).expect("it is not so late")
}

/// What is counted.
#[derive(Default)]
pub struct Tally {
    pub deliveries: AtomicU64,
    pub signals: AtomicU64,
    pub reconnects: AtomicU64,
    pub removals: AtomicU64,
    pub repeated: AtomicU64,
    inner: Mutex<Counted>,
}

#[derive(Default)]
pub struct Counted {
    /// By class of command: how many were answered, and the slowest answer.
    pub answers: BTreeMap<String, (u64, Duration)>,
    pub refusals: BTreeMap<String, u64>,
    killed: Option<Instant>,
    /// From the kill to the first answer of the next server.
    pub outage: Option<Duration>,
    pub faults: Vec<String>,
}

impl Tally {
    pub fn inner(&self) -> MutexGuard<'_, Counted> {
        self.inner.lock().expect("nobody panics holding this")
    }

    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The server has been killed just now.
    pub fn killed(&self) {
        self.inner().killed = Some(Instant::now());
    }

    /// An answer to what was asked at `asked`.
    pub fn answered(&self, class: &str, asked: Instant, refused: Option<&str>) {
        let mut inner = self.inner();
        let took = asked.elapsed();
        let entry = inner.answers.entry(class.to_owned()).or_default();
        *entry = (entry.0 + 1, entry.1.max(took));
        if let Some(killed) = inner.killed
            && inner.outage.is_none()
            && asked > killed
        {
            inner.outage = Some(killed.elapsed());
        }
        if let Some(code) = refused {
            *inner.refusals.entry(code.to_owned()).or_default() += 1;
        }
    }

    /// Something that must not be, seen on the way.
    pub fn fault(&self, what: String) {
        self.inner().faults.push(what);
    }
}
