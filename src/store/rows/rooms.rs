//! The rows of a room: what it is, who is in it, invited, banned or muted, with which rights, and how far each has got.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Row, joined};
use crate::domain::inbox::Reached;
use crate::domain::policy::Role;
use crate::domain::room::{Ban, Header, Member, Mute, Settings as RoomSettings};
use crate::domain::{Alias, Capabilities, Name, Num, RecordId, Rights, RoomId, Rules, Timestamp, UserId};
use crate::store::StoreError;
use crate::store::codec::{self, Id, StoredHistory, StoredKind, StoredReached, StoredRole, StoredRules};

/// Under a room's stream: what the room is, a [`Header`].
pub const HEADER: &[u8] = b"h";

impl Row for Header {
    fn encode(&self) -> Bytes {
        let stored = StoredHeader {
            kind: self.kind.into(),
            num: self.num.0,
            alias: self.alias.as_ref().map(Alias::as_str),
            name: self.settings.name.as_ref().map(Name::as_str),
            created_at: self.created_at.0,
            archived: self.archived,
            edit_history: self.settings.edit_history,
            slow_mode_ms: self.settings.slow_mode_ms,
            history: self.settings.history.into(),
            keep_ms: self.settings.keep_ms,
            trimmed: Reached(self.trimmed).into(),
            audits: self.audits.map(|room| Id(room.0)),
            audited: self.audited,
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredHeader = codec::versioned(bytes)?;
        let Reached(trimmed) = stored.trimmed.into();
        Ok(Self {
            kind: stored.kind.into(),
            num: Num(stored.num),
            alias: codec::alias(stored.alias)?,
            created_at: Timestamp(stored.created_at),
            archived: stored.archived,
            trimmed,
            settings: RoomSettings {
                name: codec::name(stored.name)?,
                edit_history: stored.edit_history,
                slow_mode_ms: stored.slow_mode_ms,
                history: stored.history.into(),
                keep_ms: stored.keep_ms,
            },
            audits: stored.audits.map(|room| RoomId(room.0)),
            audited: stored.audited,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredHeader<'a> {
    kind: StoredKind,
    num: u64,
    #[serde(borrow)]
    alias: Option<&'a str>,
    name: Option<&'a str>,
    created_at: i64,
    archived: bool,
    /// Rows that were written before there was a choice have none.
    #[serde(default)]
    edit_history: bool,
    #[serde(default)]
    slow_mode_ms: u32,
    #[serde(default)]
    history: StoredHistory,
    #[serde(default)]
    keep_ms: u64,
    #[serde(default)]
    trimmed: StoredReached,
    #[serde(default)]
    audits: Option<Id>,
    #[serde(default)]
    audited: bool,
}

/// Under a room's stream: before the key of every [`Member`].
pub const MEMBERS: &[u8] = b"m";

/// Under a room's stream: the [`Member`] that `user` is.
pub fn member(user: &UserId) -> Bytes {
    joined(MEMBERS, user.as_str().as_bytes())
}

impl Row for Member {
    fn encode(&self) -> Bytes {
        codec::version(&StoredMember { role: self.role.into(), joined: Id(self.joined.0) }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredMember = codec::versioned(bytes)?;
        Ok(Self { role: stored.role.into(), joined: RecordId(stored.joined.0) })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredMember {
    role: StoredRole,
    joined: Id,
}

/// Under a room's stream: before the key of every invitation, a [`Role`].
pub const INVITATIONS: &[u8] = b"i";

/// Under a room's stream: the [`Role`] with which `user` is invited.
pub fn invitation(user: &UserId) -> Bytes {
    joined(INVITATIONS, user.as_str().as_bytes())
}

/// An invitation: the role that the invited will have.
impl Row for Role {
    fn encode(&self) -> Bytes {
        codec::version(&StoredRole::from(*self)).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned::<StoredRole>(bytes).map(Self::from)
    }
}

/// Under a room's stream: before the key of every [`Rights`].
pub const RIGHTS: &[u8] = b"g";

/// Under a room's stream: the [`Rights`] of `user`.
pub fn rights(user: &UserId) -> Bytes {
    joined(RIGHTS, user.as_str().as_bytes())
}

impl Row for Rights {
    fn encode(&self) -> Bytes {
        codec::version(&StoredRights { allow: self.allow.bits(), deny: self.deny.bits() }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let StoredRights { allow, deny } = codec::versioned(bytes)?;
        Ok(Self { allow: Capabilities::of_bits(allow), deny: Capabilities::of_bits(deny) })
    }
}

/// As [`Capabilities::bits`].
#[derive(Serialize, Deserialize)]
struct StoredRights {
    allow: u32,
    deny: u32,
}

/// Under a room's stream: before the key of every [`Ban`].
pub const BANS: &[u8] = b"b";

/// Under a room's stream: the [`Ban`] of `user`.
pub fn ban(user: &UserId) -> Bytes {
    joined(BANS, user.as_str().as_bytes())
}

impl Row for Ban {
    fn encode(&self) -> Bytes {
        let (until, reason) = (self.until.map(|until| until.0), self.reason.as_ref().map(Name::as_str));
        codec::version(&StoredBan { by: self.by.as_str(), at: self.at.0, until, reason, rank: self.rank.into() }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let StoredBan { by, at, until, reason, rank } = codec::versioned(bytes)?;
        let (by, reason) = (codec::user(by)?, codec::name(reason)?);
        Ok(Self { by, at: Timestamp(at), rank: rank.into(), until: until.map(Timestamp), reason })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredBan<'a> {
    #[serde(borrow)]
    by: &'a str,
    at: i64,
    until: Option<i64>,
    reason: Option<&'a str>,
    /// Rows that were written before it was asked for have none: anybody takes them back.
    #[serde(default)]
    rank: StoredRole,
}

/// Under a room's stream: before the key of every [`Mute`].
pub const MUTES: &[u8] = b"u";

/// Under a room's stream: the [`Mute`] of `user`.
pub fn mute(user: &UserId) -> Bytes {
    joined(MUTES, user.as_str().as_bytes())
}

impl Row for Mute {
    fn encode(&self) -> Bytes {
        let (by, until) = (Some(self.by.as_str()), self.until.map(|until| until.0));
        codec::version(&StoredMute { until, by, at: self.at.0, rank: self.rank.into() }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let StoredMute { until, by, at, rank } = codec::versioned(bytes)?;
        let by = by.map_or_else(|| Ok(UserId::operator()), codec::user)?;
        Ok(Self { by, at: Timestamp(at), rank: rank.into(), until: until.map(Timestamp) })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredMute<'a> {
    until: Option<i64>,
    /// Rows that were written before mutes were listed have none of these.
    #[serde(borrow, default)]
    by: Option<&'a str>,
    #[serde(default)]
    at: i64,
    #[serde(default)]
    rank: StoredRole,
}

/// Under a room's stream: what may not be said, its [`Rules`].
pub const RULES: &[u8] = b"w";

impl Row for Rules {
    fn encode(&self) -> Bytes {
        codec::version(&StoredRules::from(self)).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned::<StoredRules>(bytes)?.rules()
    }
}

/// Under a room's stream: before the key of how far each user has got, a [`Progress`].
pub const PROGRESS: &[u8] = b"q";

/// How far a user has got in a room, as others may know: what follows from the entry in the user's inbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    pub delivered: Reached,
    pub read: Reached,
}

/// Under a room's stream: the [`Progress`] of `user`. Written by the user's inbox.
pub fn progress(user: &UserId) -> Bytes {
    joined(PROGRESS, user.as_str().as_bytes())
}

impl Row for Progress {
    fn encode(&self) -> Bytes {
        codec::version(&(StoredReached::from(self.delivered), StoredReached::from(self.read))).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let (delivered, read): (StoredReached, StoredReached) = codec::versioned(bytes)?;
        Ok(Self { delivered: delivered.into(), read: read.into() })
    }
}
