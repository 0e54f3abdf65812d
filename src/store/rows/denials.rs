//! The rows of the server's own stream: whose tokens are denied, and who is kept out.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Row, accounts};
use crate::domain::exclusion::{Exclusion, TenantBan};
use crate::domain::revocation::{Revocation, Subject};
use crate::domain::{LoginId, Name, TenantId, Timestamp, TokenId, UserId};
use crate::store::StoreError;
use crate::store::codec::{self, damage};

/// Under the server's own stream: before the key of every [`Revocation`].
pub const REVOCATIONS: &[u8] = b"v";

/// Under the server's own stream: the [`Revocation`] of `subject`.
pub fn revocation(subject: &Subject) -> Bytes {
    let mut key = REVOCATIONS.to_vec();
    match subject {
        Subject::Token(token) => {
            key.push(b't');
            key.extend_from_slice(token.as_str().as_bytes());
        }
        Subject::Login(login) => {
            key.push(b'l');
            key.extend_from_slice(login.0.as_bytes());
        }
        Subject::User(tenant, user) => {
            key.push(b'u');
            key.push(u8::try_from(tenant.as_str().len()).expect("a tenant id has at most 64 bytes"));
            key.extend_from_slice(tenant.as_str().as_bytes());
            key.extend_from_slice(user.as_str().as_bytes());
        }
        Subject::Tenant(tenant) => {
            key.push(b'a');
            key.extend_from_slice(tenant.as_str().as_bytes());
        }
    }
    key.into()
}

/// Of whom [`revocation`] made the key.
pub fn subject_of(key: &[u8]) -> Result<Subject, StoreError> {
    let subject = |key: &[u8]| {
        let (&kind, rest) = key.strip_prefix(REVOCATIONS)?.split_first()?;
        let text = |bytes| std::str::from_utf8(bytes).ok();
        match kind {
            b't' => Some(Subject::Token(TokenId::new(text(rest)?).ok()?)),
            b'l' => Some(Subject::Login(LoginId(Uuid::from_slice(rest).ok()?))),
            b'u' => {
                let (tenant, user) = codec::split_text(rest)?;
                Some(Subject::User(TenantId::new(tenant).ok()?, UserId::new(text(user)?).ok()?))
            }
            b'a' => Some(Subject::Tenant(TenantId::new(text(rest)?).ok()?)),
            _ => None,
        }
    };
    subject(key).ok_or_else(|| damage("a key that names nobody whose tokens could be denied"))
}

impl Row for Revocation {
    fn encode(&self) -> Bytes {
        codec::version(&StoredRevocation { since: self.since.0, until: self.until.0 }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredRevocation = codec::versioned(bytes)?;
        Ok(Self { since: Timestamp(stored.since), until: Timestamp(stored.until) })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredRevocation {
    since: i64,
    until: i64,
}

/// Under the server's own stream: before the key of every [`Exclusion`].
pub const EXCLUSIONS: &[u8] = b"x";

/// Under the server's own stream: what keeps `user` out of `tenant`, an [`Exclusion`].
pub fn exclusion(tenant: &TenantId, user: &UserId) -> Bytes {
    let length = u8::try_from(tenant.as_str().len()).expect("a tenant id has at most 64 bytes");
    [EXCLUSIONS, &[length], tenant.as_str().as_bytes(), user.as_str().as_bytes()].concat().into()
}

/// Of whom [`exclusion`] made the key.
pub fn excluded_of(key: &[u8]) -> Result<(TenantId, UserId), StoreError> {
    let excluded = |key: &[u8]| {
        let (tenant, user) = codec::split_text(key.strip_prefix(EXCLUSIONS)?)?;
        Some((TenantId::new(tenant).ok()?, UserId::new(std::str::from_utf8(user).ok()?).ok()?))
    };
    excluded(key).ok_or_else(|| damage("a key that names nobody who could be excluded"))
}

impl Row for Exclusion {
    fn encode(&self) -> Bytes {
        let ban = self.ban.as_ref().map(|ban| StoredTenantBan {
            by: ban.by.as_str(),
            at: ban.at.0,
            rank: ban.rank.map(Into::into),
            until: ban.until.map(|until| until.0),
            reason: ban.reason.as_ref().map(Name::as_str),
        });
        codec::version(&StoredExclusion { disabled: self.disabled, ban }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let StoredExclusion { disabled, ban } = codec::versioned(bytes)?;
        let ban = ban.map(|StoredTenantBan { by, at, rank, until, reason }| {
            let (by, reason) = (codec::user(by)?, codec::name(reason)?);
            Ok(TenantBan { by, at: Timestamp(at), rank: rank.map(Into::into), until: until.map(Timestamp), reason })
        });
        Ok(Self { disabled, ban: ban.transpose()? })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredExclusion<'a> {
    disabled: bool,
    #[serde(borrow)]
    ban: Option<StoredTenantBan<'a>>,
}

#[derive(Serialize, Deserialize)]
struct StoredTenantBan<'a> {
    #[serde(borrow)]
    by: &'a str,
    at: i64,
    rank: Option<accounts::StoredRank>,
    until: Option<i64>,
    reason: Option<&'a str>,
}
