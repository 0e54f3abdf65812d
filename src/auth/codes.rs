//! What is random and given to one person: refresh tokens, codes of invites, codes that reset a password.
//!
//! Of each the server keeps a digest alone. Those that a machine carries are too long to be guessed; the one that people
//! type has sixty bits, and a quarter of an hour.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::domain::account::{Digest, Shown};
use crate::domain::{LoginId, TenantId};

/// What is drawn for each part of a code, in bytes.
const BYTES: usize = 32;

/// What codes are typed in: no letter looks like another, or like a digit (Crockford's base 32).
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// How many letters of those a code has that people type, in groups of four.
const TYPED: usize = 12;

/// The system gave no random numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the system gave no random numbers")]
pub struct NoRandomness;

/// A refresh token taken apart: of which login, in which tenant, and what proves it.
#[derive(Clone)]
pub struct RefreshToken {
    pub tenant: TenantId,
    pub login: LoginId,
    family: [u8; BYTES],
    latest: [u8; BYTES],
}

impl RefreshToken {
    /// The first of a new login.
    pub fn first(tenant: TenantId) -> Result<Self, NoRandomness> {
        Ok(Self { tenant, login: LoginId(Uuid::new_v4()), family: random()?, latest: random()? })
    }

    /// The one after this.
    pub fn next(&self) -> Result<Self, NoRandomness> {
        Ok(Self { latest: random()?, ..self.clone() })
    }

    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (login, rest) = bytes.split_first_chunk::<16>()?;
        let (family, rest) = rest.split_first_chunk::<BYTES>()?;
        let (latest, tenant) = rest.split_first_chunk::<BYTES>()?;
        let tenant = TenantId::new(std::str::from_utf8(tenant).ok()?).ok()?;
        Some(Self { tenant, login: LoginId(Uuid::from_bytes(*login)), family: *family, latest: *latest })
    }

    pub fn text(&self) -> String {
        let Self { tenant, login, family, latest } = self;
        URL_SAFE_NO_PAD.encode([login.0.as_bytes(), &family[..], &latest[..], tenant.as_str().as_bytes()].concat())
    }

    /// Of what it says, as it is kept.
    pub fn shown(&self) -> Shown {
        Shown { family: digest_of("family", &self.family), latest: digest_of("latest", &self.latest) }
    }
}

/// A new invite: its id, its code, and the digest of that.
pub fn invite() -> Result<(Uuid, String, Digest), NoRandomness> {
    let (id, secret) = (Uuid::new_v4(), random::<BYTES>()?);
    let code = URL_SAFE_NO_PAD.encode([&id.as_bytes()[..], &secret].concat());
    Ok((id, code, digest_of("invite", &secret)))
}

/// Which invite the code is of, and its digest.
pub fn read_invite(code: &str) -> Option<(Uuid, Digest)> {
    let bytes = URL_SAFE_NO_PAD.decode(code).ok()?;
    let (id, secret) = bytes.split_first_chunk::<16>()?;
    (secret.len() == BYTES).then(|| (Uuid::from_bytes(*id), digest_of("invite", secret)))
}

/// A new code that resets a password, and its digest.
pub fn reset() -> Result<(String, Digest), NoRandomness> {
    // Of a byte five bits are used, so each letter is as likely as any other.
    let letters = random::<TYPED>()?.map(|byte| LETTERS[usize::from(byte % 32)]);
    let groups = letters.chunks(4).map(|group| group.iter().copied().map(char::from).collect::<String>());
    let code = groups.collect::<Vec<_>>().join("-");
    let digest = read_reset(&code);
    Ok((code, digest))
}

/// The digest of a code as somebody typed it.
pub fn read_reset(code: &str) -> Digest {
    let letters = code.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        c => c,
    });
    digest_of("reset", letters.collect::<String>().as_bytes())
}

fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// `what` keeps the digests of one kind apart from those of another.
fn digest_of(what: &str, secret: &[u8]) -> Digest {
    let found = digest(&SHA256, &[what.as_bytes(), b"\n", secret].concat());
    found.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_says_what_it_is_of_and_the_next_shares_its_family_alone() {
        let first = RefreshToken::first(TenantId::new("harbour").unwrap()).unwrap();
        let read = RefreshToken::parse(&first.text()).unwrap();
        assert!(read.tenant == first.tenant && read.login == first.login && read.shown() == first.shown());
        let next = first.next().unwrap();
        assert!(next.login == first.login && next.shown().family == first.shown().family);
        assert!(next.shown().latest != first.shown().latest);
        for bad in ["", "AAAA", "no base64!", &first.text()[..100]] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_typed_code_is_known_however_it_is_typed() {
        let (code, digest) = reset().unwrap();
        assert_eq!(code.len(), TYPED + 2, "{code}");
        assert_eq!(read_reset(&code.to_lowercase().replace('-', " ")), digest);
        assert_eq!(read_reset("o1l0"), read_reset("0110"));
        assert_ne!(read_reset(&reset().unwrap().0), digest);
    }

    #[test]
    fn the_code_of_an_invite_says_which() {
        let (id, code, digest) = invite().unwrap();
        assert_eq!(read_invite(&code), Some((id, digest)));
        assert_eq!(read_invite(&code[1..]), None);
    }
}
