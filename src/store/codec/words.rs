//! The domain's words as they are stored: ids, names, and those that stand for one of a few.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::damage;
use crate::domain::inbox::Reached;
use crate::domain::policy::History;
use crate::domain::rules::Links;
use crate::domain::{
    AccountId, Alias, Audience, Emoji, Epoch, FileName, MediaType, Name, Position, Role, RoomKind, Rules, Seq, UserId,
};
use crate::store::StoreError;

/// A uuid as sixteen raw bytes.
#[derive(Clone, Copy)]
pub struct Id(pub Uuid);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_bytes())
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sixteen;

        impl Visitor<'_> for Sixteen {
            type Value = Id;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("sixteen bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Id, E> {
                Uuid::from_slice(bytes).map(Id).map_err(E::custom)
            }
        }

        deserializer.deserialize_bytes(Sixteen)
    }
}

pub fn user(text: &str) -> Result<UserId, StoreError> {
    UserId::new(text).map_err(damage)
}

pub fn account(text: &str) -> Result<AccountId, StoreError> {
    AccountId::new(text).map_err(damage)
}

pub fn emoji(text: &str) -> Result<Emoji, StoreError> {
    Emoji::new(text).map_err(damage)
}

pub fn file_name(text: &str) -> Result<FileName, StoreError> {
    FileName::new(text).map_err(damage)
}

pub fn media_type(text: &str) -> Result<MediaType, StoreError> {
    MediaType::new(text).map_err(damage)
}

pub fn alias(text: Option<&str>) -> Result<Option<Alias>, StoreError> {
    text.map(|text| Alias::forced(text).map_err(damage)).transpose()
}

pub fn name(text: Option<&str>) -> Result<Option<Name>, StoreError> {
    text.map(|text| Name::new(text).map_err(damage)).transpose()
}

/// Epoch and seq.
#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub struct StoredReached(u64, u64);

impl From<Reached> for StoredReached {
    fn from(Reached(position): Reached) -> Self {
        Self(position.epoch.0, position.seq.0)
    }
}

impl From<StoredReached> for Reached {
    fn from(StoredReached(epoch, seq): StoredReached) -> Self {
        Self(Position { epoch: Epoch(epoch), seq: Seq(seq) })
    }
}

#[derive(Serialize, Deserialize, Clone, Copy)]
pub enum StoredKind {
    #[serde(rename = "c")]
    Channel,
    #[serde(rename = "g")]
    Group,
    #[serde(rename = "d")]
    Direct,
    #[serde(rename = "b")]
    Box,
    #[serde(rename = "v")]
    Canvas,
    #[serde(rename = "k")]
    Collection,
    #[serde(rename = "a")]
    Audit,
}

impl From<RoomKind> for StoredKind {
    fn from(kind: RoomKind) -> Self {
        match kind {
            RoomKind::Channel => Self::Channel,
            RoomKind::Group => Self::Group,
            RoomKind::Direct => Self::Direct,
            RoomKind::Box => Self::Box,
            RoomKind::Canvas => Self::Canvas,
            RoomKind::Collection => Self::Collection,
            RoomKind::Audit => Self::Audit,
        }
    }
}

impl From<StoredKind> for RoomKind {
    fn from(kind: StoredKind) -> Self {
        match kind {
            StoredKind::Channel => Self::Channel,
            StoredKind::Group => Self::Group,
            StoredKind::Direct => Self::Direct,
            StoredKind::Box => Self::Box,
            StoredKind::Canvas => Self::Canvas,
            StoredKind::Collection => Self::Collection,
            StoredKind::Audit => Self::Audit,
        }
    }
}

#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub enum StoredHistory {
    #[default]
    #[serde(rename = "a")]
    All,
    #[serde(rename = "j")]
    FromJoin,
}

impl From<History> for StoredHistory {
    fn from(history: History) -> Self {
        match history {
            History::All => Self::All,
            History::FromJoin => Self::FromJoin,
        }
    }
}

impl From<StoredHistory> for History {
    fn from(history: StoredHistory) -> Self {
        match history {
            StoredHistory::All => Self::All,
            StoredHistory::FromJoin => Self::FromJoin,
        }
    }
}

/// What may not be said, in an event and in a row.
#[derive(Serialize, Deserialize)]
pub struct StoredRules<'a> {
    #[serde(borrow)]
    words: Vec<&'a str>,
    links: StoredLinks,
    hosts: Vec<&'a str>,
}

impl<'a> From<&'a Rules> for StoredRules<'a> {
    fn from(rules: &'a Rules) -> Self {
        let texts = |texts: &'a [String]| texts.iter().map(String::as_str).collect();
        Self { words: texts(rules.words()), links: rules.links().into(), hosts: texts(rules.hosts()) }
    }
}

impl StoredRules<'_> {
    pub fn rules(self) -> Result<Rules, StoreError> {
        let texts = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
        let rules = Rules::new(texts(self.words), self.links.into(), texts(self.hosts));
        rules.map_err(|error| StoreError::Damaged(error.to_string()))
    }
}

#[derive(Serialize, Deserialize, Clone, Copy)]
enum StoredLinks {
    #[serde(rename = "a")]
    Any,
    #[serde(rename = "n")]
    None,
    #[serde(rename = "l")]
    Listed,
}

impl From<Links> for StoredLinks {
    fn from(links: Links) -> Self {
        match links {
            Links::Any => Self::Any,
            Links::None => Self::None,
            Links::Listed => Self::Listed,
        }
    }
}

impl From<StoredLinks> for Links {
    fn from(links: StoredLinks) -> Self {
        match links {
            StoredLinks::Any => Self::Any,
            StoredLinks::None => Self::None,
            StoredLinks::Listed => Self::Listed,
        }
    }
}

#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub enum StoredAudience {
    #[default]
    #[serde(rename = "n")]
    Nobody,
    #[serde(rename = "o")]
    Owners,
    #[serde(rename = "e")]
    Everybody,
}

impl From<Audience> for StoredAudience {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::Nobody => Self::Nobody,
            Audience::Owners => Self::Owners,
            Audience::Everybody => Self::Everybody,
        }
    }
}

impl From<StoredAudience> for Audience {
    fn from(audience: StoredAudience) -> Self {
        match audience {
            StoredAudience::Nobody => Self::Nobody,
            StoredAudience::Owners => Self::Owners,
            StoredAudience::Everybody => Self::Everybody,
        }
    }
}

#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub enum StoredRole {
    #[default]
    #[serde(rename = "v")]
    Viewer,
    #[serde(rename = "g")]
    Guest,
    #[serde(rename = "m")]
    Member,
    #[serde(rename = "a")]
    Admin,
    #[serde(rename = "o")]
    Owner,
}

impl From<Role> for StoredRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Guest => Self::Guest,
            Role::Member => Self::Member,
            Role::Admin => Self::Admin,
            Role::Owner => Self::Owner,
        }
    }
}

impl From<StoredRole> for Role {
    fn from(role: StoredRole) -> Self {
        match role {
            StoredRole::Viewer => Self::Viewer,
            StoredRole::Guest => Self::Guest,
            StoredRole::Member => Self::Member,
            StoredRole::Admin => Self::Admin,
            StoredRole::Owner => Self::Owner,
        }
    }
}
