//! The rows of a tenant's accounts: who may log in, what is logged in, who has been invited.
//!
//! All lie under [`StreamId::Accounts`](crate::domain::StreamId::Accounts), without records.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Row, codec, joined};
use crate::domain::account::{Account, Digest, Invite, Login, Rank, Reset};
use crate::domain::profile::ContactHash;
use crate::domain::{LoginId, Name, Timestamp, UserId};
use crate::store::StoreError;
use crate::store::codec::damage;

/// Before the key of every [`Account`].
pub const ACCOUNTS: &[u8] = b"a";

/// Before the key of every [`Login`].
const LOGINS: &[u8] = b"l";

/// Before the key of every login of each user.
const LOGINS_OF: &[u8] = b"o";

/// Before the key of every [`Invite`].
pub const INVITES: &[u8] = b"i";

/// What is written where a code was tried in vain of an account that is not there, so that it takes as long: a
/// [`Timestamp`].
pub const TRIED: &[u8] = b"t";

/// Before the key of every user by every contact.
const CONTACTS: &[u8] = b"c";

/// Before the keys of the users of this contact.
pub fn contacts(hash: ContactHash) -> Bytes {
    joined(CONTACTS, &hash.0)
}

/// A row without a value that says that `user` can be reached by this contact. The user's own stream writes it.
pub fn contact(hash: ContactHash, user: &UserId) -> Bytes {
    joined(&contacts(hash), user.as_str().as_bytes())
}

/// Whose contact [`contact`] made the key of.
pub fn contact_of(key: &[u8]) -> Result<UserId, StoreError> {
    let user = key.get(CONTACTS.len() + 32..).and_then(|user| std::str::from_utf8(user).ok());
    codec::user(user.ok_or_else(|| damage("a key that names nobody's contact"))?)
}

/// The [`Account`] of `user`.
pub fn account(user: &UserId) -> Bytes {
    joined(ACCOUNTS, user.as_str().as_bytes())
}

/// Whose key [`account`] made.
pub fn user_of(key: &[u8]) -> Result<UserId, StoreError> {
    let user = key.strip_prefix(ACCOUNTS).and_then(|user| std::str::from_utf8(user).ok());
    codec::user(user.ok_or_else(|| damage("a key that names no account"))?)
}

/// The [`Login`] of this id.
pub fn login(id: LoginId) -> Bytes {
    joined(LOGINS, id.0.as_bytes())
}

/// Before the key of every login of `user`.
pub fn logins_of(user: &UserId) -> Bytes {
    // No user id is the beginning of another behind its length.
    let bytes = user.as_str().as_bytes();
    let length = u8::try_from(bytes.len()).expect("a user id has at most 128 bytes");
    [LOGINS_OF, &[length], bytes].concat().into()
}

/// A row without a value that says that `id` is a login of `user`.
pub fn login_of(user: &UserId, id: LoginId) -> Bytes {
    joined(&logins_of(user), id.0.as_bytes())
}

/// Of which login [`login_of`] made the key.
pub fn login_id_of(key: &[u8]) -> Result<LoginId, StoreError> {
    let id = key.last_chunk::<16>().ok_or_else(|| damage("a key that names no login"))?;
    Ok(LoginId(Uuid::from_bytes(*id)))
}

/// The [`Invite`] of this id.
pub fn invite(id: Uuid) -> Bytes {
    joined(INVITES, id.as_bytes())
}

/// Of which invite [`invite`] made the key.
pub fn invite_id_of(key: &[u8]) -> Result<Uuid, StoreError> {
    let id = key.strip_prefix(INVITES).and_then(|id| Uuid::from_slice(id).ok());
    id.ok_or_else(|| damage("a key that names no invite"))
}

