//! The rows of who has registered with an address for mail, beside those of accounts.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Row, codec, joined};
use crate::domain::account::{Person, PersonRole};
use crate::domain::{AccountId, Mail, UserId};
use crate::store::StoreError;
use crate::store::codec::damage;

const MAILS: &[u8] = b"m";
const PEOPLE: &[u8] = b"p";
const MATES: &[u8] = b"g";

/// The [`UserId`] of who has registered with this address.
pub fn by_mail(mail: &Mail) -> Bytes {
    joined(MAILS, mail.as_str().as_bytes())
}

/// The [`Person`] that `user` is.
pub fn person(user: &UserId) -> Bytes {
    joined(PEOPLE, user.as_str().as_bytes())
}

/// Before the keys of who is of `account`.
pub fn mates(account: &AccountId) -> Bytes {
    let length = u8::try_from(account.as_str().len()).expect("the id of an account has at most 128 bytes");
    [MATES, &[length], account.as_str().as_bytes()].concat().into()
}

/// A row without a value that says that `user` is of `account`.
pub fn mate(account: &AccountId, user: &UserId) -> Bytes {
    joined(&mates(account), user.as_str().as_bytes())
}

/// Who that is, by the key.
pub fn mate_of(account: &AccountId, key: &[u8]) -> Result<UserId, StoreError> {
    let user = key.strip_prefix(&*mates(account)).and_then(|user| std::str::from_utf8(user).ok());
    codec::user(user.ok_or_else(|| damage("a key that names nobody of an account"))?)
}

impl Row for UserId {
    fn encode(&self) -> Bytes {
        codec::version(&self.as_str()).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::user(codec::versioned(bytes)?)
    }
}

impl Row for Person {
    fn encode(&self) -> Bytes {
        let role = match self.role {
            PersonRole::Added => 0,
            PersonRole::First => 1,
            PersonRole::Root => 2,
        };
        codec::version(&Stored { mail: self.mail.as_str(), account: self.account.as_str(), role }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let Stored { mail, account, role } = codec::versioned(bytes)?;
        let role = match role {
            0 => PersonRole::Added,
            1 => PersonRole::First,
            2 => PersonRole::Root,
            _ => return Err(damage("somebody who is nothing to an account")),
        };
        let mail = Mail::new(mail).map_err(|_| damage("an address that is none"))?;
        Ok(Self { mail, account: codec::account(account)?, role })
    }
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    mail: &'a str,
    account: &'a str,
    role: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (user, account) = (UserId::new("7").unwrap(), AccountId::new("acme").unwrap());
        assert_eq!(UserId::decode(&user.encode()), Ok(user.clone()));
        assert_eq!(mate_of(&account, &mate(&account, &user)), Ok(user.clone()));
        assert!(!mate(&AccountId::new("acme2").unwrap(), &user).starts_with(&mates(&account)));
        for role in [PersonRole::Added, PersonRole::First, PersonRole::Root] {
            let mail = Mail::new("ann@example.org").unwrap();
            let person = Person { mail, account: account.clone(), role };
            assert_eq!(Person::decode(&person.encode()), Ok(person));
        }
    }
}
