//! Passwords: hashed with argon2id, on threads of their own, a few at a time.
//!
//! A hash takes 19 MiB and tens of milliseconds, so no thread that owns connections makes one, and only so many wait.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// OWASP, Password Storage Cheat Sheet (2024), "Argon2id": 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// How many may wait for their hash.
const WAITING_MAX: usize = 256;

/// How long somebody waits for the turn.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A password as somebody typed it, in one of the ways in which it can be written (NFKC; NIST SP 800-63B, section
/// 5.1.1.2). It never shows itself, and its memory is wiped when it goes.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    pub fn new(text: &str) -> Self {
        let normalizer = icu_normalizer::ComposingNormalizerBorrowed::new_nfkc();
        Self(Zeroizing::new(normalizer.normalize(text).into_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Ok(Self::new(&text))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Hashes passwords, and checks them.
pub struct Passwords {
    at_once: Semaphore,
    waiting: Semaphore,
    /// Checked for who has no account, so that this takes as long.
    nobodys: OnceLock<String>,
}

/// Why a password was not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotHashed {
    /// Too many wait. There may be room after this long.
    Busy(Duration),
    Failed,
}

impl Passwords {
    /// As many at once as leave a core to the rest.
    pub fn new() -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with(cores.saturating_sub(1).max(1), WAITING_MAX)
    }

    fn with(at_once: usize, waiting: usize) -> Arc<Self> {
        let (at_once, waiting) = (Semaphore::new(at_once), Semaphore::new(at_once + waiting));
        Arc::new(Self { at_once, waiting, nobodys: OnceLock::new() })
    }

    /// A new hash of `password`, as a PHC string.
    pub async fn hash(&self, password: Password) -> Result<String, NotHashed> {
        self.on_a_thread(move || hash(&password)).await?.ok_or(NotHashed::Failed)
    }

    /// `known`, if that is a hash of `password`. Without one it takes as long.
    pub async fn verify(&self, password: Password, known: Option<String>) -> Result<Option<String>, NotHashed> {
        let nobodys = match self.nobodys.get() {
            Some(nobodys) => nobodys.clone(),
            None => {
                let made = self.hash(Password::new("nobody has this one")).await?;
                self.nobodys.get_or_init(|| made).clone()
            }
        };
        self.on_a_thread(move || {
            let is_right = is_hash_of(known.as_deref().unwrap_or(&nobodys), &password);
            known.filter(|_| is_right)
        })
        .await
    }

    async fn on_a_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, NotHashed> {
        let busy = NotHashed::Busy(Duration::from_secs(2));
        let _place = self.waiting.try_acquire().map_err(|_| busy)?;
        let turn = tokio::time::timeout(WAIT_MAX, self.at_once.acquire()).await.map_err(|_| busy)?;
        let _turn = turn.map_err(|_| NotHashed::Failed)?;
        tokio::task::spawn_blocking(work).await.map_err(|_| NotHashed::Failed)
    }
}

fn hash(password: &Password) -> Option<String> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).ok()?;
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_BYTES)).ok()?;
    let hash = digest(params, password, &salt)?;
    let [salt, hash] = [&salt[..], &hash[..]].map(|bytes| STANDARD_NO_PAD.encode(bytes));
    Some(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${hash}"))
}

/// Whether the PHC string `known` is of `password`, with the parameters that it names.
fn is_hash_of(known: &str, password: &Password) -> bool {
    let checked = || {
        let mut parts = known.strip_prefix("$argon2id$v=19$")?.split('$');
        let (named, salt, expected) = (parts.next()?, parts.next()?, parts.next()?);
        let mut numbers = named.split(',').zip(["m=", "t=", "p="]);
        let mut number = || numbers.next().and_then(|(part, name)| part.strip_prefix(name)?.parse().ok());
        let (memory, passes, lanes) = (number()?, number()?, number()?);
        let [salt, expected] = [salt, expected].map(|text| STANDARD_NO_PAD.decode(text).ok());
        let params = Params::new(memory, passes, lanes, Some(HASH_BYTES)).ok()?;
        let found = digest(params, password, &salt?)?;
        Some(aws_lc_rs::constant_time::verify_slices_are_equal(&found, &expected?).is_ok())
    };
    checked().unwrap_or(false)
}

fn digest(params: Params, password: &Password, salt: &[u8]) -> Option<[u8; HASH_BYTES]> {
    let mut hash = [0; HASH_BYTES];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password.as_str().as_bytes(), salt, &mut hash).ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_however_its_letters_were_put_together() {
        let known = hash(&Password::new("cafe\u{301} au lait")).unwrap();
        assert!(known.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{known}");
        assert!(is_hash_of(&known, &Password::new("café au lait")));
        assert!(!is_hash_of(&known, &Password::new("cafe au lait")));
        assert_ne!(hash(&Password::new("café au lait")).unwrap(), known, "the salt differs");
    }

    // Made by the reference implementation: echo -n password | argon2 somesalt -id -t 2 -k 256 -p 1 -l 32 -e.
    #[test]
    fn the_hash_is_that_of_others_who_follow_rfc_9106() {
        let known = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        assert!(is_hash_of(known, &Password::new("password")));
        for damaged in ["", "$argon2id$v=19$m=256,t=2$c29tZXNhbHQ$nf65", &known[..60]] {
            assert!(!is_hash_of(damaged, &Password::new("password")));
        }
    }

    #[test]
    fn a_password_never_shows_itself() {
        assert_eq!(format!("{:?}", Password::new("correct horse")), "Password");
    }

    #[tokio::test]
    async fn only_so_many_wait_and_the_others_are_told_when_to_come_back() {
        let passwords = Passwords::with(1, 2);
        let asked = (0..8).map(|_| passwords.hash(Password::new("correct horse")));
        let answers = futures_util::future::join_all(asked).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
        assert!(answers.iter().all(|answer| answer.is_ok() || matches!(answer, Err(NotHashed::Busy(_)))));
    }

    #[tokio::test]
    async fn nobody_is_checked_as_thoroughly_as_somebody() {
        let passwords = Passwords::with(1, 2);
        assert_eq!(passwords.verify(Password::new("correct horse"), None).await, Ok(None));
        let nobodys = passwords.nobodys.get().expect("there is one to check").clone();
        let [nobodys, somebodys] = [nobodys, passwords.hash(Password::new("correct horse")).await.unwrap()]
            .map(|hash| hash.split('$').nth(3).map(str::to_owned));
        assert_eq!(nobodys, somebodys, "the same parameters, and so the same work");
    }
}