impl Row for Account {
    fn encode(&self) -> Bytes {
        let stored = StoredAccount {
            rank: self.rank.into(),
            disabled: self.disabled,
            since: self.since.0,
            password: self.password.as_deref(),
            reset: self.reset.as_ref().map(|reset| (reset.code, reset.until.0, reset.tries_left)),
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredAccount = codec::versioned(bytes)?;
        let reset = stored.reset.map(|(code, until, tries_left)| Reset { code, until: Timestamp(until), tries_left });
        Ok(Self {
            rank: stored.rank.into(),
            disabled: stored.disabled,
            since: Timestamp(stored.since),
            password: stored.password.map(str::to_owned),
            reset,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredAccount<'a> {
    rank: StoredRank,
    disabled: bool,
    since: i64,
    #[serde(borrow)]
    password: Option<&'a str>,
    reset: Option<(Digest, i64, u8)>,
}

impl Row for Login {
    fn encode(&self) -> Bytes {
        let stored = StoredLogin {
            user: self.user.as_str(),
            device: self.device.as_ref().map(Name::as_str),
            since: self.since.0,
            used: self.used.0,
            tokens_until: self.tokens_until.0,
            family: self.family,
            latest: self.latest,
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredLogin = codec::versioned(bytes)?;
        Ok(Self {
            user: codec::user(stored.user)?,
            device: codec::name(stored.device)?,
            since: Timestamp(stored.since),
            used: Timestamp(stored.used),
            tokens_until: Timestamp(stored.tokens_until),
            family: stored.family,
            latest: stored.latest,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredLogin<'a> {
    #[serde(borrow)]
    user: &'a str,
    device: Option<&'a str>,
    since: i64,
    used: i64,
    tokens_until: i64,
    family: Digest,
    latest: Digest,
}

impl Row for Invite {
    fn encode(&self) -> Bytes {
        let stored = StoredInvite {
            code: self.code,
            by: self.by.as_str(),
            rank: self.rank.into(),
            uses_left: self.uses_left,
            made: self.made.0,
            until: self.until.0,
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredInvite = codec::versioned(bytes)?;
        Ok(Self {
            code: stored.code,
            by: codec::user(stored.by)?,
            rank: stored.rank.into(),
            uses_left: stored.uses_left,
            made: Timestamp(stored.made),
            until: Timestamp(stored.until),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredInvite<'a> {
    code: Digest,
    #[serde(borrow)]
    by: &'a str,
    rank: StoredRank,
    uses_left: u32,
    made: i64,
    until: i64,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub(in crate::store) enum StoredRank {
    #[serde(rename = "m")]
    Member,
    #[serde(rename = "a")]
    Admin,
    #[serde(rename = "o")]
    Owner,
}

impl From<Rank> for StoredRank {
    fn from(rank: Rank) -> Self {
        match rank {
            Rank::Member => Self::Member,
            Rank::Admin => Self::Admin,
            Rank::Owner => Self::Owner,
        }
    }
}

impl From<StoredRank> for Rank {
    fn from(rank: StoredRank) -> Self {
        match rank {
            StoredRank::Member => Self::Member,
            StoredRank::Admin => Self::Admin,
            StoredRank::Owner => Self::Owner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Name;

    #[test]
    fn what_is_written_is_read() {
        let ann = UserId::new("ann").unwrap();
        for rank in Rank::ALL {
            let account = Account::new(rank, Some("$argon2id$".to_owned()), Timestamp(7));
            let account = Account { disabled: true, ..account.to_reset([5; 32], Timestamp(9)) };
            assert!(Account::decode(&account.encode()).as_ref() == Ok(&account));
            let invite = Invite::new([6; 32], ann.clone(), rank, 3, Timestamp(7), 1_000);
            assert!(Invite::decode(&invite.encode()).as_ref() == Ok(&invite));
        }
        let login = Login {
            user: ann.clone(),
            device: Some(Name::new("phone").unwrap()),
            since: Timestamp(1),
            used: Timestamp(2),
            tokens_until: Timestamp(3),
            family: [3; 32],
            latest: [4; 32],
        };
        assert!(Login::decode(&login.encode()).as_ref() == Ok(&login));
        let id = LoginId(Uuid::from_u128(77));
        assert_eq!(login_id_of(&login_of(&ann, id)), Ok(id));
        assert_eq!(user_of(&account(&ann)), Ok(ann));
        assert_eq!(invite_id_of(&invite(id.0)), Ok(id.0));
        assert_eq!(
            contact_of(&contact(ContactHash([b'c'; 32]), &UserId::new("ann").unwrap())).unwrap().as_str(),
            "ann"
        );
    }

    #[test]
    fn nobodys_logins_are_among_anothers() {
        let [ann, anna] = ["ann", "anna"].map(|user| UserId::new(user).unwrap());
        assert!(!login_of(&anna, LoginId(Uuid::nil())).starts_with(&logins_of(&ann)));
    }
}
