//! The domain's values as text: ids, names, and the words that stand for one of a few.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::domain::ids::IdError;
use crate::domain::policy::History;
use crate::domain::profile::{AVATAR_BYTES_MAX, Audience, Avatar, ContactHash, Email, Telephone};
use crate::domain::rules::Links;
use crate::domain::{
    Alias, Capability, ClientId, Emoji, FileId, Name, Num, Presence, RecordId, Role, RoomId, RoomKind, RoomName, UserId,
};
use crate::wire::Activity;
use crate::wire::native::content::Text;

/// A text that is the name of one of the domain's values.
pub struct Parsed<T>(pub T);

pub trait FromText: Sized {
    type Error: fmt::Display;

    fn from_text(text: &str) -> Result<Self, Self::Error>;
}

impl<'de, T: FromText> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        T::from_text(&text).map(Self).map_err(D::Error::custom)
    }
}

macro_rules! from_text {
    ($($name:ident)*) => {$(
        impl FromText for $name {
            type Error = IdError;

            fn from_text(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
    )*};
}

from_text! { UserId ClientId Emoji Name Alias }

impl FromText for Links {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or("`links` has to be any, none or listed")
    }
}

impl FromText for RecordId {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| "`message` has to be the id of a record")
    }
}

impl FromText for FileId {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| "an attachment has to be the id of a file")
    }
}

impl FromText for ContactHash {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        Self::parse(text).ok_or("a hash has to be 64 hexadecimal digits")
    }
}

impl FromText for RoomId {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| "`after` has to be the uuid of a room")
    }
}

impl FromText for Activity {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        Self::parse(text).ok_or("`after` has to be that of an answer")
    }
}

impl FromText for Role {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or("a role is one of viewer, guest, member, admin, owner")
    }
}

impl FromText for Capability {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        let known = Self::ALL.into_iter().find(|capability| capability.as_str() == text);
        known.ok_or("there is no capability of this name; `room` lists those that you have")
    }
}

impl FromText for History {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        let known = Self::ALL.into_iter().find(|history| history.as_str() == text);
        known.ok_or("a history is one of all, join")
    }
}

impl FromText for Audience {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        let known = Self::ALL.into_iter().find(|audience| audience.as_str() == text);
        known.ok_or("`contacts` is one of nobody, owners, everybody")
    }
}

impl FromText for Email {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl FromText for Telephone {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl FromText for Avatar {
    type Error = String;

    /// Never one that a browser would carry out.
    fn from_text(text: &str) -> Result<Self, Self::Error> {
        if let Some(file) = text.strip_prefix(AVATAR_FILE) {
            return file.parse().map(|id| Self::File(FileId(id))).map_err(|_| "there is no such file".to_owned());
        }
        let web = text.starts_with("https://") || text.starts_with("http://");
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if web && plain && text.len() <= AVATAR_BYTES_MAX {
            Ok(Self::Address(text.into()))
        } else {
            Err(format!(
                "an avatar is the address of a picture, https://..., http://... or {AVATAR_FILE}ID, of up to \
                 {AVATAR_BYTES_MAX} bytes"
            ))
        }
    }
}

impl FromText for RoomKind {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        let known = Self::MADE_BY_USERS.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or("a kind is one of channel, group, direct, box, canvas")
    }
}

/// A room by its uuid, its number or its alias; the number as a number or as text.
pub struct RoomText(pub RoomName);

impl<'de> Deserialize<'de> for RoomText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumOrText;

        impl Visitor<'_> for NumOrText {
            type Value = RoomName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a room: its uuid, its number or its alias")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<RoomName, E> {
                Ok(RoomName::Num(Num(value)))
            }

            /// MessagePack libraries may write a positive number as a signed one.
            fn visit_i64<E: Error>(self, value: i64) -> Result<RoomName, E> {
                let value = u64::try_from(value).map_err(|_| E::custom("a room's number is not negative"))?;
                self.visit_u64(value)
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<RoomName, E> {
                RoomName::parse(value).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(NumOrText).map(Self)
    }
}

/// What a connection says of its user; `offline` is that it does not count.
pub struct Declared(pub Option<Presence>);

impl FromText for Declared {
    type Error = &'static str;

    fn from_text(text: &str) -> Result<Self, Self::Error> {
        let known = Presence::ALL.into_iter().find(|presence| presence.as_str() == text);
        match known {
            None if text != "offline" => Err("`presence` is one of online, away, offline"),
            said => Ok(Self(said)),
        }
    }
}

/// Before the id of a file in the address of a picture that is one.
pub const AVATAR_FILE: &str = "/v1/files/";
