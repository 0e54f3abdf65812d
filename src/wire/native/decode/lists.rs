//! The lists in what clients send, each with its bound.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::notation::Object;
use super::values::Parsed;
use crate::domain::event::MENTIONS_MAX;
use crate::domain::file::ATTACHMENTS_MAX;
use crate::domain::room::MEMBERS_MAX;
use crate::domain::{FileId, Role, UserId};

/// `mentions` of a message: at most twice as many as there may be, since the same may be there again.
#[derive(Default)]
pub struct Mentioned(pub Vec<UserId>);

impl<'de> Deserialize<'de> for Mentioned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut users = Vec::new();
        each(deserializer, "a list of user ids", |Parsed(user)| {
            if users.len() >= 2 * MENTIONS_MAX {
                return Err("`mentions` has far more users than a message may mention");
            }
            users.push(user);
            Ok(())
        })?;
        Ok(Self(users))
    }
}

/// `attachments` of a message: one more than there may be tells that there are too many.
#[derive(Default)]
pub struct Files(pub Vec<FileId>);

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut files = Vec::new();
        each(deserializer, "a list of the ids of files", |Parsed(file)| {
            if files.len() <= ATTACHMENTS_MAX {
                files.push(file);
            }
            Ok(())
        })?;
        Ok(Self(files))
    }
}

/// `members` of a new room.
pub struct Invitees(pub Vec<(UserId, Role)>);

#[derive(Deserialize)]
struct Invitee {
    user: Parsed<UserId>,
    role: Option<Parsed<Role>>,
}

impl<'de> Deserialize<'de> for Invitees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = Vec::new();
        each(deserializer, "a list of members", |Object(Invitee { user, role })| {
            if members.len() >= MEMBERS_MAX {
                return Err("there are more members than a room may have");
            }
            members.push((user.0, role.map_or(Role::Member, |it| it.0)));
            Ok(())
        })?;
        Ok(Self(members))
    }
}

/// The most users that are asked for at once.
pub const USERS_MAX: usize = 100;

/// Users as a list, or as one text between commas, as a query has it.
pub struct UserList(pub Vec<UserId>);

impl<'de> Deserialize<'de> for UserList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Vec<UserId>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of user ids")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                let users = text.split(',').take(USERS_MAX + 1).map(|user| UserId::new(user).map_err(E::custom));
                few_enough(users.collect::<Result<_, _>>()?)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut users = Vec::new();
                while let Some(Parsed(user)) = seq.next_element()? {
                    users.push(user);
                    if users.len() > USERS_MAX {
                        break;
                    }
                }
                few_enough(users)
            }
        }

        fn few_enough<E: Error>(users: Vec<UserId>) -> Result<Vec<UserId>, E> {
            if (1..=USERS_MAX).contains(&users.len()) {
                Ok(users)
            } else {
                Err(E::custom(format!("`users` has to be 1 to {USERS_MAX} user ids")))
            }
        }

        deserializer.deserialize_any(List).map(Self)
    }
}

/// Hands the elements of a list, which is `expected`, to `take` one by one, until that refuses one. So a list grows with
/// what is there: the length that MessagePack announces is the client's word only.
fn each<'de, D, T, F>(deserializer: D, expected: &'static str, take: F) -> Result<(), D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
    F: FnMut(T) -> Result<(), &'static str>,
{
    deserializer.deserialize_any(Elements { expected, take, of: PhantomData })
}

struct Elements<T, F> {
    expected: &'static str,
    take: F,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), &'static str>> Visitor<'de> for Elements<T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element()? {
            (self.take)(element).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
